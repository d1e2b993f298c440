import type { Request, Response } from 'express'
import type { Interaction, NewMessage } from '../../core/core.js'
import type { InteractionId } from '../../protocol/ids.js'
import type { Routes } from '../http/app.js'
import type { Call } from '../http/call.js'
import { sendLate } from '../http/late.js'
import { onceOf } from '../http/once.js'
import { cursorIn, interactionIn, parse, sessionIn } from '../http/parse.js'
import { takePlace } from '../http/place.js'
import { announceTurn } from '../http/turn.js'
import type { View } from './follow.js'
import type { NativeParts } from './parts.js'
import { Answer, FirstMessage, Message } from './schemas.js'
import { byToken } from './tokens.js'

/** Fields that say how to answer; a message that comes again may be asked for in another way. */
const REPLY_FIELDS = ['stream', 'wait']

/** Messages and the turns they become: post, follow, read, cancel, answer what the agent asks. */
export function messageRoutes(parts: NativeParts, view: View): Routes {
  const { core, limits } = parts

  async function post(
    call: Call,
    req: Request,
    res: Response,
    message: NewMessage,
    reply: { stream: boolean; wait: boolean },
  ) {
    const after = cursorIn(req) // a stream that broke may be asked for again by the same POST
    if (reply.stream) await takePlace(parts, call, { resumable: true })
    const turn = await core.submit(call.owner, {
      ...message,
      once: onceOf(req, REPLY_FIELDS),
      trail: call.trail(),
    })
    announceTurn(call, res, turn)
    if (reply.stream) return view(call, req, res, turn.interaction, after)
    if (reply.wait) return sendLate(res, limits.keepAliveMs, waited(call, turn.interaction))
    const { session, interaction, queued } = turn
    const self = `${req.baseUrl}/interactions/${interaction}`
    const links = { interaction: self, events: `${self}/events`, cancel: `${self}/cancel` }
    res.status(202).location(self).json({ session, interaction, queued, links })
  }

  /** The turn when it has ended, or as it is at the limit, or as it is when this replica leaves. */
  async function waited(call: Call, id: InteractionId): Promise<Interaction> {
    const stop = new AbortController()
    const abort = () => stop.abort()
    for (const signal of [parts.draining, call.over]) signal.addEventListener('abort', abort)
    if (parts.draining.aborted) abort()
    try {
      return await core.wait(call.owner, id, limits.waitLimitMs, stop.signal)
    } finally {
      for (const signal of [parts.draining, call.over]) signal.removeEventListener('abort', abort)
    }
  }

  return {
    '/messages': {
      message: true,
      async post(call, req, res) {
        const { pool, session, text, metadata, webhook, stream, wait } = parse(FirstMessage, req.body)
        const to = {
          pool,
          ...(session.title !== undefined && { title: session.title }),
          ...(session.metadata && { metadata: session.metadata }),
        }
        await post(call, req, res, { to, text, ...optional(metadata, webhook) }, { stream, wait })
      },
    },

    '/sessions/:session/messages': {
      message: true,
      async post(call, req, res) {
        const session = sessionIn(call, req.params['session'])
        const { text, metadata, interrupt, webhook, stream, wait } = parse(Message, req.body)
        await post(
          call,
          req,
          res,
          { to: { session }, text, interrupt, ...optional(metadata, webhook) },
          { stream, wait },
        )
      },
    },

    '/sessions/:session/cancel': {
      async post(call, req, res) {
        const { id, current } = await core.session(call.owner, sessionIn(call, req.params['session']))
        if (!current) return void res.json({ status: 'noop', interaction: null })
        announceTurn(call, res, { session: id, interaction: current })
        const interaction = await core.cancel(call.owner, current)
        res.json({ status: interaction.status === 'cancelled' ? 'cancelled' : 'noop', interaction })
      },
    },

    '/interactions/:interaction': {
      async get(call, req, res) {
        const interaction = await core.interaction(call.owner, interactionIn(call, req.params['interaction']))
        announceTurn(call, res, { session: interaction.session, interaction: interaction.id })
        res.json(interaction)
      },
    },

    '/interactions/:interaction/events': {
      admit: byToken(parts),
      stream: true,
      async get(call, req, res) {
        await view(call, req, res, interactionIn(call, req.params['interaction']), cursorIn(req))
      },
    },

    '/interactions/:interaction/permissions/:permission': {
      async post(call, req, res) {
        const { option } = parse(Answer, req.body)
        const id = interactionIn(call, req.params['interaction'])
        const interaction = await core.answer(call.owner, id, req.params['permission'] as string, option)
        announceTurn(call, res, { session: interaction.session, interaction: interaction.id })
        res.json(interaction)
      },
    },

    '/interactions/:interaction/cancel': {
      async post(call, req, res) {
        const interaction = await core.cancel(call.owner, interactionIn(call, req.params['interaction']))
        announceTurn(call, res, { session: interaction.session, interaction: interaction.id })
        res.json(interaction)
      },
    },
  }
}

const optional = (metadata: NewMessage['metadata'], webhook: { url: string } | undefined) => ({
  ...(metadata && { metadata }),
  ...(webhook && { webhook: webhook.url }),
})
