import type { Request, Response, Router } from 'express'
import type { Core, Interaction } from '../../core/core.js'
import { ThroughlineError } from '../../protocol/errors.js'
import { emptyTurn, fold } from '../../protocol/fold.js'
import { isSessionId, type InteractionId, type SessionId } from '../../protocol/ids.js'
import { isTerminal } from '../../protocol/interaction.js'
import { START } from '../../protocol/sequence.js'
import { Spoken } from '../../protocol/spoken.js'
import { PASS, surface, type Routes } from '../http/app.js'
import type { Call } from '../http/call.js'
import { explain, renderNative, reportBug, type RenderError } from '../http/errors.js'
import { onceOf } from '../http/once.js'
import { interactionIn, MAX_TEXT, parse, sessionIn } from '../http/parse.js'
import type { HttpParts } from '../http/parts.js'
import { comment, EventStream, frame } from '../http/sse.js'
import { takePlace } from '../http/place.js'
import { announceTurn } from '../http/turn.js'
import { ChatRequest, Page, QueuedMessage } from './schemas.js'
import { shown } from './shown.js'

export interface HelixHttpParts extends HttpParts {
  core: Core
  /** Pool of sessions that are made here; '' for none. */
  pool: string
}

/**
 * The HTTP doors of Helix' clients, beside the native ones under `/api/v1`: send, queue, list and read. Where a path is
 * also a native one, what is asked (`content` for `text`, `page`) tells whose it is.
 */
export function helixSurface(parts: HelixHttpParts): Router {
  const { core, limits } = parts

  function poolFor({ app_id: app }: ChatRequest): string {
    const pool = app || parts.pool
    if (pool) return pool
    throw new ThroughlineError('model_not_found', {
      message: 'No pool to make the session in: set HELIX_POOL on the gateway, or name a pool as app_id.',
      param: 'app_id',
    })
  }

  async function chat(call: Call, req: Request, res: Response): Promise<void> {
    const asked = parse(ChatRequest, req.body)
    refuseRegeneration(asked)
    const prompt = promptOf(asked)
    const id = asked.session_id || undefined
    if (id !== undefined && !isSessionId(id)) throw new ThroughlineError('not_found', { param: 'session_id' })
    if (asked.stream) await takePlace(parts, call, { resumable: false })
    const turn = await core.submit(call.owner, {
      to: id ? { session: id } : { pool: poolFor(asked) },
      text: id || !asked.system ? prompt : `${asked.system}\n\n**User Request:**\n${prompt}`,
      once: onceOf(req, ['stream']),
      trail: call.trail(),
    })
    announceTurn(call, res, turn)
    res.set('X-Interaction-ID', turn.interaction)
    const head = { id: turn.session, created: 0, model: asked.model ?? '' }
    if (asked.stream) return stream(call, req, res, turn.interaction, head)
    const done = await core.wait(call.owner, turn.interaction, limits.waitLimitMs, call.over)
    if (!isTerminal(done.status)) throw new ThroughlineError('wait_limit')
    const failure = failureOf(done)
    if (failure) throw new ThroughlineError('turn_failed', { message: `external agent error: ${failure}` })
    const message = { role: 'assistant', content: done.text }
    res.json({ ...head, object: 'chat.completion', choices: [{ index: 0, message, finish_reason: 'stop' }] })
  }

  /** The text as it grows, told as `Spoken` says. Whatever goes wrong after the head is an error frame without `[DONE]`. */
  async function stream(
    call: Call,
    req: Request,
    res: Response,
    id: InteractionId,
    head: { id: SessionId; created: number; model: string },
  ): Promise<void> {
    const kind = { surface: 'helix', keepAlive: comment('keep-alive'), cut: parts.hardStop }
    const sse = new EventStream(parts, call, req, res, kind)
    const chunk = (choices: object[] | null) => frame({ data: { ...head, object: 'chat.completion.chunk', choices } })
    const followed = await core.follow(call.owner, id, START, sse.signal)
    sse.open()
    await sse.write([chunk(null)])
    let turn = emptyTurn()
    const spoken = new Spoken()
    let failure: string | undefined
    try {
      for await (const part of followed) {
        turn = part.type === 'snapshot' ? part.turn : part.events.reduce(fold, turn)
        const told = part.type === 'snapshot' ? spoken.snapshot(turn) : part.events.map((event) => spoken.event(event))
        const content = told.join('')
        if (content !== '') await sse.write([chunk([{ index: 0, delta: { content }, finish_reason: null }])])
        if (spoken.void) break
      }
      failure = spoken.void
        ? VOID
        : (sse.refusal?.message ?? failureOf({ status: turn.status, error: turn.error ?? null }))
    } catch (thrown) {
      if (sse.gone) return // the viewer has left, the turn goes on
      const error = explain(thrown)
      reportBug(parts, call, error)
      failure = error.message
    }
    if (sse.gone) return
    if (failure) await sse.write([frame({ data: { error: { message: `External agent error: ${failure}` } } })])
    else await sse.write([chunk([{ index: 0, delta: {}, finish_reason: 'stop' }]), Buffer.from('data: [DONE]\n\n')])
    sse.end('done')
  }

  const routes: Routes = {
    '/sessions/chat': { message: true, post: chat },

    '/sessions/:session/messages': {
      message: true,
      async post(call, req, res) {
        if (!speaksHelix(req)) return PASS
        const session = sessionIn(call, req.params['session'])
        const { content, interrupt } = parse(QueuedMessage, req.body)
        const turn = await core.submit(call.owner, {
          to: { session },
          text: content,
          ...(interrupt && { interrupt: 'threaded' as const }),
          once: onceOf(req, []),
          trail: call.trail(),
        })
        announceTurn(call, res, turn)
        res.json({ prompt_id: turn.interaction })
      },
    },

    '/sessions/:session/interactions': {
      async get(call, req, res) {
        if (!speaksHelix(req)) return PASS
        const session = sessionIn(call, req.params['session'])
        const { page, per_page: size, order } = parse(Page, req.query)
        const at = { offset: page * size, limit: size, newestFirst: order === 'desc' }
        const { interactions, total } = await core.turns(call.owner, session, at)
        res.json({
          interactions: interactions.map((turn) => shown(turn, true)),
          page,
          pageSize: size,
          totalCount: total,
          totalPages: Math.ceil(total / size),
        })
      },
    },

    '/sessions/:session/interactions/:interaction': {
      async get(call, req, res) {
        const session = sessionIn(call, req.params['session'])
        const turn = await core.interaction(call.owner, interactionIn(call, req.params['interaction']))
        if (turn.session !== session) throw new ThroughlineError('not_found')
        res.json(shown(turn))
      },
    },
  }
  return surface(parts, routes, renderHelix, { passOn: true })
}

