import type { Request, Response } from 'express'
import type { Interaction, Session } from '../../core/core.js'
import type { Routes } from '../http/app.js'
import type { Call } from '../http/call.js'
import { drained } from '../http/flow.js'
import { parse, sessionIn } from '../http/parse.js'
import type { NativeParts } from './parts.js'
import { Export, type EXPORT_FORMATS } from './schemas.js'
import { headingOf, turnAsMarkdown } from './markdown.js'

/** One way to write a transcript: what stands before, between and after its turns. */
interface Format {
  type: string
  extension: string
  head(session: Session): string
  turn(turn: Interaction, first: boolean): string
  tail: string
}

const FORMATS: Record<(typeof EXPORT_FORMATS)[number], Format> = {
  json: {
    type: 'application/json',
    extension: 'json',
    head: (session) => `{"session":${JSON.stringify(session)},"interactions":[`,
    turn: (turn, first) => `${first ? '' : ','}\n${JSON.stringify(turn)}`,
    tail: ']}\n',
  },
  ndjson: {
    type: 'application/x-ndjson',
    extension: 'ndjson',
    head: (session) => `${JSON.stringify({ session })}\n`,
    turn: (turn) => `${JSON.stringify({ interaction: turn })}\n`,
    tail: '',
  },
  markdown: { type: 'text/markdown', extension: 'md', head: headingOf, turn: turnAsMarkdown, tail: '' },
}

/**
 * The transcript as a file of any size: turn by turn, each read when the one before is on its way, so it costs one turn of
 * memory. A failure in the middle breaks the connection: no half is taken for the whole.
 */
export const exportRoutes = ({ core, limits }: NativeParts): Routes => ({
  '/sessions/:session/export': {
    async get(call: Call, req: Request, res: Response) {
      const id = sessionIn(call, req.params['session'])
      const { format, order, status } = parse(Export, req.query)
      const { type, extension, head, turn, tail } = FORMATS[format]
      const session = await core.session(call.owner, id)
      const turns = await core.eachTurn(call.owner, id, { order, ...(status && { status }) })
      res.status(200).set({
        'Content-Type': `${type}; charset=utf-8`,
        'Content-Disposition': `attachment; filename="${id}.${extension}"`,
        'X-Accel-Buffering': 'no',
      })
      if (req.method === 'HEAD') return void res.end()
      const write = async (text: string) => {
        if (!res.write(text)) await drained(res, limits.slowViewerMs, call.over, () => res.destroy())
      }
      await write(head(session))
      let first = true
      for await (const each of turns) {
        if (call.over.aborted) return
        await write(turn(each, first))
        first = false
      }
      res.end(tail)
    },
  },
})
