import type { Routes } from '../http/app.js'
import { onceOf } from '../http/once.js'
import { parse, sessionIn } from '../http/parse.js'
import type { NativeParts } from './parts.js'
import { NewSession, SessionsPage, TranscriptPage } from './schemas.js'

/** Sessions: make, list, read, forget; and what was said in them. */
export const sessionRoutes = ({ core }: NativeParts): Routes => ({
  '/sessions': {
    async post(call, req, res) {
      const { pool, title, metadata, webhook } = parse(NewSession, req.body)
      const { session, replayed } = await core.createSession(call.owner, {
        pool,
        ...(title !== undefined && { title }),
        ...(metadata && { metadata }),
        ...(webhook && { webhook: webhook.url }),
        once: onceOf(req, []),
      })
      call.session = session.id
      if (replayed) res.set('Idempotent-Replayed', 'true')
      res.status(201).location(`${req.baseUrl}/sessions/${session.id}`).json(session)
    },

    async get(call, req, res) {
      const { limit, before, pool, active, metadata } = parse(SessionsPage, req.query)
      const filter = {
        ...(pool !== undefined && { pool }),
        ...(active !== undefined && { active }),
        ...(metadata !== undefined && { metadata: pairOf(metadata) }),
      }
      res.json(await core.sessions(call.owner, { limit, ...(before !== undefined && { before }), ...filter }))
    },
  },

  '/sessions/:session': {
    async get(call, req, res) {
      res.json(await core.session(call.owner, sessionIn(call, req.params['session'])))
    },

    async delete(call, req, res) {
      await core.deleteSession(call.owner, sessionIn(call, req.params['session']))
      res.status(204).end()
    },
  },

  '/sessions/:session/interactions': {
    async get(call, req, res) {
      const session = sessionIn(call, req.params['session'])
      const { limit, after, order, status } = parse(TranscriptPage, req.query)
      const page = { limit, order, ...(after && { after }), ...(status && { status }) }
      res.json(await core.transcript(call.owner, session, page))
    },
  },

  '/sessions/:session/queue': {
    async get(call, req, res) {
      res.json(await core.queue(call.owner, sessionIn(call, req.params['session'])))
    },
  },
})

/** `<key>:<value>` → its two parts. */
const pairOf = (text: string): [string, string] => {
  const at = text.indexOf(':')
  return [text.slice(0, at), text.slice(at + 1)]
}
