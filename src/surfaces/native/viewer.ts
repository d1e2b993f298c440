import type { Request, Response } from 'express'
import { ThroughlineError } from '../../protocol/errors.js'
import type { Call } from '../http/call.js'
import { explain, renderNative, reportBug } from '../http/errors.js'
import type { HttpLimits } from '../http/parts.js'
import { takePlace } from '../http/place.js'
import { comment, EventStream, frame } from '../http/sse.js'
import type { NativeParts } from './parts.js'

/** Upper bound, in ms, of the random pause in which a leaving replica's viewers come back elsewhere. */
const DRAIN_SPREAD_MS = 3000

/** Least pause of a viewer that made room, ms; at most as much again is added. */
const DISPLACED_MS = 15_000
/** HTTP statuses with which a stream must not begin: what they stand for is told in it. */
const PASSING = [429, 503]

/** A native viewer's stream, not opened yet. */
export function viewerOf(parts: NativeParts, call: Call, req: Request, res: Response): EventStream {
  const keepAlive = req.query['ping'] === '1' ? frame({ event: 'ping', data: {} }) : comment('ka')
  const kind = { surface: 'native', keepAlive, leave: parts.draining, cut: parts.hardStop }
  return new EventStream(parts, call, req, res, kind)
}

/** The first thing on a stream: how long to wait before coming again, not the same for all who break off together. */
export const retryFrame = ({ retryMs }: HttpLimits): Buffer => frame({ retry: retryMs + random(retryMs) })

/**
 * Takes the stream's place among those of whose session it reads, once it is clear that there is something to read; else
 * `followed` is given back. Throws `too_many_streams`.
 */
export async function enter(
  parts: NativeParts,
  call: Call,
  owner: string,
  stream: EventStream,
  followed: AsyncIterator<unknown>,
): Promise<void> {
  try {
    await takePlace(parts, call, { owner, resumable: true })
  } catch (thrown) {
    void followed.return?.()
    throw thrown
  }
  const taken = call.place?.taken
  taken?.addEventListener('abort', () => stream.sendAway())
  if (taken?.aborted) stream.sendAway()
}

/** A clean end after which the viewer comes again; not soon, when it had to make room for another of its owner. */
export async function sendElsewhere(stream: EventStream, call: Call): Promise<void> {
  if (!call.place?.taken.aborted) {
    await stream.write([frame({ retry: random(DRAIN_SPREAD_MS) })])
    return stream.end('drained')
  }
  const { body } = renderNative(new ThroughlineError('too_many_streams'), call.id)
  await stream.write([frame({ event: 'problem', retry: DISPLACED_MS + random(DISPLACED_MS), data: body })])
  stream.end('displaced')
}

/** Says what is wrong and ends, so that the viewer comes again with its cursor. Refusals go out as plain replies. */
export async function breakOff(parts: NativeParts, stream: EventStream, call: Call, thrown: unknown): Promise<void> {
  const error = explain(thrown)
  if (call.over.aborted) return reportBug(parts, call, error)
  // EventSource gives up for good at a 503 or 429, and what stands in its way passes sooner
  if (PASSING.includes(error.kind.status) && !stream.opened) stream.open()
  if (!stream.opened) throw thrown
  reportBug(parts, call, error)
  const retry = (error.retryAfterS ?? 1) * 1000 + random(parts.limits.retryMs)
  await stream.write([frame({ event: 'problem', retry, data: renderNative(error, call.id).body })])
  stream.end('cut')
}

const random = (belowMs: number): number => Math.floor(Math.random() * belowMs)
