import type { Request, Response } from 'express'
import { ThroughlineError } from '../../protocol/errors.js'
import { START } from '../../protocol/sequence.js'
import type { Call } from '../http/call.js'
import { explain, reportBug } from '../http/errors.js'
import { comment, EventStream, frame } from '../http/sse.js'
import { openAiError } from './errors.js'
import type { OpenAiParts } from './parts.js'
import { isEnding, ResponseProjection, type ResponseFrame } from './project-response.js'
import type { ResponseHead } from './response.js'

const DONE = Buffer.from('data: [DONE]\n\n')

/**
 * Shows a response as a stream, to its end: the frames with a number above `after` (-1: all of them). Numbers are counted
 * from the start of the log, so it is always read from there, page by page; what the client has is left out.
 *
 * When Redis lost the log's tail in between, the log is told anew, and what was sent is left out: agents send again what
 * was lost, under the same numbers, so the stream goes on where it stopped (docs/decisions/0011). `tip` is the end of the
 * log as it was when this was asked for: a live stream has no number beyond what it says.
 *
 * When the stream cannot go on, its socket is destroyed, never ended: SDKs take a clean end for success.
 * Throws, before anything was sent, `invalid_cursor` and `stream_expired`.
 */
export async function streamResponse(
  parts: OpenAiParts,
  call: Call,
  req: Request,
  res: Response,
  head: ResponseHead,
  { after, tip }: { after: number; tip: number },
): Promise<void> {
  const kind = { surface: 'openai', keepAlive: comment('keep-alive'), cut: parts.hardStop }
  const stream = new EventStream(parts, call, req, res, kind)
  let sent = after
  let projection = new ResponseProjection(head)
  let lost: ResponseProjection | undefined

  async function write(frames: ResponseFrame[]): Promise<void> {
    const fresh = frames.filter((it) => it.data.sequence_number > sent || (lost && isEnding(it)))
    if (!stream.opened) {
      if (fresh.length === 0 && !projection.over && projection.n < tip) return // the client has all of this
      stream.open()
    }
    sent = Math.max(sent, fresh.at(-1)?.data.sequence_number ?? sent)
    await stream.write(fresh.map(frame))
  }

  try {
    for (let again = true; again && !stream.signal.aborted;) {
      again = false
      for await (const part of await parts.core.follow(call.owner, head.interaction, START, stream.signal)) {
        if (part.type === 'events') {
          const frames = part.events.flatMap((event) => (projection.over ? [] : projection.event(event)))
          const known = projection.over || projection.n < tip || part.incarnation !== '' // a lost tail comes again
          if (!stream.opened && !known && sent >= projection.next) throw new ThroughlineError('invalid_cursor')
          await write(frames)
        } else if (projection.n > 0) {
          lost = projection
          projection = new ResponseProjection(head)
          again = true // from the start
          break
        } else {
          if (!lost) throw new ThroughlineError('stream_expired')
          const { endedAt } = await parts.core.wait(call.owner, head.interaction, 0, stream.signal)
          projection = lost
          await write(lost.endWith(part.turn, endedAt))
        }
        if (projection.over) break
      }
    }
    if (stream.gone) return // the viewer has left, the turn goes on
    if (stream.refusal) throw stream.refusal
    if (!projection.over) throw new Error(`following ${head.interaction} ended before the turn did`)
    await stream.write([DONE])
    stream.end('done')
  } catch (thrown) {
    if (stream.gone) return
    if (!stream.opened) throw thrown
    const error = explain(thrown)
    reportBug(parts, call, error)
    if (!stream.refusal) return stream.destroy('cut')
    // the number of the last frame: none is used up by what is not in the log
    const data = { type: 'error', sequence_number: Math.max(sent, 0), error: openAiError(error) }
    await stream.write([frame({ event: 'error', data })])
    stream.end('cut')
  }
}
