import type { Core, Interaction } from '../../core/core.js'
import { ThroughlineError } from '../../protocol/errors.js'
import type { InteractionId } from '../../protocol/ids.js'
import { readAsked, type Asked, type InputItems, type InputMessage } from './asked.js'
import { inputItemId, interactionOfItem } from './ids.js'
import { outputOf, type OutputItem } from './items.js'
import { spoken } from './prompt.js'

/** Most earlier turns that the references of one request may lead to. */
const MAX_REFERENCED = 100

const ROLES = ['user', 'system', 'developer', 'assistant'] as const

/** Items of an earlier output that a client sends along; the agent that made them is not told of them again. */
const PASSED_OVER = ['reasoning', 'mcp_call']

/**
 * The messages of an input. A reference is replaced by the message that it names.
 * Throws `invalid_request`, and `unsupported_parameter` for what an agent cannot take, each with the item's `param`.
 */
export async function messagesOf(
  core: Core,
  owner: string,
  input: string | InputItems,
  param = 'input',
): Promise<InputMessage[]> {
  if (typeof input === 'string') return [{ role: 'user', texts: [input] }]
  const known = new Map<InteractionId, ListedItem[]>()
  const messages: InputMessage[] = []
  for (const [i, item] of input.entries()) {
    const at = `${param}[${i}]`
    const type = item.type ?? 'message'
    if (type === 'message') messages.push(messageOf(item, at))
    else if (type === 'item_reference') messages.push(...(await referenced(core, owner, item['id'], at, known)))
    else if (!PASSED_OVER.includes(type))
      throw new ThroughlineError('unsupported_parameter', {
        message: `Agents take messages, not "${type}".`,
        param: at,
      })
  }
  return messages
}

function messageOf(item: Record<string, unknown>, param: string): InputMessage {
  const role = ROLES.find((it) => it === item['role'])
  if (!role)
    throw new ThroughlineError('invalid_request', {
      message: `must be one of ${ROLES.join(', ')}`,
      param: `${param}.role`,
    })
  const { content } = item
  if (typeof content === 'string') return { role, texts: [content] }
  if (!Array.isArray(content))
    throw new ThroughlineError('invalid_request', {
      message: 'must be a text or a list of content parts',
      param: `${param}.content`,
    })
  return { role, texts: content.map((part, i) => textOf(part, `${param}.content[${i}]`)) }
}

function textOf(part: unknown, param: string): string {
  const { type, text, refusal } = Object(part) as Record<string, unknown>
  if ((type === 'input_text' || type === 'output_text' || type === 'text') && typeof text === 'string') return text
  if (type === 'refusal' && typeof refusal === 'string') return refusal
  throw new ThroughlineError('unsupported_parameter', {
    message: `Agents take text only, not "${String(type)}".`,
    param,
  })
}

async function referenced(
  core: Core,
  owner: string,
  id: unknown,
  param: string,
  known: Map<InteractionId, ListedItem[]>,
): Promise<InputMessage[]> {
  const interaction = interactionOfItem(id)
  if (interaction && !known.has(interaction) && known.size < MAX_REFERENCED)
    known.set(interaction, await itemsOf(core, owner, interaction).catch(asUnknown))
  const item = interaction && known.get(interaction)?.find((it) => it.id === id)
  if (!item)
    throw new ThroughlineError('invalid_request', {
      message: 'No item with this id is known to you.',
      param: `${param}.id`,
    })
  if (item.type !== 'message') return []
  return [{ role: item.role, texts: item.content.map(({ text }) => text) }]
}

function asUnknown(thrown: unknown): ListedItem[] {
  if (thrown instanceof ThroughlineError && thrown.code === 'not_found') return []
  throw thrown
}

/** What the agent is told. Throws `invalid_request` when there is nothing to say. */
export function promptOfMessages(messages: InputMessage[], instructions: string | null | undefined): string {
  const said = messages.map(({ role, texts }) => ({ role: role as string, text: texts.join('') }))
  const told = said.filter(({ text }) => text.trim() !== '')
  if (told.length === 0)
    throw new ThroughlineError('invalid_request', { message: 'The input has no text.', param: 'input' })
  if (instructions) told.unshift({ role: 'developer', text: instructions })
  return spoken(told, 'input')
}

/** A message in a list of items. */
export interface InputItem {
  id: string
  type: 'message'
  role: InputMessage['role']
  status: 'completed'
  content: { type: 'input_text' | 'output_text'; text: string }[]
}
type ListedItem = InputItem | OutputItem

export const inputItemOf = (id: string, { role, texts }: InputMessage): InputItem => ({
  id,
  type: 'message',
  role,
  status: 'completed',
  content: texts.map((text) =>
    role === 'assistant'
      ? { type: 'output_text' as const, text, annotations: [], logprobs: [] }
      : { type: 'input_text' as const, text },
  ),
})

/** The items that a turn was asked with, in order. */
export function inputItemsOf(turn: Interaction, asked: Asked): InputItem[] {
  const messages = asked.items ?? [{ role: 'user', texts: [turn.input] } satisfies InputMessage]
  return messages.map((message, k) => inputItemOf(inputItemId(turn.id, k), message))
}

/** All items of a turn, what was asked and what was answered. Throws `not_found`. */
export async function itemsOf(core: Core, owner: string, id: InteractionId): Promise<ListedItem[]> {
  return itemsOfTurn(await core.interaction(owner, id), readAsked(await core.note(owner, id)))
}

export const itemsOfTurn = (turn: Interaction, asked: Asked): ListedItem[] => [
  ...inputItemsOf(turn, asked),
  ...outputOf(turn.id, turn.pool, { ...turn, entries: turn.output }),
]
