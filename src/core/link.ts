import type { CancelMessage, TurnMessage } from '../protocol/agent-wire.js'
import type { RequestId, SessionId } from '../protocol/ids.js'
import type { Claimant } from '../store/leases.js'
import type { Parts } from './parts.js'

/** The few things core asks of any agent connection. Each sends and returns; nothing here waits or throws. */
export interface AgentLink {
  readonly agent: string
  /** Unique per connection. */
  readonly connection: string
  readonly transport: string
  /** Which run of the agent this is, where it says so: over another connection the same one knows what it has in hand. */
  readonly run?: string
  /** When it came, ms of Redis time. */
  readonly since: number
  /** The pool the agent joined, or null when it serves named sessions only. */
  readonly pool: string | null
  /**
   * Within what an agent of named sessions has its id for itself: what its key or token opens. '' for agents of a pool, where
   * that is the pool. Only a namesake of the same realm is superseded, else any agent could push another's out.
   */
  readonly realm: string
  /** Whether the agent says of each turn that it has arrived; where it does not, sending is all that can be done. */
  readonly confirms: boolean
  /** The connection is being closed: what it says is still heard, what it is told may not arrive. */
  readonly ending?: boolean
  turn(message: TurnMessage): void
  /** Everything up to event `after` of this request is in the log. */
  ack(request: RequestId, after: number): void
  /** The log ends at `after`: send on from there. */
  resend(request: RequestId, after: number): void
  cancel(session: SessionId, request: RequestId, reason: CancelMessage['reason']): void
  /** The turn is past its deadline: ask the agent whether it is still at it. Only where the transport can. */
  ask?(session: SessionId, request: RequestId): void
  /**
   * Resolves when all that the agent has said is in the log or can not be written, within 2 s. Only for agents that do not
   * send again: what they said must not be dropped with their connection.
   */
  settle?(): Promise<void>
  /**
   * A client has answered a permission of this request. Comes again until the agent says that it is settled. Only where the
   * transport knows permissions.
   */
  answer?(session: SessionId, request: RequestId, permission: string, option: string): void
  /** Connect elsewhere; this replica is leaving. */
  move(): void
  /** Ends the connection so that the agent connects again, unless it was superseded or its key is no longer good. */
  close(why: 'unaccepted' | 'superseded' | 'drain' | 'revoked' | 'expired' | 'operator'): void
}

/** A connection as the lease of a session names it. */
export const claimantOf = (
  { agent, connection, transport, since }: AgentLink,
  { settings }: Pick<Parts, 'settings'>,
): Claimant => ({ agent, connection, replica: settings.replica, transport, since })
