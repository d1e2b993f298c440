import type { LogEvent } from '../protocol/events.js'
import type { Turn } from '../protocol/fold.js'
import type { InteractionId, SessionId } from '../protocol/ids.js'
import type { Status } from '../protocol/interaction.js'
import type { Cursor } from '../protocol/sequence.js'
import type { Trail } from '../protocol/trail.js'
import type { Interaction, Session } from '../protocol/views.js'

export type { Interaction, Session } from '../protocol/views.js'

/**
 * What a follower gets: a run of consecutive events, or, where the log cannot be continued from the cursor (Redis lost
 * its tail, or the log has expired), the state as a whole. Ends by itself after the last event of the turn.
 */
export type Followed =
  | {
      type: 'events'
      events: LogEvent[]
      incarnation: string
      /** When the first of them was said, ms of Redis time; only of what was said while this follower was here. */
      heardAt?: number
    }
  | { type: 'snapshot'; turn: Turn; cursor: Cursor }

/** A position in the stream of a session: a turn of it and a cursor into its log; `null`: before the first turn. */
export interface SessionCursor {
  interaction: InteractionId | null
  cursor: Cursor
}

/** What a follower of a session gets: see `follow-session.ts`. */
export type SessionFollowed =
  (Followed & { interaction: InteractionId }) | { type: 'at'; at: SessionCursor } | { type: 'lost' }

/** Which turns of a session, oldest first unless `order` says otherwise; `after` names the last one that is known. */
export interface TurnsQuery {
  order?: 'asc' | 'desc'
  status?: Status
  after?: InteractionId
}

/** Which sessions of an owner. `active`: with a turn that runs or waits, or without; `metadata`: holds this pair. */
export interface SessionsQuery {
  pool?: string
  active?: boolean
  metadata?: readonly [key: string, value: string]
}

/** A message to a session, or to a new session of a pool. */
export interface NewMessage {
  text: string
  metadata?: Record<string, string>
  /** Cancel the turn in flight and go before all that wait; `threaded`: but let it be until its agent has a thread. */
  interrupt?: boolean | 'threaded'
  /** Kept with the turn for the door it came through, up to its body's size; see `Core.note`. */
  note?: string
  /** Nothing of the turn is kept after its end but what those need who wait for it (a minute). */
  ephemeral?: boolean
  /** The turn that must be the session's newest one; else `session_moved_on`. */
  follows?: InteractionId
  /** `pool`: what the session's pool must be, or will be where it has none yet. */
  to: { session: SessionId; pool?: string } | { pool: string; title?: string; metadata?: Record<string, string> }
  /** Where the end of the turn is to be posted; default: where the session says. */
  webhook?: string
  once?: Once
  /** By what its lines and spans are found. */
  trail?: Trail
}

/** How a POST is recognised when it comes again. */
export interface Once {
  /** `Idempotency-Key`, if the client sent one (kept IDEMPOTENCY_TTL_MS). */
  key?: string
  /** Method and path. */
  route: string
  /** The canonical body; compared by hash, never stored. */
  body: string
  /** Whether the client says that it is retrying (kept 10 minutes for POSTs without a key). */
  retry: boolean
}

export interface Submitted {
  session: SessionId
  interaction: InteractionId
  /** 0: it is this message's turn now; n: it is the n-th that waits. */
  queued: number
  /** Whether this message was known already and nothing new was stored. */
  replayed: boolean
  /** The pool of its session. */
  pool: string
  /** In ms. */
  createdAt: number
}

/**
 * What the doors may ask for. Every call takes the owner first; what belongs to somebody else does not exist
 * (`not_found`). Every call may throw `store_unavailable` when Redis does not answer in time.
 */
