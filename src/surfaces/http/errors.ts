import type { ErrorRequestHandler, Request, Response } from 'express'
import { ThroughlineError } from '../../protocol/errors.js'
import { traceIdOf } from '../../protocol/trail.js'
import { callOf, type Call } from './call.js'
import type { HttpParts } from './parts.js'

/** How a surface words an error. Status, `Retry-After` and the like are the same on all of them. */
export type RenderError = (
  error: ThroughlineError,
  requestId: string,
  req: Request,
) => { body: unknown; headers?: Record<string, string> }

/** The native shape, also spoken where no surface is responsible. */
export const renderNative = (error: ThroughlineError, requestId: string) => ({
  body: {
    error: {
      code: error.code,
      message: error.message,
      param: error.param ?? null,
      requestId,
      retry: error.kind.retry,
    },
  },
})

/** What V8 quotes of a body that is no JSON: somebody’s words, that would go on into the logs of who gets the error. */
const QUOTED = /, (?:\.{3})?".*"(?:\.{3})? is not valid JSON$/s

/** What a caller may know of anything that was thrown. What is neither ours nor the caller's mistake becomes `internal`. */
export function explain(thrown: unknown): ThroughlineError {
  if (thrown instanceof ThroughlineError) return thrown
  const { type, status, message } = Object(thrown) as { type?: unknown; status?: unknown; message?: unknown }
  switch (
    type // the names body-parser gives its errors
  ) {
    case 'entity.too.large':
      return new ThroughlineError('body_too_large')
    case 'encoding.unsupported':
    case 'charset.unsupported':
      return new ThroughlineError('unsupported_media_type', { message: 'The body must be JSON in UTF-8.' })
    case 'entity.parse.failed':
      return new ThroughlineError('invalid_request', {
        message: `The body is not a JSON object: ${String(message).replace(QUOTED, '')}`,
      })
  }
  // Express itself: a body that broke off, a path that cannot be decoded
  if (status === 400) {
    const message = 'The address or the body could not be read: it broke off, or is not encoded as its headers say.'
    return new ThroughlineError('invalid_request', { message, cause: thrown })
  }
  return new ThroughlineError('internal', { cause: thrown })
}

/** Logs what is a bug, once, under the id that the caller was shown. */
export function reportBug({ log }: Pick<HttpParts, 'log'>, call: Call, error: ThroughlineError): void {
  if (error.code !== 'internal') return
  const trace = call.trace && { trace_id: traceIdOf(call.trace.context()) }
  log.error({ err: error.cause ?? error, requestId: call.id, route: call.route, ...trace }, 'bug')
}

/** The one place where a surface's errors become replies. After the header a reply can only be cut off. */
export function errorHandler(parts: Pick<HttpParts, 'log'>, render: RenderError): ErrorRequestHandler {
  return (thrown: unknown, req, res: Response, _next) => {
    const call = callOf(res)
    if (call.over.aborted && isAbort(thrown)) return // the client has left, and what was done for it stopped
    const error = explain(thrown)
    reportBug(parts, call, error)
    if (res.headersSent) {
      res.destroy() // not `end`: a clean end would look like a whole answer
      return
    }
    const { body, headers } = render(error, call.id, req)
    const { status } = error.kind
    const { retryAfterS } = error
    if (retryAfterS !== undefined) res.set('Retry-After', String(retryAfterS))
    if (status === 401) res.set('WWW-Authenticate', 'Bearer')
    res.status(status).set(headers ?? {})
    if (typeof body === 'string') res.send(body)
    else res.json(body)
  }
}

const isAbort = (thrown: unknown): boolean => thrown instanceof Error && thrown.name === 'AbortError'
