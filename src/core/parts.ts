import type { Observe } from '../observe/events.js'
import type { Policy, PoolPolicies } from '../protocol/policy.js'
import type { Deadlines } from '../store/turns.js'
import type { Store } from '../store/store.js'
import type { Outbound } from './outbound.js'
import type { RedisClock } from './redis-clock.js'

/** What core is configured with. All times in ms. */
export interface CoreSettings {
  replica: string
  version: string
  /** How turns are treated where a pool has no say of its own; ask `policyOf`. */
  policy: Policy
  poolPolicies: PoolPolicies
  historyLimit: number
  agentGraceMs: number
  leaseTtlMs: number
  acceptMs: number
  sweepEveryMs: number
  idempotencyTtlMs: number
  liveOutageMs: number
  pools: string[]
}

/** What every verb of core works with. */
export interface Parts {
  store: Store
  observe: Observe
  settings: CoreSettings
  clock: RedisClock
  outbound: Outbound
}

/** A turn that waits for an agent is looked at again after this time, ms. */
export const LOOK_SOON_MS = 5000

export const deadlinesOf = (
  settings: CoreSettings,
  policy: Policy,
  away: { awayUntil: number; awayForMs: number },
): Deadlines => ({
  agentWaitMs: policy.agentWaitMs,
  staleAfterMs: policy.staleAfterMs,
  agentSilentMs: policy.agentSilentMs,
  maxAttempts: policy.maxAttempts,
  onAgentLoss: policy.onAgentLoss,
  awayUntil: away.awayUntil,
  awayForMs: away.awayForMs,
  // after an outage every agent may still be on its way back
  leasesCountFrom: away.awayUntil ? away.awayUntil + settings.leaseTtlMs + settings.agentGraceMs : 0,
  agentGraceMs: settings.agentGraceMs,
})
