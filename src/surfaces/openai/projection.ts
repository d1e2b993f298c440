import type { LogEvent } from '../../protocol/events.js'
import type { Turn } from '../../protocol/fold.js'
import type { Frame } from '../http/sse.js'
import type { OpenAiError } from './errors.js'

/**
 * One of OpenAI's streams as a function of a log. What it returns depends on nothing but what it was given, in that
 * order: not on time, on batches or on who is connected. `stream.ts` runs any projection.
 */
export interface Projection {
  /** Frames for the next event of the log; none at all for most kinds of event. */
  event(event: LogEvent): Frame[]
  /** Frames for a state that stands in the place of events which cannot be read. */
  snapshot(turn: Turn): Frame[]
  /** Frames that tell a reader of something which is not in the log: it can no longer be read. */
  failure(error: OpenAiError): Frame[]
  /** Whether everything was said: nothing follows but `[DONE]`. */
  readonly over: boolean
}
