import type { Request } from 'express'
import { PoolName } from '../../protocol/agent-wire.js'
import { ThroughlineError, type ErrorCode } from '../../protocol/errors.js'
import type { InteractionId, SessionId } from '../../protocol/ids.js'
import { isTerminal } from '../../protocol/interaction.js'
import type { Interaction } from '../../core/core.js'
import type { Handler, Routes } from '../http/app.js'
import type { Call } from '../http/call.js'
import { sendLate } from '../http/late.js'
import { onceOf } from '../http/once.js'
import { parse } from '../http/parse.js'
import { takePlace } from '../http/place.js'
import { announceTurn } from '../http/turn.js'
import { askedOf, readAsked, ResponseRequest, type Asked } from './asked.js'
import { interactionOfResponse, responseIdOf, sessionOfConversation } from './ids.js'
import { inputItemsOf, messagesOf, promptOfMessages } from './input.js'
import { listOf, ListQuery } from './paging.js'
import type { OpenAiParts } from './parts.js'
import { preludeOf } from './prelude.js'
import { headOf, responseObject, stateOf, type ResponseHead } from './response.js'
import { streamResponse } from './stream-response.js'

/** Fields that say how to answer, not what is asked. */
const REPLY_FIELDS = ['stream', 'stream_options']

/** Where a request wants to go on, or undefined for a new session. */
interface Target {
  session: SessionId
  follows?: InteractionId
}

/** `/v1/responses`: a response is a turn, a conversation its session, a model a pool. */
export function responseRoutes(parts: OpenAiParts): Routes {
  const { core, limits } = parts

  async function targetOf(call: Call, request: ResponseRequest): Promise<Target | undefined> {
    const { conversation, previous_response_id: previous } = request
    if (previous) {
      const id = interactionOfResponse(previous)
      const param = 'previous_response_id'
      if (!id) throw new ThroughlineError('response_not_found', { param })
      const { session } = await core.interaction(call.owner, id).catch(named('response_not_found', param))
      return { session, follows: id }
    }
    if (!conversation) return undefined
    const session = sessionOfConversation(typeof conversation === 'string' ? conversation : conversation.id)
    const param = 'conversation'
    if (!session) throw new ThroughlineError('conversation_not_found', { param })
    await core.session(call.owner, session).catch(named('conversation_not_found', param))
    return { session }
  }

  /** The turn behind a response's id, and what it was asked with. What was not to be stored is gone with its end. */
  async function known(call: Call, text: unknown): Promise<{ turn: Interaction; asked: Asked }> {
    const id = interactionOfResponse(text)
    if (!id) throw new ThroughlineError('response_not_found')
    const [turn, note] = await Promise.all([core.interaction(call.owner, id), core.note(call.owner, id)]).catch(
      named('response_not_found'),
    )
    const asked = readAsked(note)
    if (!asked.store && isTerminal(turn.status)) throw new ThroughlineError('response_not_found')
    call.interaction = turn.id
    call.session = turn.session
    return { turn, asked }
  }

  /** The response when it has ended, or as it is at the limit. */
  async function whole(call: Call, head: ResponseHead): Promise<object> {
    return responseObject(head, stateOf(await core.wait(call.owner, head.interaction, limits.waitLimitMs, call.over)))
  }

  const create: Handler = async (call, req, res) => {
    const request = parse(ResponseRequest, req.body)
    refuseUnsupported(request)
    const { model, input, instructions, metadata } = request
    const target = await targetOf(call, request)
    if (model ? !PoolName.safeParse(model).success : !target)
      throw new ThroughlineError(model ? 'model_not_found' : 'invalid_request', {
        ...(!model && { message: 'Name a model, or a conversation or previous response that has one.' }),
        param: 'model',
      })
    const messages = await messagesOf(core, call.owner, input)
    const prelude = target ? await preludeOf(core, call.owner, target.session) : []
    const text = promptOfMessages([...prelude, ...messages], instructions)
    const asked = askedOf(request, messages, text)
    if (request.stream) await takePlace(parts, call, { resumable: false })
    const turn = await core
      .submit(call.owner, {
        text,
        to: target ? { session: target.session, ...(model && { pool: model }) } : { pool: model! },
        ...(metadata && { metadata }),
        ...(target?.follows && { follows: target.follows }),
        note: JSON.stringify(asked),
        ephemeral: !asked.store,
        once: onceOf(req, REPLY_FIELDS),
        trail: call.trail(),
      })
      .catch(inTheirWords)
    announceTurn(call, res, turn)
    const head = { ...turn, metadata: metadata ?? {}, asked }
    if (request.stream) return streamResponse(parts, call, req, res, head, { after: -1, tip: 0 })
    if (!asked.background) return sendLate(res, limits.keepAliveMs, whole(call, head))
    const now = await core.interaction(call.owner, turn.interaction).catch(named('response_not_found'))
    res.json(responseObject(head, stateOf(now)))
  }

  return {
    '/responses': { message: true, post: create },

    // routes of OpenAI's that would else be taken for the id of a response
    '/responses/compact': { post: notOffered },
    '/responses/input_tokens': { post: notOffered },

    '/responses/:response': {
      async get(call, req, res) {
        const { turn, asked } = await known(call, req.params['response'])
        announceTurn(call, res, { session: turn.session, interaction: turn.id })
        const head = headOf(turn, asked)
        if (!isStream(req)) return void res.json(responseObject(head, stateOf(turn)))
        const after = startingAfter(req)
        await takePlace(parts, call, { resumable: false })
        await streamResponse(parts, call, req, res, head, { after, tip: turn.tip })
      },

      async delete(call, req, res) {
        const { turn } = await known(call, req.params['response'])
        await core.forget(call.owner, turn.id).catch(named('response_not_found'))
        res.json({ id: responseIdOf(turn.id), object: 'response', deleted: true })
      },
    },

    '/responses/:response/cancel': {
      async post(call, req, res) {
        const { turn: before, asked } = await known(call, req.params['response'])
        const turn = await core.cancel(call.owner, before.id).catch(named('response_not_found'))
        if (turn.status !== 'cancelled') throw new ThroughlineError('response_not_cancellable')
        announceTurn(call, res, { session: turn.session, interaction: turn.id })
        res.json(responseObject(headOf(before, asked), stateOf(turn)))
      },
    },

    '/responses/:response/input_items': {
      async get(call, req, res) {
        const { turn, asked } = await known(call, req.params['response'])
        const { limit, order, after } = parse(ListQuery, req.query)
        const items = inputItemsOf(turn, asked)
        if (order === 'desc') items.reverse()
        const from = after === undefined ? 0 : items.findIndex(({ id }) => id === after) + 1
        if (after !== undefined && from === 0)
          throw new ThroughlineError('invalid_request', { message: 'No such item in this list.', param: 'after' })
        res.json(listOf(items.slice(from, from + limit), from + limit < items.length))
      },
    },
  }
}

