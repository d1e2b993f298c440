import { randomUUID } from 'node:crypto'
import type { Request, RequestHandler, Response } from 'express'
import type { InteractionId, SessionId } from '../../protocol/ids.js'
import type { HttpParts } from './parts.js'
import type { Count, Paced, Place } from './quotas.js'

/** What is known of one request, from its first byte to the line in the log. */
export interface Call {
  /** Goes out as `x-request-id` and into every line about this request. */
  readonly id: string
  /** Aborted when the reply is over: said to its end, or the client has left. */
  readonly over: AbortSignal
  /** Empty until authenticated. */
  owner: string
  /** What a token opened, instead of an owner: reading this one session's streams, until `expiresAt` (ms). */
  opened?: { session: SessionId; expiresAt: number }
  /** The pattern that matched, such as `/api/v1/sessions/:session`. */
  route: string
  /** What has been counted of it. */
  readonly counts: Map<Paced, Count>
  /** The place of its stream, where they are limited. */
  place?: Place
  session?: SessionId
  interaction?: InteractionId
}

const SANE_ID = /^[\w.:-]{1,128}$/

export const callOf = (res: Response): Call => res.locals['call'] as Call

/** Begins a `Call`, and tells the log and the metrics about it when its reply is over, however it ended. */
export function beginCall({ log, observe }: Pick<HttpParts, 'log' | 'observe'>): RequestHandler {
  return (req: Request, res: Response, next) => {
    const startedAt = performance.now()
    const over = new AbortController()
    const given = req.get('x-request-id')
    const call: Call = {
      id: given !== undefined && SANE_ID.test(given) ? given : randomUUID(),
      over: over.signal,
      owner: '',
      route: 'unknown',
      counts: new Map(),
    }
    res.locals['call'] = call
    res.set({ 'x-request-id': call.id, 'cache-control': 'no-store' })
    res.once('close', () => {
      over.abort()
      const { method } = req
      const status = res.statusCode
      const ms = Math.round(performance.now() - startedAt)
      observe?.request(call.route, method, status, ms / 1000)
      log.info(
        {
          requestId: call.id,
          method,
          route: call.route, // not the URL: ids stand beside it, and a query may hold a token
          status,
          ms,
          ...(call.session && { session: call.session }),
          ...(call.interaction && { interaction: call.interaction }),
          ...(!res.writableFinished && { unfinished: true }), // the client left, or we cut it off
        },
        'request',
      )
    })
    next()
  }
}
