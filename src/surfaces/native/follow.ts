import { setTimeout as pause } from 'node:timers/promises'
import type { Request, Response } from 'express'
import type { Followed } from '../../core/core.js'
import { isEnd, type LogEvent } from '../../protocol/events.js'
import { sessionOf, type InteractionId } from '../../protocol/ids.js'
import { isTerminal, type Status } from '../../protocol/interaction.js'
import { formatCursor, type Cursor } from '../../protocol/sequence.js'
import type { Call } from '../http/call.js'
import { frame, sharedFrames, type EventStream } from '../http/sse.js'
import { pace } from '../http/pace.js'
import { announceTurn } from '../http/turn.js'
import type { NativeParts } from './parts.js'
import { readerOf } from './tokens.js'
import { breakOff, enter, retryFrame, sendElsewhere, viewerOf } from './viewer.js'

/** Shows a turn from a cursor on, as server-sent events, to its end. */
export type View = (call: Call, req: Request, res: Response, id: InteractionId, after: Cursor) => Promise<void>

/** How long the head waits for the first batch. Mostly a ms; and when a turn has ended and was seen, none will come. */
const LOOK_AHEAD_MS = 100

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
    const stream = viewerOf(parts, call, req, res)
    announceTurn(call, res, { session: sessionOf(id), interaction: id })
    try {
      const reader = await readerOf(core, call)
      await pace(parts, call, res, 'requests', { owner: reader })
      const batches = (await core.follow(reader, id, after, stream.signal))[Symbol.asyncIterator]()
      const first = batches.next()
      const early = await Promise.race([first, pause(LOOK_AHEAD_MS)])
      if (early?.done && !stream.signal.aborted) return void res.status(204).end() // nothing is left to tell
      first.catch(() => {}) // is awaited below, unless there is no place
      await enter(parts, call, reader, stream, batches)
      stream.open()
      await stream.write([retryFrame(limits)])
      let status: Status | undefined
      for (let batch = await first; !batch.done; batch = await batches.next()) {
        await stream.write(frames(id, batch.value))
        status = endIn(batch.value)
      }
      if (stream.refusal) throw stream.refusal
      if (!status && !stream.signal.aborted) ({ status } = await core.interaction(reader, id)) // ended unseen
      if (status) await finish(stream, id, status)
      else if (stream.leaving) await sendElsewhere(stream, call)
    } catch (thrown) {
      await breakOff(parts, stream, call, thrown)
    }
  }

  async function finish(stream: EventStream, id: InteractionId, status: Status): Promise<void> {
    if (!isTerminal(status)) throw new Error(`the log of ${id} ended before the turn did`)
    await stream.write([frame({ event: 'done', data: { interaction: id, status } })])
    stream.end('done')
  }
}

/** The status with which the turn ended, if it did so in this batch. */
function endIn(followed: Followed): Status | undefined {
  if (followed.type === 'snapshot') return isTerminal(followed.turn.status) ? followed.turn.status : undefined
  const last = followed.events.at(-1)
  return last && isEnd(last) ? (last.type as Status) : undefined
}