export interface Core {
  /**
   * Throws `model_not_found` for a pool that nobody configured and no agent has joined, `invalid_request` for a webhook
   * that may not be called. Without a pool the first message brings it.
   */
  createSession(
    owner: string,
    given: {
      pool?: string
      title?: string
      metadata?: Record<string, string>
      note?: string
      webhook?: string
      once?: Once
    },
  ): Promise<{ session: Session; replayed: boolean }>
  session(owner: string, id: SessionId): Promise<Session>
  /** Whose session it is, for a caller whom a token has let in. Throws `not_found`. */
  ownerOf(id: SessionId): Promise<string>
  /**
   * Newest first; `before` is the `next` of the page before, `<created, ms>.<session id>`. A filter looks at 1,000
   * sessions at most per call, so a page may hold fewer than `limit`, even none, and still have a `next`.
   */
  sessions(
    owner: string,
    page: SessionsQuery & { limit: number; before?: string },
  ): Promise<{ sessions: Session[]; next: string | null }>
  /** Replaces the metadata. */
  describeSession(owner: string, id: SessionId, metadata: Record<string, string>): Promise<Session>
  /** Cancels what runs or waits and forgets the session. */
  deleteSession(owner: string, id: SessionId): Promise<void>
  /** The turns of a session in the order of their posting. A page ends early when its answers are large. */
  transcript(
    owner: string,
    id: SessionId,
    page: TurnsQuery & { limit: number },
  ): Promise<{ interactions: Interaction[]; next: InteractionId | null }>
  /** All of them, read one by one as they are asked for. */
  eachTurn(owner: string, id: SessionId, query: TurnsQuery): Promise<AsyncIterable<Interaction>>
  /** Some of a session's turns by their place, from the oldest or from the newest, and how many there are. */
  turns(
    owner: string,
    id: SessionId,
    page: { offset: number; limit: number; newestFirst: boolean },
  ): Promise<{ interactions: Interaction[]; total: number }>
  /** The turn in flight, if any, and the messages that wait, in order. */
  queue(owner: string, id: SessionId): Promise<{ current: Interaction | null; waiting: Interaction[] }>
  /**
   * Throws `model_not_found`, `not_found`, `queue_full`, `idempotency_key_reused`, `session_moved_on`, and
   * `invalid_request` where the session belongs to another pool than the message, or the webhook may not be called.
   */
  submit(owner: string, message: NewMessage): Promise<Submitted>
  /** The POST behind this turn is answered with a 5xx: should it come again within 10 s, it is no new message. */
  expectAgain(owner: string, once: Once, turn: Pick<Submitted, 'session' | 'interaction'>): Promise<void>
  interaction(owner: string, id: InteractionId): Promise<Interaction>
  /** What the door that an interaction or a session came through keeps with it, or ''. */
  note(owner: string, id: InteractionId | SessionId): Promise<string>
  /**
   * Waits until the turn has ended, or the limit is over; gives the turn as it then is. An ephemeral turn can be waited
   * for, and followed, until a minute after its end, so that a POST which is made again still gets its answer.
   */
  wait(owner: string, id: InteractionId, limitMs: number, signal: AbortSignal): Promise<Interaction>
  /** Takes a turn out of its session, cancelled first where it runs or waits. Open streams of it come to their end. */
  forget(owner: string, id: InteractionId): Promise<void>
  /**
   * Checks that the interaction exists (`not_found`), then follows it; a cursor beyond its log gets a snapshot.
   * A viewer that does not ask for the next batch is not buffered for: it reads from the log when it does.
   */
  follow(owner: string, id: InteractionId, after: Cursor, signal: AbortSignal): Promise<AsyncIterable<Followed>>
  /** Checks that the session exists, then follows its turns, one after the other, from the cursor on or from now. */
  followSession(
    owner: string,
    id: SessionId,
    after: SessionCursor | undefined,
    signal: AbortSignal,
  ): Promise<AsyncIterable<SessionFollowed>>
  /** Ends a turn, queued or running, as cancelled. Idempotent; an ended turn stays as it is. */
  cancel(owner: string, id: InteractionId): Promise<Interaction>
  /**
   * Answers a permission that the agent of a running turn asks for. Idempotent; the first answer counts. Throws
   * `not_found` for a permission that was not asked for, `permission_settled` when it is over, `invalid_request` for an
   * option that it does not have.
   */
  answer(owner: string, id: InteractionId, permission: string, option: string): Promise<Interaction>
  /** Pools that were configured or that agents have joined, by name. `createdAt` in ms. */
  pools(): Promise<{ name: string; createdAt: number }[]>
}
