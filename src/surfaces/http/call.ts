import { randomUUID } from 'node:crypto'
import type { Request, RequestHandler, Response } from 'express'
import { claimedKeyId } from '../../auth/client.js'
import type { Hold } from '../../auth/hold.js'
import type { Count } from '../../protocol/count.js'
import type { InteractionId, SessionId } from '../../protocol/ids.js'
import type { RequestTrace } from '../../observe/tracing.js'
import { NO_TRACE, parseTraceContext, traceIdOf, type TraceContext, type Trail } from '../../protocol/trail.js'
import type { HttpObserver, HttpParts } from './parts.js'
import type { Paced, Place } from './quotas.js'

/** What is known of one request, from its first byte to the line in the log. */
export interface Call {
  /** Goes out as `x-request-id` and into every line about this request. */
  readonly id: string
  /** Aborted when the reply is over: said to its end, or the client has left. */
  readonly over: AbortSignal
  /** Empty until authenticated. */
  owner: string
  /** What a token opened, instead of an owner: reading the streams of this one session. */
  opened?: SessionId
  /** Tells when what the caller came in by is no longer good. */
  hold?: Hold
  /** The pattern that matched, such as `/api/v1/sessions/:session`. */
  route: string
  /** What has been counted of it. */
  readonly counts: Map<Paced, Count>
  /** The place of its stream, where they are limited. */
  place?: Place
  session?: SessionId
  interaction?: InteractionId
  /** Its place in a trace, where there are traces. */
  readonly trace: RequestTrace | undefined
  /** By what a turn that it begins is found. */
  trail(): Trail
}

const SANE_ID = /^[\w.:-]{1,128}$/

export const callOf = (res: Response): Call => res.locals['call'] as Call

/** The trace of the turn that a request is about; none where this replica does not know of one. */
export const traceOf = (observe: HttpObserver | undefined, interaction: InteractionId | undefined): TraceContext =>
  (interaction && observe?.trailOf?.(interaction)) ?? NO_TRACE

/** Begins a `Call`, and tells the log and the metrics about it when its reply is over, however it ended. */
export function beginCall({ log, observe }: Pick<HttpParts, 'log' | 'observe'>): RequestHandler {
  return (req: Request, res: Response, next) => {
    const startedAt = performance.now()
    const over = new AbortController()
    const given = req.get('x-request-id')
    const keyId = claimedKeyId(req.get('authorization'))
    const id = given !== undefined && SANE_ID.test(given) ? given : randomUUID()
    const incoming = parseTraceContext(req.get('traceparent'), req.get('tracestate'))
    const trace = observe?.trace?.(incoming)
    const call: Call = {
      id,
      over: over.signal,
      owner: '',
      route: 'unknown',
      counts: new Map(),
      trace,
      trail: () => ({ requestId: id, ...(trace?.context() ?? incoming) }),
    }
    res.locals['call'] = call
    res.set({ 'x-request-id': call.id, 'cache-control': 'no-store' })
    res.once('close', () => {
      over.abort()
      const { method } = req
      const status = res.statusCode
      const ms = Math.round(performance.now() - startedAt)
      observe?.request(call.route, method, status, ms / 1000)
      const { session, interaction } = call
      const finished = res.writableFinished
      if (trace && interaction) trace.about(traceOf(observe, interaction))
      trace?.end({ method, route: call.route, status, requestId: id, session, interaction, finished })
      log.info(
        {
          requestId: call.id,
          method,
          route: call.route, // not the URL: ids stand beside it, and a query may hold a token
          status,
          ms,
          ...(keyId && { keyId }),
          ...(session && { session }),
          ...(interaction && { interaction }),
          ...(!finished && { unfinished: true }), // the client left, or we cut it off
          ...(trace && { trace_id: traceIdOf(trace.context()) }),
        },
        'request',
      )
    })
    next()
  }
}
