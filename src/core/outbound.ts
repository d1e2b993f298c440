import type { InteractionId, SessionId } from '../protocol/ids.js'
import type { StoredInteraction } from '../store/turns.js'

/** A session that waits for an agent, told to the outside so that one may be started. */
export interface AgentWanted {
  pool: string
  session: SessionId
  interaction: InteractionId
  /** How many sessions wait in the same line. */
  waiting: number
  /** Any agent of the pool will do, or this session needs one of its own. */
  per: 'pool' | 'session'
}

/** What core tells the outside of its own accord; the webhooks door does it. */
export interface Outbound {
  /** Why this owner may not have the ends of turns posted to `url`, as a sentence; undefined: it may. */
  refusal(owner: string, url: string): string | undefined
  /**
   * Resolves once it is certain that the end of this turn will be posted to its webhook, once however often it is asked
   * for. Throws `store_unavailable`.
   */
  turnEnded(turn: StoredInteraction): Promise<void>
  /** Asks for an agent, unless that was done a moment ago by any replica. Sends and returns; never throws. */
  agentWanted(want: AgentWanted): void
}

/** Where nothing is configured nothing is told. */
export const SILENT: Outbound = {
  refusal: () => 'webhooks are not configured here; the operator sets WEBHOOK_SECRET',
  turnEnded: async () => {},
  agentWanted: () => {},
}
