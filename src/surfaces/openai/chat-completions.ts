import type { Request } from 'express'
import type { Interaction } from '../../core/core.js'
import { PoolName } from '../../protocol/agent-wire.js'
import { ThroughlineError } from '../../protocol/errors.js'
import { isSessionId, type InteractionId, type SessionId } from '../../protocol/ids.js'
import { isTerminal } from '../../protocol/interaction.js'
import type { Call } from '../http/call.js'
import type { Routes } from '../http/app.js'
import { onceOf } from '../http/once.js'
import { parse } from '../http/parse.js'
import { takePlace } from '../http/place.js'
import { announceTurn } from '../http/turn.js'
import { CANCELLED, TurnFailed } from './errors.js'
import { ChatProjection, chatUsage, FINISH, type ChatHead } from './project.js'
import { promptOf, refuseUnsupported } from './prompt.js'
import type { OpenAiParts } from './parts.js'
import { ChatRequest } from './schemas.js'
import { streamTurn } from './stream.js'

/** undici gives up on silence after 300 s, and no header may go out before the end: a failure needs its status. */
const SILENT_WAIT_MS = 280_000

/** Fields that say how to answer, not what is asked. */
const REPLY_FIELDS = ['stream', 'stream_options']

/** `POST /v1/chat/completions`: a model is a pool; a session is named by header or metadata, else it is a new one. */
export function chatRoutes(parts: OpenAiParts): Routes {
  const { core, limits } = parts

  /** The session the request names. Throws `not_found`, and `invalid_request` when `model` is not that session's pool. */
  async function sessionFor(
    call: Call,
    req: Request,
    { model, metadata }: ChatRequest,
  ): Promise<SessionId | undefined> {
    const header = req.get('throughline-session-id')
    const id = header ?? metadata?.['session_id']
    if (id === undefined) return undefined
    const param = header === undefined ? 'metadata.session_id' : 'throughline-session-id'
    if (!isSessionId(id)) throw new ThroughlineError('not_found', { param })
    call.session = id
    const { pool } = await core.session(call.owner, id)
    if (pool !== '' && pool !== model)
      throw new ThroughlineError('invalid_request', { message: `This session belongs to "${pool}".`, param: 'model' })
    return id
  }

  async function whole(call: Call, id: InteractionId): Promise<object> {
    const turn = await core.wait(call.owner, id, Math.min(limits.waitLimitMs, SILENT_WAIT_MS), call.over)
    if (!isTerminal(turn.status)) throw new ThroughlineError('wait_limit')
    if (turn.status !== 'completed') throw new TurnFailed(turn.error ?? CANCELLED)
    return completion(turn)
  }

  return {
    '/chat/completions': {
      message: true,
      async post(call, req, res) {
        const request = parse(ChatRequest, req.body)
        const { model, messages, metadata, stream, stream_options: options } = request
        refuseUnsupported(request)
        if (!PoolName.safeParse(model).success) throw new ThroughlineError('model_not_found', { param: 'model' })
        const session = await sessionFor(call, req, request)
        const once = onceOf(req, REPLY_FIELDS, { session })
        if (stream) await takePlace(parts, call, { resumable: false })
        const turn = await core.submit(call.owner, {
          text: promptOf(messages, session !== undefined),
          to: session ? { session, pool: model } : { pool: model },
          ...(metadata && { metadata }),
          once,
          trail: call.trail(),
        })
        announceTurn(call, res, turn)
        if (!stream) {
          const answer = whole(call, turn.interaction).catch(async (error: unknown) => {
            await core.expectAgain(call.owner, once, turn).catch(() => {}) // the answer is an error already
            throw error
          })
          return void res.json(await answer)
        }
        const head = headOf(await core.interaction(call.owner, turn.interaction))
        const projection = new ChatProjection(head, { includeUsage: options?.include_usage === true })
        await streamTurn(parts, call, req, res, turn.interaction, projection)
      },
    },
  }
}

const headOf = ({ id, createdAt, pool }: Interaction): ChatHead => ({
  id: `chatcmpl-${id.slice('int_'.length)}`,
  created: Math.floor(createdAt / 1000),
  model: pool,
})

/** A completed turn as the one object of a reply that is not streamed. */
export function completion(turn: Interaction): object {
  const { id, created, model } = headOf(turn)
  const message = { role: 'assistant', content: turn.text, refusal: null, annotations: [] }
  return {
    id,
    object: 'chat.completion',
    created,
    model,
    service_tier: 'default',
    choices: [{ index: 0, message, logprobs: null, finish_reason: FINISH[turn.stopReason ?? 'end_turn'] }],
    ...(turn.usage && { usage: chatUsage(turn.usage) }),
  }
}
