import type { Request, Response } from 'express'
import type { SessionCursor, SessionFollowed } from '../../core/core.js'
import { ThroughlineError } from '../../protocol/errors.js'
import type { LogEvent } from '../../protocol/events.js'
import { isInteractionId, sessionOf, type InteractionId, type SessionId } from '../../protocol/ids.js'
import { formatCursor, parseCursor, START, type Cursor } from '../../protocol/sequence.js'
import type { Routes } from '../http/app.js'
import type { Call } from '../http/call.js'
import { cursorText, sessionIn } from '../http/parse.js'
import { pace } from '../http/pace.js'
import { frame, sharedFrames } from '../http/sse.js'
import type { NativeParts } from './parts.js'
import { byToken, readerOf } from './tokens.js'
import { breakOff, enter, retryFrame, sendElsewhere, viewerOf } from './viewer.js'

/**
 * The event stream of a session: the events of its turns, one turn after the other, for as long as it lives. A browser on
 * HTTP/1.1 holds six connections per host: one stream per session is enough, whatever runs in it. `id:` is
 * `<interaction>/<cursor of its log>`; without a cursor it begins with the turn that runs or comes next, with `0` at the
 * oldest turn that is kept. The first frame has an `id:` and nothing else, so that a break before the first event
 * resumes, too.
 */
export function sessionStreamRoutes(parts: NativeParts): Routes {
  const { core, limits } = parts

  const eventFrame = sharedFrames((event: LogEvent, interaction: InteractionId, incarnation: string) =>
    frame({
      id: idOf(interaction, { n: event.n, incarnation }),
      event: event.type,
      data: { interaction, ...event },
    }),
  )

  function frames(session: SessionId, said: SessionFollowed): Buffer[] {
    switch (said.type) {
      case 'events':
        return said.events.map((event) => eventFrame(event, said.interaction, said.incarnation))
      case 'snapshot': {
        const { interaction, turn, cursor } = said
        const id = idOf(interaction, cursor)
        return [frame({ id, event: 'snapshot', data: { interaction, turn, cursor: id } })]
      }
      case 'lost':
        return [frame({ id: '0', event: 'lost', data: { session } })]
      case 'at':
        return [frame({ id: idOf(said.at.interaction, said.at.cursor) })]
    }
  }

  return {
    '/sessions/:session/events': {
      admit: byToken(parts),
      stream: true,
      async get(call: Call, req: Request, res: Response) {
        const session = sessionIn(call, req.params['session'])
        const after = sessionCursor(session, cursorText(req))
        const stream = viewerOf(parts, call, req, res)
        try {
          const reader = await readerOf(core, call)
          await pace(parts, call, res, 'requests', { owner: reader })
          const all = (await core.followSession(reader, session, after, stream.signal))[Symbol.asyncIterator]()
          let next = await all.next() // its place: whoever sees the stream open may post, and must see what comes of it
          await enter(parts, call, reader, stream, all)
          stream.open()
          await stream.write([retryFrame(limits)])
          for (; !next.done; next = await all.next()) await stream.write(frames(session, next.value))
          if (stream.refusal) throw stream.refusal
          if (stream.leaving) return await sendElsewhere(stream, call)
          if (stream.signal.aborted) return
          await stream.write([frame({ event: 'done', data: { session } })])
          stream.end('done')
        } catch (thrown) {
          await breakOff(parts, stream, call, thrown)
        }
      },
    },
  }
}

const idOf = (interaction: InteractionId | null, cursor: Cursor): string =>
  interaction === null ? '0' : `${interaction}/${formatCursor(cursor)}`

/** Reads `0` or `<interaction>/<cursor>`; undefined when none is given. Throws `invalid_cursor`. */
function sessionCursor(session: SessionId, text: string): SessionCursor | undefined {
  if (text === '') return undefined
  if (text === '0') return { interaction: null, cursor: START }
  const [interaction, at] = text.split('/')
  const cursor = parseCursor(at ?? '')
  if (!isInteractionId(interaction!) || sessionOf(interaction) !== session || !cursor)
    throw new ThroughlineError('invalid_cursor')
  return { interaction, cursor }
}
