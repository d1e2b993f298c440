import type { StopReason } from '../../protocol/events.js'
import type { Entry } from '../../protocol/fold.js'
import type { InteractionId } from '../../protocol/ids.js'
import { isTerminal, type Status } from '../../protocol/interaction.js'
import { outputItemId } from './ids.js'

export type ItemStatus = 'in_progress' | 'completed' | 'incomplete' | 'failed'

export interface TextPart {
  type: 'output_text'
  text: string
  annotations: never[]
  logprobs: never[]
}

/** An entry as one of OpenAI's output items. Why a tool call is an `mcp_call`: docs/decisions/0010. */
export type OutputItem =
  | { id: string; type: 'message'; role: 'assistant'; status: ItemStatus; content: TextPart[] }
  | { id: string; type: 'reasoning'; status: ItemStatus; summary: { type: 'summary_text'; text: string }[] }
  | {
      id: string
      type: 'mcp_call'
      status: ItemStatus
      server_label: string
      name: string
      arguments: string
      approval_request_id: null
      output: string | null
      error: string | null
    }

/** What the items of a turn are made of. */
export interface Answer {
  status: Status
  attempt: number
  entries: readonly Entry[]
  stopReason?: StopReason | null | undefined
}

const PREFIX = { text: 'msg', reasoning: 'rs', plan: 'rs', tool_call: 'mcp' } as const

export const idOf = (interaction: InteractionId, attempt: number, entry: Entry, k: number, part = 0): string =>
  outputItemId(PREFIX[entry.kind], interaction, attempt, k, part)

export const textPart = (text: string): TextPart => ({ type: 'output_text', text, annotations: [], logprobs: [] })

/** The entry as an item; `pool` stands for the server that ran a tool. */
export function itemOf(entry: Entry, id: string, status: ItemStatus, pool: string): OutputItem {
  const { text } = entry
  switch (entry.kind) {
    case 'text':
      return { id, type: 'message', role: 'assistant', status, content: [textPart(text)] }
    case 'reasoning':
    case 'plan':
      return { id, type: 'reasoning', status, summary: [{ type: 'summary_text', text }] }
    case 'tool_call':
      return {
        id,
        type: 'mcp_call',
        status,
        server_label: pool,
        name: entry.name || 'tool',
        arguments: '{}', // the text says what the agent chose to show; SDKs parse this as JSON
        approval_request_id: null,
        output: status === 'in_progress' ? null : text,
        error: status === 'failed' ? text || 'The tool call failed.' : null,
      }
  }
}

/** Whether an entry becomes an item: a tool call always, anything else when it says something. */
export const isShown = (entry: Entry): boolean => entry.kind === 'tool_call' || entry.text !== ''

/** Whether a turn has ended otherwise than by its agent's wish. */
const isCut = ({ status, stopReason }: Answer): boolean =>
  isTerminal(status) && !(status === 'completed' && (stopReason ?? 'end_turn') === 'end_turn')

/** Where the k-th entry's item stands: what others follow is complete, the last one is so with the turn. */
export function statusOfItem(answer: Answer, k: number): ItemStatus {
  const entry = answer.entries[k]!
  if (entry.kind !== 'tool_call') {
    if (k !== answer.entries.findLastIndex(isShown)) return 'completed'
    return !isTerminal(answer.status) ? 'in_progress' : isCut(answer) ? 'incomplete' : 'completed'
  }
  if (entry.status === 'completed' || entry.status === 'failed') return entry.status
  if (entry.status === 'cancelled') return 'incomplete'
  if (!isTerminal(answer.status)) return 'in_progress'
  return entry.status === undefined && !isCut(answer) ? 'completed' : 'incomplete'
}

/** All items of the last attempt, as they now are. */
export const outputOf = (interaction: InteractionId, pool: string, answer: Answer): OutputItem[] =>
  answer.entries.flatMap((entry, k) =>
    isShown(entry) ? [itemOf(entry, idOf(interaction, answer.attempt, entry, k), statusOfItem(answer, k), pool)] : [],
  )
