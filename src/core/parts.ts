import type { Observe } from '../observe/events.js'
import type { Deadlines, OnAgentLoss } from '../store/turns.js'
import type { Store } from '../store/store.js'
import type { RedisClock } from './redis-clock.js'

/** What core is configured with. All times in ms. */
export interface CoreSettings {
  replica: string
  version: string
  queueLimit: number
  historyLimit: number
  maxAttempts: number
  onAgentLoss: OnAgentLoss
  agentWaitMs: number
  staleAfterMs: number
  agentSilentMs: number
  /** A tool call in progress excuses silence for so long. */
  toolLimitMs: number
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
}

/** A turn that waits for an agent is looked at again after this time, ms. */
export const LOOK_SOON_MS = 5000

export const deadlinesOf = (settings: CoreSettings, away: { awayUntil: number; awayForMs: number }): Deadlines => ({
  agentWaitMs: settings.agentWaitMs,
  staleAfterMs: settings.staleAfterMs,
  agentSilentMs: settings.agentSilentMs,
  maxAttempts: settings.maxAttempts,
  onAgentLoss: settings.onAgentLoss,
  awayUntil: away.awayUntil,
  awayForMs: away.awayForMs,
  // after an outage every agent may still be on its way back
  leasesCountFrom: away.awayUntil ? away.awayUntil + settings.leaseTtlMs + settings.agentGraceMs : 0,
})
