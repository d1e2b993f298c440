import { ThroughlineError } from '../protocol/errors.js'
import { hashKey, matchKey } from './hash.js'

/** The owner of everything while no client keys are configured (then the gateway listens on loopback only). */
export const LOCAL_OWNER = 'local'

/**
 * Tells who a client is by its `Authorization: Bearer <key>` header. `keys`: owner and key; empty: everybody is
 * `local`. The given function throws `unauthorized`.
 */
export function clientAuth(keys: { name: string; key: string }[]): (authorization: string | undefined) => string {
  const known = keys.map(({ name, key }) => ({ hash: hashKey(key), value: name }))
  return (authorization) => {
    if (known.length === 0) return LOCAL_OWNER
    const key = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1]
    const owner = key === undefined ? undefined : matchKey(known, key)
    if (owner === undefined) throw new ThroughlineError('unauthorized')
    return owner
  }
}
