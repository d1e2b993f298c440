import { setTimeout as pause } from 'node:timers/promises'
import type { Request, Response } from 'express'
import type { Followed } from '../../core/core.js'
import { isEnd, type LogEvent } from '../../protocol/events.js'
import { sessionOf, type InteractionId } from '../../protocol/ids.js'
import { isTerminal, type Status } from '../../protocol/interaction.js'
import { formatCursor, type Cursor } from '../../protocol/sequence.js'
import type { Call } from '../http/call.js'
import { explain, renderNative, reportBug } from '../http/errors.js'
import { comment, EventStream, frame, sharedFrames } from '../http/sse.js'
import { announceTurn } from '../http/turn.js'
import type { NativeParts } from './parts.js'

/** Shows a turn from a cursor on, as server-sent events, to its end. */
export type View = (call: Call, req: Request, res: Response, id: InteractionId, after: Cursor) => Promise<void>

/** How long the head waits for the first batch. Mostly a ms; and when a turn has ended and was seen, none will come. */
const LOOK_AHEAD_MS = 100
/** Upper bound, in ms, of the random pause in which a leaving replica's viewers come back elsewhere. */
const DRAIN_SPREAD_MS = 3000

/**
 * The event stream of a turn, made for EventSource: `id:` is the cursor, `event:` the type of the log's event (or
 * `snapshot`, `done`, `problem`, `ping`), `data:` JSON. It ends for good with `done`; whoever comes back after that
 * gets a 204, at which EventSource stays away. Any other end means: come again with your cursor, to any replica.
 * No special first frame is needed to prime the cursor: a log begins with `submitted`, which is there at once.
 */
export function viewers(parts: NativeParts): View {
  const { core, limits } = parts

  const eventFrame = sharedFrames((event: LogEvent, id: InteractionId, incarnation: string) =>
    frame({
      id: formatCursor({ n: event.n, incarnation }),
      event: event.type, // never `error` or `open`: those are EventSource's own
      data: { interaction: id, ...event },
    }),
  )

  function frames(id: InteractionId, followed: Followed): Buffer[] {
    if (followed.type === 'events') return followed.events.map((event) => eventFrame(event, id, followed.incarnation))
    const { turn, cursor } = followed
    // No log event, yet it has an `id:`. Without one a viewer that reconnects right after it would name the cursor that
    // could not be continued from, and be sent the whole state again.
    const at = formatCursor(cursor)
    return [frame({ id: at, event: 'snapshot', data: { interaction: id, turn, cursor: at } })]
  }

  return async (call, req, res, id, after) => {
    const keepAlive = req.query['ping'] === '1' ? frame({ event: 'ping', data: {} }) : comment('ka')
    const kind = { surface: 'native', keepAlive, leave: parts.draining, cut: parts.hardStop }
    const stream = new EventStream(parts, call, req, res, kind)
    announceTurn(call, res, { session: sessionOf(id), interaction: id })
    try {
      const batches = (await core.follow(call.owner, id, after, stream.signal))[Symbol.asyncIterator]()
      const first = batches.next()
      const early = await Promise.race([first, pause(LOOK_AHEAD_MS)])
      if (early?.done && !stream.signal.aborted) return void res.status(204).end() // nothing is left to tell
      stream.open()
      await stream.write([frame({ retry: limits.retryMs + random(limits.retryMs) })])
      let status: Status | undefined
      for (let batch = await first; !batch.done; batch = await batches.next()) {
        await stream.write(frames(id, batch.value))
        status = endIn(batch.value)
      }
      if (!status && !stream.signal.aborted) ({ status } = await core.interaction(call.owner, id)) // ended unseen
      if (status) await finish(stream, id, status)
      else if (stream.leaving) await sendElsewhere(stream)
    } catch (thrown) {
      await fail(stream, call, thrown)
    }
  }

  async function finish(stream: EventStream, id: InteractionId, status: Status): Promise<void> {
    if (!isTerminal(status)) throw new Error(`the log of ${id} ended before the turn did`)
    await stream.write([frame({ event: 'done', data: { interaction: id, status } })])
    stream.end('done')
  }

  async function sendElsewhere(stream: EventStream): Promise<void> {
    await stream.write([frame({ retry: random(DRAIN_SPREAD_MS) })])
    stream.end('drained')
  }

  /** Says what is wrong and ends, so that the viewer comes again with its cursor. Refusals go out as plain replies. */
  async function fail(stream: EventStream, call: Call, thrown: unknown): Promise<void> {
    const error = explain(thrown)
    if (call.over.aborted) return reportBug(parts, call, error)
    // EventSource gives up for good at a 503, and Redis is back sooner
    if (error.code === 'store_unavailable' && !stream.opened) stream.open()
    if (!stream.opened) throw thrown
    reportBug(parts, call, error)
    const retry = (error.kind.retryAfterS ?? 1) * 1000 + random(limits.retryMs)
    await stream.write([frame({ event: 'problem', retry, data: renderNative(error, call.id).body })])
    stream.end('cut')
  }
}

/** The status with which the turn ended, if it did so in this batch. */
function endIn(followed: Followed): Status | undefined {
  if (followed.type === 'snapshot') return isTerminal(followed.turn.status) ? followed.turn.status : undefined
  const last = followed.events.at(-1)
  return last && isEnd(last) ? (last.type as Status) : undefined
}

const random = (belowMs: number): number => Math.floor(Math.random() * belowMs)
