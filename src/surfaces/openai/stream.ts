import type { Request, Response } from 'express'
import type { Followed } from '../../core/core.js'
import type { InteractionId } from '../../protocol/ids.js'
import { START } from '../../protocol/sequence.js'
import type { Call } from '../http/call.js'
import { explain, reportBug } from '../http/errors.js'
import { comment, EventStream, frame, type Frame } from '../http/sse.js'
import { openAiError } from './errors.js'
import type { Projection } from './projection.js'
import type { OpenAiParts } from './parts.js'

const DONE = Buffer.from('data: [DONE]\n\n')

/**
 * Shows a turn from its start as one of OpenAI's streams. No `id:` and no `retry:` in it: openai-python takes a block
 * without data for an event. When the replica leaves, the stream runs on to its end; at `hardStop` its socket is
 * destroyed, never ended: a clean end without an ending looks like success to the SDKs.
 */
export async function streamTurn(
  parts: OpenAiParts,
  call: Call,
  req: Request,
  res: Response,
  id: InteractionId,
  projection: Projection,
): Promise<void> {
  const kind = { surface: 'openai', keepAlive: comment('keep-alive'), cut: parts.hardStop }
  const stream = new EventStream(parts, call, req, res, kind)
  const followed = await parts.core.follow(call.owner, id, START, stream.signal)
  stream.open()
  try {
    for await (const part of followed) {
      await stream.write(framesOf(projection, part).map(frame))
      if (projection.over) break
    }
    if (stream.gone) return
    if (stream.refusal) throw stream.refusal
    if (!projection.over) throw new Error(`following ${id} ended before the turn did`)
  } catch (thrown) {
    if (stream.gone) return // the viewer has left, the turn goes on
    const error = explain(thrown)
    reportBug(parts, call, error)
    await stream.write(projection.failure(openAiError(error)).map(frame))
  }
  await stream.write([DONE])
  stream.end('done')
}

function framesOf(projection: Projection, part: Followed): Frame[] {
  if (part.type === 'snapshot') return projection.snapshot(part.turn)
  return part.events.flatMap((event) => (projection.over ? [] : projection.event(event)))
}
