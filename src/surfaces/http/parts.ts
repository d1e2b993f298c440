import type { IncomingMessage } from 'node:http'
import type { Logger } from 'pino'
import type { ClientPrincipal } from '../../auth/client.js'
import type { RequestTrace } from '../../observe/tracing.js'
import type { InteractionId } from '../../protocol/ids.js'
import type { TraceContext, Trail } from '../../protocol/trail.js'
import type { OriginPolicy } from './origins.js'
import type { EnterPlace, Paced, Rates } from './quotas.js'

/** What every HTTP door is given. Every open stream listens to the two signals: see to `setMaxListeners(0, …)`. */
export interface HttpParts {
  log: Logger
  /** Who is calling. Throws `unauthorized`, and 503 while it cannot be known. */
  authenticate: (req: IncomingMessage) => Promise<ClientPrincipal>
  /** Aborted when this replica leaves and viewers that can resume elsewhere should do so. */
  draining: AbortSignal
  /** Aborted when the grace period is over: whatever still streams is cut. */
  hardStop: AbortSignal
  /**
   * Hears a credential that a caller shows. Throws `rate_limit_exceeded` where too many from its address have failed;
   * that `verify` throws `unauthorized` or gives undefined is such a failure.
   */
  attempt: <T>(req: IncomingMessage, credential: string, verify: () => Promise<T>) => Promise<T>
  /** How much an owner may do. */
  rates: Rates
  /** Absent where an owner may have any number of streams. */
  enterPlace?: EnterPlace
  /** Which web pages may call. */
  origins: OriginPolicy
  limits: HttpLimits
  observe?: HttpObserver
}

export interface HttpLimits {
  /** Largest request body in bytes. */
  maxBodyBytes: number
  /** How long a blocking request may wait for its turn. */
  waitLimitMs: number
  /** Silence after which a stream gets a sign of life (15 s suits proxies and NATs). */
  keepAliveMs: number
  /** How long a viewer's socket may stay full before it is cut off. */
  slowViewerMs: number
  /** What viewers are told to wait before they reconnect; up to as much again is added at random. */
  retryMs: number
}

/** How a stream came to its end: `done` all was said · `left` the viewer · `slow` cut off · `drained` sent elsewhere · `displaced` by a newer stream · `cut` destroyed. */
export type StreamEnd = 'done' | 'left' | 'slow' | 'drained' | 'displaced' | 'cut'

/** What is counted and traced of it all; metrics and traces plug in here. `route` is a pattern, never a path with ids. */
export interface HttpObserver {
  /** Somebody met a limit. */
  limited(limit: Paced | 'streams'): void
  request(route: string, method: string, status: number, seconds: number): void
  streamOpened(surface: string): void
  streamClosed(surface: string, how: StreamEnd): void
  /** The viewer's socket is full, and nothing is read for it, until the function is called. */
  streamBehind?(surface: string): () => void
  /** The trace that a request has a place in; undefined where nothing is traced. */
  trace?(incoming: TraceContext): RequestTrace | undefined
  /** The trail of a turn that this replica has to do with. */
  trailOf?(interaction: InteractionId): Trail
}
