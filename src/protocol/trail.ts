/** W3C Trace Context, as its two headers have it; '' where there is none. */
export interface TraceContext {
  /** `00-<trace id>-<span id>-<flags>`. */
  traceparent: string
  /** What vendors add to it. */
  tracestate: string
}

/** By what the log lines and spans of a turn are found: the HTTP request that began it ('' for none), and its trace. */
export interface Trail extends TraceContext {
  /** The request's `x-request-id`. */
  requestId: string
}

export const NO_TRACE: TraceContext = { traceparent: '', tracestate: '' }
export const NO_TRAIL: Trail = { requestId: '', ...NO_TRACE }

// a later version may add to the end; `ff` is none, and neither id may be all zeros
const TRACEPARENT = /^(?!ff)[\da-f]{2}-(?!0{32})[\da-f]{32}-(?!0{16})[\da-f]{16}-[\da-f]{2}(?=$|-)/
/** Longest `tracestate` that is handed on; W3C asks for no more. */
const MAX_TRACESTATE = 512
const TRACESTATE = /^[\x20-\x7e]+$/

/** Reads the two headers. What is malformed counts as not sent, as W3C has it: the trace begins anew. */
export function parseTraceContext(traceparent: string | undefined, tracestate: string | undefined): TraceContext {
  const [parent] = TRACEPARENT.exec(traceparent ?? '') ?? []
  if (parent === undefined || (parent.startsWith('00') && parent !== traceparent)) return NO_TRACE
  const kept = tracestate !== undefined && tracestate.length <= MAX_TRACESTATE && TRACESTATE.test(tracestate)
  return { traceparent: `00${parent.slice(2)}`, tracestate: kept ? tracestate : '' }
}

/** The trace that a context is of, 32 hexadecimal digits; '' where there is none. */
export const traceIdOf = ({ traceparent }: TraceContext): string => traceparent.slice(3, 35)
export const spanIdOf = ({ traceparent }: TraceContext): string => traceparent.slice(36, 52)
export const isSampled = ({ traceparent }: TraceContext): boolean =>
  (Number.parseInt(traceparent.slice(53, 55), 16) & 1) === 1

/** The same trace, seen from another of its spans. */
export const within = (context: TraceContext, spanId: string): TraceContext => ({
  ...context,
  traceparent: `${context.traceparent.slice(0, 36)}${spanId}${context.traceparent.slice(52)}`,
})