const notOffered: Handler = () => {
  throw new ThroughlineError('unknown_url')
}

/** What is not known is a particular thing here. */
const named =
  (code: ErrorCode, param?: string) =>
  (thrown: unknown): never => {
    if (!(thrown instanceof ThroughlineError) || thrown.code !== 'not_found') throw thrown
    throw new ThroughlineError(code, param === undefined ? {} : { param })
  }

/** Refusals of a message, with the field that is to blame as it is called here. */
function inTheirWords(thrown: unknown): never {
  if (!(thrown instanceof ThroughlineError)) throw thrown
  const { code, param, message } = thrown
  if (code === 'session_moved_on') throw new ThroughlineError(code, { param: 'previous_response_id' })
  throw param === 'pool' ? new ThroughlineError(code, { message, param: 'model' }) : thrown
}

/** Refuses what cannot be honoured, and what contradicts itself. */
function refuseUnsupported(request: ResponseRequest): void {
  const { tools, background, store, conversation, previous_response_id: previous } = request
  if ((tools ?? []).length > 0)
    throw new ThroughlineError('unsupported_parameter', {
      message: 'Agents bring their own tools; leave "tools" out.',
      param: 'tools',
    })
  if (background && store === false)
    throw new ThroughlineError('invalid_request', {
      message: 'A response in the background must be stored: nobody else keeps it.',
      param: 'store',
    })
  if (conversation && previous)
    throw new ThroughlineError('invalid_request', {
      message: 'Name either the conversation or the previous response, not both.',
      param: 'previous_response_id',
    })
}

function isStream(req: Request): boolean {
  const given = req.query['stream']
  if (given === undefined || given === 'false') return false
  if (given === 'true') return true
  throw new ThroughlineError('invalid_request', { message: 'must be true or false', param: 'stream' })
}

/** The last `sequence_number` that the client has, -1 for none. Throws `invalid_cursor`. */
function startingAfter(req: Request): number {
  const given = req.query['starting_after']
  if (given === undefined) return -1
  if (typeof given === 'string' && /^\d{1,15}$/.test(given)) return Number(given)
  throw new ThroughlineError('invalid_cursor', {
    message: 'starting_after is the sequence_number of an event of this response.',
    param: 'starting_after',
  })
}
