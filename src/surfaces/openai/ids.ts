import { isInteractionId, isSessionId, sessionOf, type InteractionId, type SessionId } from '../../protocol/ids.js'

/** OpenAI's ids are ours with another prefix, so nothing is looked up: `resp_` is an interaction, `conv_` a session. */
export type ResponseId = `resp_${string}`
export type ConversationId = `conv_${string}`

export const responseIdOf = (id: InteractionId): ResponseId => `resp_${id.slice('int_'.length)}`
export const conversationIdOf = (id: InteractionId | SessionId): ConversationId =>
  `conv_${(isSessionId(id) ? id : sessionOf(id)).slice('ses_'.length)}`

/** The interaction behind a response's id; undefined when the text cannot be one. */
export function interactionOfResponse(text: unknown): InteractionId | undefined {
  const id = typeof text === 'string' && text.startsWith('resp_') ? `int_${text.slice('resp_'.length)}` : ''
  return isInteractionId(id) ? id : undefined
}

/** The session behind a conversation's id; undefined when the text cannot be one. */
export function sessionOfConversation(text: unknown): SessionId | undefined {
  const id = typeof text === 'string' && text.startsWith('conv_') ? `ses_${text.slice('conv_'.length)}` : ''
  return isSessionId(id) ? id : undefined
}

/** Id of the k-th message that a response was asked with. */
export const inputItemId = (id: InteractionId, k: number): string => `msg_${id.slice('int_'.length)}_in_${k}`
/** Id of the k-th message that a conversation was made with. */
export const firstItemId = (id: SessionId, k: number): string => `msg_${id.slice('ses_'.length)}_first_${k}`
/**
 * Id of what an entry became: its place among the entries of that delivery attempt. `part` counts from 1 the items that
 * continue an entry in a stream after others have begun.
 */
export const outputItemId = (prefix: string, id: InteractionId, attempt: number, k: number, part = 0): string =>
  `${prefix}_${id.slice('int_'.length)}_${attempt}_${k}${part > 0 ? `_${part}` : ''}`

const ITEM = /^(?:msg|rs|mcp)_([0-9a-z]{26}_[0-9a-z]{10})_(?:in|\d+)_\d+(?:_\d+)?$/

/** The interaction that an item belongs to; undefined when the text cannot be the id of one. */
export function interactionOfItem(text: unknown): InteractionId | undefined {
  const id = typeof text === 'string' ? `int_${ITEM.exec(text)?.[1]}` : ''
  return isInteractionId(id) ? id : undefined
}
