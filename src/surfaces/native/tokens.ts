import type { Request } from 'express'
import { holdUntil } from '../../auth/hold.js'
import type { Core } from '../../core/core.js'
import { ThroughlineError } from '../../protocol/errors.js'
import { isInteractionId, isSessionId, sessionOf } from '../../protocol/ids.js'
import type { Admit, Routes } from '../http/app.js'
import type { Call } from '../http/call.js'
import { parse, sessionIn } from '../http/parse.js'
import type { NativeParts } from './parts.js'
import { NewToken } from './schemas.js'

/** Tokens with which an EventSource, which cannot send headers, reads the streams of one session. */
export const tokenRoutes = ({ core, tokens }: NativeParts): Routes => ({
  '/sessions/:session/token': {
    async post(call, req, res) {
      const { id } = await core.session(call.owner, sessionIn(call, req.params['session']))
      const { ttlSeconds } = parse(NewToken, req.body)
      if (!tokens) throw new ThroughlineError('tokens_disabled')
      const token = await tokens.mint('stream', id, ttlSeconds * 1000)
      const { expiresAt } = (await tokens.open('stream', token))!
      res.status(201).json({ token, expiresAt })
    },
  },
})

/** Lets in who brings `?token=`, for the session of the path and no other. */
export const byToken =
  ({ tokens, attempt }: Pick<NativeParts, 'tokens' | 'attempt'>): Admit =>
  async (call, req) => {
    const given = req.query['token']
    if (given === undefined) return false
    // a good one is heard from any address: EventSource would give up for good at a 429
    const opened =
      typeof given === 'string'
        ? ((await tokens?.open('stream', given)) ?? (await attempt(req, given, () => Promise.resolve(undefined))))
        : undefined
    if (!opened) {
      const message = 'The token has expired, or is none of this gateway. Ask for another one.'
      throw new ThroughlineError('unauthorized', { message, param: 'token' })
    }
    if (sessionNamed(req) !== opened.session) throw new ThroughlineError('not_found')
    call.opened = opened.session
    call.hold = holdUntil(opened.expiresAt)
    return true
  }

function sessionNamed({ params: { session, interaction } }: Request): string | undefined {
  if (typeof interaction === 'string' && isInteractionId(interaction)) return sessionOf(interaction)
  return typeof session === 'string' && isSessionId(session) ? session : undefined
}

/** Whose streams are read: asked for late, since an outage of Redis must not be the answer to an EventSource. */
export const readerOf = async (core: Core, call: Call): Promise<string> =>
  call.opened ? core.ownerOf(call.opened) : call.owner