/** Whether a request to a path that is also a native one is meant for this door. */
const speaksHelix = ({ path, query, body }: Request): boolean =>
  path === '/sessions/chat' ||
  query['page'] !== undefined ||
  query['per_page'] !== undefined ||
  Object.hasOwn(Object(body) as object, 'content')

/** Helix answers errors as plain text. */
const renderHelix: RenderError = (error, requestId, req) =>
  speaksHelix(req) ? plain(error) : renderNative(error, requestId)
const plain = (error: ThroughlineError) => ({ body: `${error.message}\n`, headers: { 'Content-Type': 'text/plain' } })

function promptOf({ messages }: ChatRequest): string {
  const content = messages.at(-1)!.content
  const text =
    typeof content === 'string' ? content : content.parts.filter((part) => typeof part === 'string').join('\n')
  if (text.trim() === '' || text.length > MAX_TEXT)
    throw new ThroughlineError('invalid_request', {
      message: text.length > MAX_TEXT ? `A message has at most ${MAX_TEXT} characters.` : 'no user message found',
      param: `messages[${messages.length - 1}].content`,
    })
  return text
}

/** Taken for a new message it would stand in the conversation twice. */
function refuseRegeneration({ regenerate, interaction_id: id, messages }: ChatRequest): void {
  if (!regenerate && !(id && messages.length > 1)) return
  throw new ThroughlineError('unsupported_parameter', {
    message: 'Another answer to an earlier prompt is not offered here: agents keep one line of conversation.',
    param: regenerate ? 'regenerate' : 'interaction_id',
  })
}

const VOID = 'the agent was lost and another one begins the answer anew: what was sent so far is void'

function failureOf({ status, error }: Pick<Interaction, 'status' | 'error'>): string | undefined {
  if (status === 'completed') return undefined
  return status === 'cancelled' ? 'the turn was cancelled' : (error?.message ?? 'the turn failed')
}
