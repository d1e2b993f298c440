import { createHash } from 'node:crypto'
import type { TurnStep } from './turn-steps.js'
import { within, type TraceContext } from '../protocol/trail.js'

/*
 * What the gateway says to a tracer, without knowing one: `otel.ts` is the only one, and is loaded only where it is
 * switched on. The trace of a turn, whichever replicas had it:
 *
 *   POST /api/v1/sessions/:session/messages     the request; until the last byte where it streams
 *   ├─ stream                                   what its viewer was sent
 *   ├─ turn                                     from the message to its end
 *   │  ├─ queue, wait                           behind another turn of its session; for an agent
 *   │  └─ attempt                               in the hands of an agent, whose own spans are below it
 *   │     └─ dispatch, resume                   a replica handed it over; an agent came back with it
 *   └─ GET /api/v1/interactions/:interaction/events
 *      └─ stream
 *
 * `turn` and what is right below it are told from its log when it is sealed, which happens once, whoever dies meanwhile.
 * Their ids are made from the turn's and the request's, so that others can name them as parents before that.
 */
export interface Tracing {
  /** A request has arrived; what it names as its parent goes on, else a trace begins when one is needed. */
  request(incoming: TraceContext): RequestTrace
  /** The context of a turn that no request began: the start of a trace. */
  begin(): TraceContext
  /** A turn was handed over by this replica (`dispatch`), or came back with its agent (`resume`), just now. */
  handed(how: 'dispatch' | 'resume', turn: HandedTurn, tookMs: number): void
  /** A turn has ended, and this is the only time that it is said. */
  ended(turn: EndedTurn): void
  /** Sends what is waiting, as far as that goes within the closing of the replica. */
  stop(): Promise<void>
}

export interface RequestTrace {
  /** What hangs on this request names this as its parent. */
  context(): TraceContext
  /** The request is about this turn: where it has no trace of its own it belongs to the turn's. */
  about(turn: TraceContext): void
  /** Its reply is a stream of this turn, if it is one turn's. Gives what is to be called at the last byte. */
  stream(surface: string, turn: TraceContext): (how: string, bytes: number) => void
  end(reply: {
    method: string
    route: string
    status: number
    requestId: string
    session?: string | undefined
    interaction?: string | undefined
    finished: boolean
  }): void
}

export interface HandedTurn {
  trace: TraceContext
  session: string
  interaction: string
  request: string
  pool: string
  agent: string
}

/** Times in ms of this machine's clock. */
export interface EndedTurn {
  trace: TraceContext
  session: string
  interaction: string
  pool: string
  origin: string
  status: string
  reason: string
  attempts: number
  from: number
  to: number
  steps: readonly TurnStep[]
}

/** The id of the span of a turn or an attempt, from its own. */
export const spanIdFor = (id: string): string => createHash('sha256').update(id).digest('hex').slice(0, 16)

/** What an attempt's agent is told: its spans belong below the attempt's. */
export const belowAttempt = (turn: TraceContext, request: string): TraceContext =>
  turn.traceparent === '' ? turn : within(turn, spanIdFor(request))
