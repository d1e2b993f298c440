import type { StopReason, Usage } from './events.js'
import type { Entry, Permission } from './fold.js'
import type { InteractionId, SessionId } from './ids.js'
import type { Status } from './interaction.js'

/** A conversation as its owner sees it. Times are ms since 1970 on Redis' clock. */
export interface Session {
  id: SessionId
  /** Empty until the first message, where the session was made without one. */
  pool: string
  title: string
  /** The agent's own id for the conversation, null before its first turn. */
  thread: string | null
  metadata: Record<string, string>
  createdAt: number
  updatedAt: number
  /** Turns begun so far, the running one included. */
  turns: number
  /** The turn in flight. */
  current: InteractionId | null
  /** Messages that wait for their turn. */
  queued: number
  /** Who holds the lease, if anybody does. */
  agent: { id: string; connected: boolean } | null
}

/** One turn as its owner sees it. */
export interface Interaction {
  id: InteractionId
  session: SessionId
  pool: string
  status: Status
  /** `agent`: a person wrote to the agent directly, past this gateway. */
  origin: 'client' | 'agent'
  input: string
  metadata: Record<string, string>
  /** Delivery attempts so far. */
  attempt: number
  createdAt: number
  startedAt: number | null
  firstOutputAt: number | null
  endedAt: number | null
  /** The answer so far; final once the status is. */
  output: Entry[]
  /** `output` as plain text. */
  text: string
  /** What the agent of a running turn has asked, oldest first; empty when the turn has ended. */
  permissions: Permission[]
  usage: Usage | null
  stopReason: StopReason | null
  error: { code: string; message: string } | null
  /** Number of the last event in the log. */
  tip: number
}
