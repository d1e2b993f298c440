import type { SessionId } from '../protocol/ids.js'
import { hashKey, matchKey } from './hash.js'
import type { Tokens } from './token.js'

/** What an agent may do: join these pools (`*`: any), or serve just this one session. */
export interface AgentPrincipal {
  pools: string[]
  session?: SessionId
}

/**
 * Tells what an agent's key or session token allows; undefined for one that is none. Without configured keys anything
 * goes.
 */
export function agentAuth(
  keys: { name: string; key: string }[],
  tokens?: Tokens,
): (key: string | undefined) => Promise<AgentPrincipal | undefined> {
  const known = keys.map(({ name, key }) => ({ hash: hashKey(key), value: { pools: name.split('|') } }))
  return async (key) => {
    const session = key === undefined ? undefined : await tokens?.verify('agent', key)
    if (session) return { pools: [], session }
    if (known.length === 0) return { pools: ['*'] }
    return key === undefined ? undefined : matchKey(known, key)
  }
}

export const mayJoin = (principal: AgentPrincipal, pool: string): boolean =>
  principal.pools.includes('*') || principal.pools.includes(pool)

/** Whether the agent may serve this session, which is of this pool; undefined: no such session (any more). */
export const mayServe = (principal: AgentPrincipal, session: SessionId, pool: string | undefined): boolean =>
  principal.session === undefined ? pool === undefined || mayJoin(principal, pool) : principal.session === session
