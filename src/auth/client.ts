import { keyIdIn } from '../protocol/api-key.js'
import { ThroughlineError } from '../protocol/errors.js'
import { hashKey, matchKey } from './hash.js'
import { holdUntil, type Hold } from './hold.js'
import type { VerifyJwt } from './jwt.js'
import type { StoredKeys } from './stored-keys.js'

/** The owner of everything while clients need no key (then the gateway listens on loopback only). */
export const LOCAL_OWNER = 'local'

/** Who a client is. */
export interface ClientPrincipal {
  owner: string
  /** Tells when what it came in by is no longer good; absent where that is for ever. */
  hold?: Hold
}

/** By what clients may come in: keys of the configuration (owner and key), stored keys, tokens of an issuer. */
export interface ClientCredentials {
  keys: { name: string; key: string }[]
  stored?: StoredKeys
  jwt?: VerifyJwt
}

/** What stands in `Authorization: Bearer …`. */
export const bearerOf = (authorization: string | undefined): string | undefined =>
  /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1]

/** The id of the stored key that a header claims to be: for the log, it proves nothing. */
export const claimedKeyId = (authorization: string | undefined): string | undefined =>
  keyIdIn(bearerOf(authorization) ?? '')

/**
 * Tells who a client is by its `Authorization: Bearer <key or JWT>` header; without any kind of credentials everybody is
 * `local`. The given function throws `unauthorized`, `store_unavailable` and `issuer_unavailable`.
 */
export function clientAuth({
  keys,
  stored,
  jwt,
}: ClientCredentials): (authorization: string | undefined) => Promise<ClientPrincipal> {
  const known = keys.map(({ name, key }) => ({ hash: hashKey(key), value: name }))
  const open = known.length === 0 && !stored && !jwt
  return async (authorization) => {
    if (open) return { owner: LOCAL_OWNER }
    const text = bearerOf(authorization)
    if (text === undefined) throw new ThroughlineError('unauthorized')
    const owner = matchKey(known, text)
    if (owner !== undefined) return { owner }
    const good = await stored?.verify('client', text)
    if (good) return { owner: good.key.owner, hold: good.hold }
    const token = jwt && isJwt(text) ? await jwt(text) : undefined
    if (token) return { owner: token.owner, hold: holdUntil(token.expiresAt) }
    throw new ThroughlineError('unauthorized')
  }
}

const isJwt = (text: string): boolean => /^[\w-]+\.[\w-]+\.[\w-]*$/.test(text)
