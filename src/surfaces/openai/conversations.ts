import { z } from 'zod'
import type { Core, Interaction, Session } from '../../core/core.js'
import { ThroughlineError } from '../../protocol/errors.js'
import { sessionOf, type InteractionId, type SessionId } from '../../protocol/ids.js'
import type { Routes } from '../http/app.js'
import type { Call } from '../http/call.js'
import { onceOf } from '../http/once.js'
import { Metadata, parse } from '../http/parse.js'
import { InputItems, readAsked } from './asked.js'
import { conversationIdOf, firstItemId, interactionOfItem, sessionOfConversation } from './ids.js'
import { inputItemOf, itemsOf, itemsOfTurn, messagesOf } from './input.js'
import { listOf, ListQuery } from './paging.js'
import type { OpenAiParts } from './parts.js'
import { readPrelude, writePrelude } from './prelude.js'

const NewConversation = z.looseObject({
  metadata: Metadata.nullish(),
  items: InputItems.max(20).nullish(),
})
const Update = z.looseObject({ metadata: Metadata })

/** Turns that are read at a time for a page of items. */
const TURNS_AT_A_TIME = 20

type Item = Awaited<ReturnType<typeof itemsOf>>[number]

/** `/v1/conversations`: a conversation is a session. It has no pool until its first response names a model. */
export function conversationRoutes({ core }: OpenAiParts): Routes {
  async function known(call: Call, text: unknown): Promise<Session> {
    const id = sessionOfConversation(text)
    if (!id) throw new ThroughlineError('conversation_not_found')
    call.session = id
    return core.session(call.owner, id).catch(unknownConversation)
  }

  return {
    '/conversations': {
      async post(call, req, res) {
        req.body ??= {}
        const { metadata, items } = parse(NewConversation, req.body)
        const { session, replayed } = await core.createSession(call.owner, {
          ...(metadata && { metadata }),
          note: writePrelude(await messagesOf(core, call.owner, items ?? [], 'items')),
          once: onceOf(req, []),
        })
        call.session = session.id
        res.set('throughline-session-id', session.id)
        if (replayed) res.set('Idempotent-Replayed', 'true')
        res.json(conversationOf(session))
      },
    },

    '/conversations/:conversation': {
      async get(call, req, res) {
        res.json(conversationOf(await known(call, req.params['conversation'])))
      },

      async post(call, req, res) {
        const { id } = await known(call, req.params['conversation'])
        const { metadata } = parse(Update, req.body ?? {})
        res.json(conversationOf(await core.describeSession(call.owner, id, metadata).catch(unknownConversation)))
      },

      async delete(call, req, res) {
        const { id } = await known(call, req.params['conversation'])
        await core.deleteSession(call.owner, id).catch(unknownConversation)
        res.json({ id: conversationIdOf(id), object: 'conversation.deleted', deleted: true })
      },
    },

    '/conversations/:conversation/items': {
      async get(call, req, res) {
        const { id } = await known(call, req.params['conversation'])
        const { limit, order, after } = parse(ListQuery, req.query)
        const page: Item[] = []
        let found = after === undefined
        for await (const item of items(core, call.owner, id, order, interactionOfItem(after))) {
          if (found) page.push(item)
          if (item.id === after) found = true
          if (page.length > limit) break
        }
        if (!found)
          throw new ThroughlineError('invalid_request', { message: 'No such item in this list.', param: 'after' })
        res.json(listOf(page.slice(0, limit), page.length > limit))
      },
    },

    '/conversations/:conversation/items/:item': {
      async get(call, req, res) {
        const { id } = await known(call, req.params['conversation'])
        const named = req.params['item']
        const turn = interactionOfItem(named)
        const all = turn ? await itemsOf(core, call.owner, turn).catch(none) : await firstItems(core, call.owner, id)
        const item = all.find((it) => it.id === named)
        if (!item || (turn && sessionOf(turn) !== id)) throw new ThroughlineError('not_found')
        res.json(item)
      },
    },
  }
}

/** All items of a session, from those of the turn `from` on, where it is given and known. */
async function* items(
  core: Core,
  owner: string,
  session: SessionId,
  order: 'asc' | 'desc',
  from: InteractionId | undefined,
): AsyncGenerator<Item> {
  if (from && sessionOf(from) !== session) return
  const inOrder = (all: Item[]) => (order === 'desc' ? all.reverse() : all)
  const ofTurn = async (turn: Interaction) =>
    inOrder(itemsOfTurn(turn, readAsked(await core.note(owner, turn.id).catch(() => ''))))
  if (from) yield* inOrder(await itemsOf(core, owner, from).catch(none))
  else if (order === 'asc') yield* await firstItems(core, owner, session)
  for (let after: InteractionId | null = from ?? null; ;) {
    const page: { interactions: Interaction[]; next: InteractionId | null } = await core.transcript(owner, session, {
      limit: TURNS_AT_A_TIME,
      order,
      ...(after && { after }),
    })
    for (const turn of page.interactions) yield* await ofTurn(turn)
    after = page.next
    if (after === null) break
  }
  if (order === 'desc') yield* (await firstItems(core, owner, session)).reverse()
}

/** What a conversation was made with. */
const firstItems = async (core: Core, owner: string, id: SessionId): Promise<Item[]> =>
  readPrelude(await core.note(owner, id)).map((message, k) => inputItemOf(firstItemId(id, k), message))

const conversationOf = ({ id, createdAt, metadata }: Session) => ({
  id: conversationIdOf(id),
  object: 'conversation',
  created_at: Math.floor(createdAt / 1000),
  metadata,
})

function unknownConversation(thrown: unknown): never {
  const unknown = thrown instanceof ThroughlineError && thrown.code === 'not_found'
  throw unknown ? new ThroughlineError('conversation_not_found') : thrown
}

function none(thrown: unknown): Item[] {
  if (thrown instanceof ThroughlineError && thrown.code === 'not_found') return []
  throw thrown
}
