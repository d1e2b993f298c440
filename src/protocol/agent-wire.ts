import { z } from 'zod'
import { AgentEvent } from './events.js'
import { isInteractionId, isRequestId, isSessionId, type InteractionId, type RequestId, type SessionId } from './ids.js'

/**
 * The messages between the gateway and a native agent, over Socket.IO in namespace `/agents` (websocket transport).
 * The name of a message is the Socket.IO event, its one argument an object as below. Told for agent authors in
 * `docs/protocol.md`.
 */
export const AGENT_PROTOCOL = 1

/** Most events in one `events` message. */
export const MAX_BATCH_EVENTS = 1024

const SessionIdText = z.custom<SessionId>((v) => typeof v === 'string' && isSessionId(v), 'not a session id')
const InteractionIdText = z.custom<InteractionId>(
  (v) => typeof v === 'string' && isInteractionId(v),
  'not an interaction id',
)
const RequestIdText = z.custom<RequestId>((v) => typeof v === 'string' && isRequestId(v), 'not a request id')

export const PoolName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'a pool name is 1–64 letters, digits, dots, dashes or underscores')

/** What an agent may call itself. */
export const AGENT_NAME = /^[A-Za-z0-9._:-]{1,128}$/

/**
 * First message of a connection, and again after every reconnect (acknowledged with `Welcome` or `Refusal`).
 * With `pool` the agent takes any session of that pool, `capacity` at once; with `sessions` it serves just those, all at once.
 * `holding` are the turns it has in hand: they go on where they stopped.
 */
export const Hello = z
  .object({
    protocol: z.literal(AGENT_PROTOCOL),
    /** Stable over reconnects of one agent. A second connection with the same id supersedes the first. */
    agent: z.string().regex(AGENT_NAME, 'an agent id is 1–128 letters, digits, dots, dashes, colons or underscores'),
    /** New with each start of the agent: the `holding` of one that has it is all that it has ever begun and not ended. */
    run: z.string().regex(AGENT_NAME, 'a run is 1–128 letters, digits, dots, dashes, colons or underscores').optional(),
    pool: PoolName.optional(),
    capacity: z.int().min(0).max(10_000).default(1),
    sessions: z.array(SessionIdText).max(1000).default([]),
    /** `acked`: the last event of the request that was acknowledged, so that a loss in Redis is noticed. */
    holding: z
      .array(z.object({ session: SessionIdText, request: RequestIdText, acked: z.int().nonnegative().default(0) }))
      .max(10_000)
      .default([]),
  })
  .refine((hello) => (hello.pool === undefined) === hello.sessions.length > 0, 'name a pool or sessions, and not both')
export type Hello = z.infer<typeof Hello>

/** Answer to `Hello`. `resumed`: send on from event `after + 1`. `ended`: stop working on it, nobody waits for it. */
export interface Welcome {
  ok: true
  protocol: typeof AGENT_PROTOCOL
  replica: string
  resumed: { session: SessionId; request: RequestId; after: number }[]
  ended: { session: SessionId; request: RequestId }[]
  /** At most this many events, and bytes, may be unacknowledged per turn; wait for `ack` beyond it. */
  window: { events: number; bytes: number }
  /** Largest single event in bytes of JSON. */
  maxEventBytes: number
}

/** A `hello` that was not accepted. `retry` says whether to come again later; the connection is closed. */
export interface Refusal {
  ok: false
  code: 'invalid_hello' | 'unauthorized' | 'unsupported_protocol' | 'unavailable'
  message: string
  retry: boolean
}

/** Gateway → agent `turn`: please answer. Answer with `accepted`; the same request may come twice: accept it again. */
export interface TurnMessage {
  session: SessionId
  interaction: InteractionId
  request: RequestId
  attempt: number
  pool: string
  /** The agent's own id for the conversation, as it was last told; null in the first turn. */
  thread: string | null
  input: string
  metadata: Record<string, string>
  /** Absent, or `agent`: the agent began this turn by itself (only agents of editors do) and this only names it. */
  origin?: 'agent'
  /**
   * W3C Trace Context of this attempt: an agent that traces makes its spans below it. Absent where the gateway does not
   * trace and the client's message named no trace.
   */
  traceparent?: string
  tracestate?: string
}

/** Agent → gateway `accepted`: the turn has arrived. Unanswered turns are sent again, then given to another agent. */
export const Accepted = z.object({ request: RequestIdText })
export type Accepted = z.infer<typeof Accepted>

/**
 * Agent → gateway `events`: a batch, numbered per request from 1 by the agent; `first` is the number of the first.
 * An empty batch is a sign of life that moves the silence deadline. Keep what is sent until some time after its `ack`.
 */
export const Events = z.object({
  request: RequestIdText,
  first: z.int().positive(),
  events: z.array(AgentEvent).max(MAX_BATCH_EVENTS),
})
export type Events = z.infer<typeof Events>

/** Gateway → agent `ack`: everything up to `after` is in the log. */
export interface AckMessage {
  request: RequestId
  after: number
}

/** Gateway → agent `resend`: the log ends at `after` (Redis lost its tail, or a batch left a hole). Send on from there. */
export type ResendMessage = AckMessage

/** Gateway → agent `cancel`: nobody waits for this request any more. Stop; what is still sent is dropped. */
export interface CancelMessage {
  session: SessionId
  request: RequestId
  reason: 'cancelled' | 'ended' | 'superseded' | 'gone' | 'yielded'
}

/**
 * Gateway → agent `answer`: a client has chosen an option of a permission. Comes again until the agent has said
 * `permission.settled`; the first one counts.
 */
export interface AnswerMessage {
  session: SessionId
  request: RequestId
  permission: string
  option: string
}

/** Agent → gateway `settled`: the handler of this request has returned; its place is free. */
export const Settled = z.object({ request: RequestIdText })
export type Settled = z.infer<typeof Settled>

/** Agent → gateway `leave`: no more new turns, please; those in hand go on (acknowledged). */
export const Leave = z.object({})

/** Gateway → agent `move`: this replica is leaving. Connect again (any replica), then close this connection. */
export interface MoveMessage {
  reason: 'drain'
}

/**
 * Gateway → agent `notice`: a message of yours was not understood and was dropped; or, `superseded` and `unauthorized` (the
 * key was revoked or has expired), this connection is closed now.
 */
export interface NoticeMessage {
  code: 'invalid_message' | 'event_too_large' | 'superseded' | 'unauthorized'
  message: string
  request?: RequestId
}

export interface AgentToGateway {
  hello: (hello: z.input<typeof Hello>, answer: (reply: Welcome | Refusal) => void) => void
  accepted: (message: Accepted) => void
  events: (message: z.input<typeof Events>) => void
  settled: (message: Settled) => void
  leave: (message: Record<string, never>, answer: () => void) => void
}

export interface GatewayToAgent {
  turn: (message: TurnMessage) => void
  ack: (message: AckMessage) => void
  resend: (message: ResendMessage) => void
  cancel: (message: CancelMessage) => void
  answer: (message: AnswerMessage) => void
  move: (message: MoveMessage) => void
  notice: (message: NoticeMessage) => void
}

export { InteractionIdText, RequestIdText, SessionIdText }
