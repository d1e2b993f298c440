import { keyIdIn } from '../protocol/api-key.js'
import type { SessionId } from '../protocol/ids.js'
import { hashKey, matchKey } from './hash.js'
import type { Hold } from './hold.js'
import type { StoredKeys } from './stored-keys.js'
import type { Tokens } from './token.js'

/** What an agent may do: join these pools (`*`: any), or serve just this one session. */
export interface AgentPrincipal {
  pools: string[]
  session?: SessionId
  /** Id of the stored key that it showed. */
  keyId?: string
  /** Tells when that key is no longer good. */
  hold?: Hold
}

/** By what agents may come in: keys of the configuration (pools joined by `|`, and key), stored keys, session tokens. */
export interface AgentCredentials {
  keys: { name: string; key: string }[]
  stored?: StoredKeys
  tokens?: Tokens
}

/**
 * Tells what an agent's key or session token allows; undefined for one that is none. Without any kind of keys anything
 * goes. The given function throws `store_unavailable`.
 */
export function agentAuth({
  keys,
  stored,
  tokens,
}: AgentCredentials): (key: string | undefined) => Promise<AgentPrincipal | undefined> {
  const known = keys.map(({ name, key }) => ({ hash: hashKey(key), value: { pools: name.split('|') } }))
  const open = known.length === 0 && !stored
  return async (key) => {
    const session = key === undefined ? undefined : await tokens?.verify('agent', key)
    if (session) return { pools: [], session }
    if (open) return { pools: ['*'] }
    if (key === undefined) return undefined
    const principal = matchKey(known, key)
    if (principal) return principal
    const good = await stored?.verify('agent', key)
    return good && { pools: good.key.pools, keyId: good.key.id, hold: good.hold }
  }
}

/** The id of the stored key that a text claims to be: for the log, it proves nothing. */
export const claimedAgentKeyId = (key: string | undefined): string | undefined => keyIdIn(key ?? '')

export const mayJoin = (principal: AgentPrincipal, pool: string): boolean =>
  principal.pools.includes('*') || principal.pools.includes(pool)

/**
 * Whether the agent may serve this session, which is of this pool; undefined: no such session (any more). To whom not every
 * pool is open such a one is the same as one that is not theirs: else they could ask which there are.
 */
export const mayServe = (principal: AgentPrincipal, session: SessionId, pool: string | undefined): boolean =>
  principal.session === undefined ? mayJoin(principal, pool ?? '') : principal.session === session

/** What an agent's id is its own within, when it joins no pool: what it may serve. */
export const realmOf = ({ session, pools }: AgentPrincipal): string => session ?? [...pools].sort().join(',')
