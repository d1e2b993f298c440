import { hashKey, matchKey } from './hash.js'

/** What an agent may do: join these pools (`*`: any). */
export interface AgentPrincipal {
  pools: string[]
}

/** Tells what an agent's key allows; undefined for a key that is none. Without configured keys anything goes. */
export function agentAuth(
  keys: { name: string; key: string }[],
): (key: string | undefined) => AgentPrincipal | undefined {
  const known = keys.map(({ name, key }) => ({ hash: hashKey(key), value: { pools: name.split('|') } }))
  return (key) => {
    if (known.length === 0) return { pools: ['*'] }
    return key === undefined ? undefined : matchKey(known, key)
  }
}

export const mayJoin = (principal: AgentPrincipal, pool: string): boolean =>
  principal.pools.includes('*') || principal.pools.includes(pool)
