import { isTerminal } from '../protocol/interaction.js'
import type { Interaction } from '../protocol/views.js'

/** Part of a UI message, as we make them. */
export type ChatPart =
  | { type: 'text' | 'reasoning'; text: string; state: 'done' }
  | { type: 'data-throughline-plan'; id: string; data: { text: string } }
  | ({
      type: 'dynamic-tool'
      toolName: string
      title: string
      toolCallId: string
      input: object
      providerExecuted: true
    } & ({ state: 'output-available'; output: string } | { state: 'output-error'; errorText: string }))

/** A `UIMessage` of the AI SDK. */
export interface ChatMessage {
  id: string
  role: 'user' | 'assistant'
  parts: ChatPart[]
}

/** The parts of a UI message that hold: those after the last `data-throughline-reset`. */
export function lastingParts<Part extends { type: string }>(parts: readonly Part[]): Part[] {
  return parts.slice(parts.findLastIndex(({ type }) => type === 'data-throughline-reset') + 1)
}

/** A turn as the messages of a chat: what was asked, and the answer when it has ended. */
export function messagesOf({ id, input, status, output }: Interaction): ChatMessage[] {
  const question: ChatMessage = {
    id: `${id}.input`,
    role: 'user',
    parts: [{ type: 'text', text: input, state: 'done' }],
  }
  if (!isTerminal(status)) return [question]
  const parts = output.flatMap((entry): ChatPart[] => {
    const { kind, text, name = 'tool' } = entry
    if (kind === 'plan') return [{ type: 'data-throughline-plan', id: `${id}.${entry.id}`, data: { text } }]
    if (kind !== 'tool_call') return text === '' ? [] : [{ type: kind, text, state: 'done' }]
    const toolCallId = `${id}.${entry.id}`
    const head = {
      type: 'dynamic-tool',
      toolName: name,
      title: name,
      toolCallId,
      input: {},
      providerExecuted: true,
    } as const
    const bad = entry.status === 'failed' || entry.status === 'cancelled'
    return [
      bad
        ? { ...head, state: 'output-error', errorText: text || `The tool call has ${entry.status}.` }
        : { ...head, state: 'output-available', output: text },
    ]
  })
  return parts.length > 0 ? [question, { id, role: 'assistant', parts }] : [question]
}
