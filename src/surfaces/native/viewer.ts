import type { Request, Response } from 'express'
import type { Call } from '../http/call.js'
import { explain, renderNative, reportBug } from '../http/errors.js'
import type { HttpLimits } from '../http/parts.js'
import { comment, EventStream, frame } from '../http/sse.js'
import type { NativeParts } from './parts.js'

/** Upper bound, in ms, of the random pause in which a leaving replica's viewers come back elsewhere. */
const DRAIN_SPREAD_MS = 3000

/** A native viewer's stream, not opened yet. One that a token let in is sent away when the token expires. */
export function viewerOf(parts: NativeParts, call: Call, req: Request, res: Response): EventStream {
  const keepAlive = req.query['ping'] === '1' ? frame({ event: 'ping', data: {} }) : comment('ka')
  const kind = { surface: 'native', keepAlive, leave: parts.draining, cut: parts.hardStop }
  const stream = new EventStream(parts, call, req, res, kind)
  if (call.opened) {
    const expiry = setTimeout(() => stream.sendAway(), call.opened.expiresAt - Date.now())
    call.over.addEventListener('abort', () => clearTimeout(expiry))
    if (call.over.aborted) clearTimeout(expiry)
  }
  return stream
}

/** The first thing on a stream: how long to wait before coming again, not the same for all who break off together. */
export const retryFrame = ({ retryMs }: HttpLimits): Buffer => frame({ retry: retryMs + random(retryMs) })

/** A clean end after which the viewer comes again. */
export async function sendElsewhere(stream: EventStream): Promise<void> {
  await stream.write([frame({ retry: random(DRAIN_SPREAD_MS) })])
  stream.end('drained')
}

/** Says what is wrong and ends, so that the viewer comes again with its cursor. Refusals go out as plain replies. */
export async function breakOff(parts: NativeParts, stream: EventStream, call: Call, thrown: unknown): Promise<void> {
  const error = explain(thrown)
  if (call.over.aborted) return reportBug(parts, call, error)
  // EventSource gives up for good at a 503, and Redis is back sooner
  if (error.kind.status === 503 && !stream.opened) stream.open()
  if (!stream.opened) throw thrown
  reportBug(parts, call, error)
  const retry = (error.kind.retryAfterS ?? 1) * 1000 + random(parts.limits.retryMs)
  await stream.write([frame({ event: 'problem', retry, data: renderNative(error, call.id).body })])
  stream.end('cut')
}

const random = (belowMs: number): number => Math.floor(Math.random() * belowMs)
