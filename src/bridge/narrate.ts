import { createHash } from 'node:crypto'
import type { ContentChunk, SessionUpdate, ToolCall, ToolCallUpdate } from '@agentclientprotocol/sdk'
import { ContextUsage, type AgentEvent, type EntryKind, type EntryStatus } from '../protocol/events.js'
import { contentText, planText, rawText, toolText } from './render.js'

/** The entry of a tool call. An id of theirs may be longer than one of ours. */
export const toolEntry = (toolCallId: string): string =>
  toolCallId.length <= 120 ? `tool:${toolCallId}` : `tool:${createHash('sha256').update(toolCallId).digest('hex')}`

interface Tool {
  name: string
  status: EntryStatus | undefined
  text: string
  /** It has shown content; its raw output is not needed. */
  content: boolean
}

/**
 * The updates of one turn, told as events of its log: consecutive chunks of a kind and a message become one entry; a tool
 * call's content, which always comes whole, becomes the least change. No I/O; `terminal` gives the text of a terminal.
 */
export class Narrator {
  readonly #terminal: (id: string) => string | undefined
  readonly #tools = new Map<string, Tool>()
  #flow: { kind: EntryKind; message: string | undefined; entry: string } | undefined
  #entries = 0
  #plan = ''
  /** As last told; to be said with the tokens of the turn. */
  context: ContextUsage = {}

  constructor(terminal: (id: string) => string | undefined = () => undefined) {
    this.#terminal = terminal
  }

  tell(update: SessionUpdate): AgentEvent[] {
    switch (update.sessionUpdate) {
      case 'agent_message_chunk':
        return this.#chunk('text', update)
      case 'agent_thought_chunk':
        return this.#chunk('reasoning', update)
      case 'tool_call':
      case 'tool_call_update':
        return this.tool(update)
      case 'plan': {
        const text = planText(update.entries)
        const events = change('plan', 'plan', this.#plan, text)
        this.#plan = text
        return events
      }
      case 'session_info_update':
        return update.title ? [{ type: 'title', title: update.title.slice(0, 512) }] : []
      case 'notice': {
        this.#flow = undefined
        const text = [update.title, update.description].filter(Boolean).join(': ')
        return [{ type: 'entry.append', entry: `notice-${++this.#entries}`, kind: 'reasoning', text }]
      }
      case 'usage_update': {
        const { used: contextTokens, size: contextSize, cost } = update
        this.context = ContextUsage.safeParse({ contextTokens, contextSize, ...(cost && { cost }) }).data ?? {}
        return []
      }
      default: // of use to an editor: modes, commands, what was said to it
        return []
    }
  }

  /** A tool call, new or changed. A permission may name one that was not told before. */
  tool(update: ToolCall | ToolCallUpdate): AgentEvent[] {
    const entry = toolEntry(update.toolCallId)
    const before = this.#tools.get(entry)
    const tool: Tool = before ?? { name: '', status: undefined, text: '', content: false }
    if (!before) this.#flow = undefined // what is said after it is a new entry
    const name = update.title ?? (before ? tool.name : (update.name ?? 'tool call'))
    const status = update.status ?? (before ? tool.status : 'pending')
    const set = {
      ...(name !== tool.name && { name }),
      ...(status !== tool.status && { status }),
    }
    tool.name = name
    tool.status = status
    const events: AgentEvent[] = []
    const shown = update.content?.length ? toolText(update.content, this.#terminal) : undefined
    if (shown !== undefined) tool.content = true
    const text = shown ?? (update.rawOutput !== undefined && !tool.content ? rawText(update.rawOutput) : undefined)
    if (text !== undefined) {
      events.push(...change(entry, 'tool_call', tool.text, text))
      tool.text = text
    }
    if (Object.keys(set).length > 0) {
      const event: AgentEvent = { type: 'entry.set', entry, kind: 'tool_call', ...set }
      if (before)
        events.push(event) // what it shows comes before the word that it is done
      else events.unshift(event)
    }
    this.#tools.set(entry, tool)
    return events
  }

  #chunk(kind: 'text' | 'reasoning', { content, messageId }: ContentChunk): AgentEvent[] {
    const message = messageId ?? undefined
    const other = message !== undefined && this.#flow?.message !== undefined && message !== this.#flow.message
    if (this.#flow?.kind !== kind || other) this.#flow = { kind, message, entry: `${kind}-${++this.#entries}` }
    this.#flow.message ??= message
    const text = contentText(content)
    return text === '' ? [] : [{ type: 'entry.append', entry: this.#flow.entry, kind, text }]
  }
}

/** The least that makes `before` into `after`. */
function change(entry: string, kind: EntryKind, before: string, after: string): AgentEvent[] {
  if (before === after) return []
  if (after.startsWith(before)) return [{ type: 'entry.append', entry, kind, text: after.slice(before.length) }]
  let offset = 0
  while (offset < before.length && before[offset] === after[offset]) offset++
  const last = after.charCodeAt(offset - 1)
  if (last >= 0xd800 && last <= 0xdbff) offset-- // a high surrogate stays with its low one
  return [{ type: 'entry.replace', entry, kind, offset, text: after.slice(offset) }]
}
