import { z } from 'zod'
import type { EntryStatus, Usage } from '../../protocol/events.js'

/*
 * The words of Helix's agent socket (`GET /api/v1/external-agents/sync`), as Zed speaks them: JSON text frames,
 * `{type, data}` to the agent and `{event_type, data}` from it. Every case is told in docs/helix.md.
 */

/** What an agent said, in our words. `request` is the id it names, '' for none; it may be anybody's. */
export type HelixEvent =
  | { type: 'ready'; thread: string; agentName: string }
  | { type: 'thread'; thread: string; request: string }
  | { type: 'user_thread'; thread: string; title: string }
  | { type: 'title'; thread: string; title: string }
  | Message
  | { type: 'completed'; thread: string; request: string; usage?: Usage }
  | { type: 'load_error'; thread: string; request: string; error: string }
  | { type: 'error'; request: string; error: string }
  | { type: 'cancelled'; request: string; noop: boolean }
  /** Agents of before 2026: a whole answer, a piece of it, its end. */
  | { type: 'response'; request: string; how: 'whole' | 'chunk' | 'done'; text: string }
  /** Nothing to do: `ping`, and what a later agent may add. */
  | { type: 'nothing'; name: string }

/** The whole content that an entry has now; not what was added to it. */
export interface Message {
  type: 'message'
  thread: string
  /** Number of the entry in its thread, as text. Begins anew when the agent's wrapper is restarted. */
  id: string
  /** Whether a person wrote it at the agent. */
  byUser: boolean
  content: string
  request: string
  /** Absent: as before. */
  kind?: 'text' | 'tool_call'
  name?: string
  status?: EntryStatus
}

const text = z.string().nullish()
const Frame = z.object({ event_type: z.string(), data: z.record(z.string(), z.unknown()).nullish() })
const Data = {
  ready: z.object({ thread_id: text, agent_name: text }),
  thread: z.object({ acp_thread_id: text, context_id: text, request_id: text }),
  titled: z.object({ acp_thread_id: z.string().min(1), title: text }),
  message: z.object({
    acp_thread_id: text,
    context_id: text,
    message_id: z.union([z.string().min(1).max(128), z.number()]).transform(String),
    role: z.string(),
    content: z.string(),
    request_id: text,
    entry_type: text,
    tool_name: text,
    tool_status: text,
  }),
  completed: z.object({ acp_thread_id: text, request_id: text, usage: z.unknown().optional() }),
  error: z.object({ acp_thread_id: text, request_id: text, error: z.string() }),
  cancelled: z.object({ request_id: text, status: text }),
  response: z.object({ request_id: text, content: text, chunk: text }),
  usage: z.object({
    input_tokens: z.int().nonnegative(),
    output_tokens: z.int().nonnegative(),
    thought_tokens: z.int().nonnegative().nullish(),
    cached_read_tokens: z.int().nonnegative().nullish(),
  }),
}

/** Helix's own placeholder, which some agents send back as a content. */
const PLACEHOLDER = /^Processing your request/

const STATUS: Record<string, EntryStatus> = {
  pending: 'pending',
  'waiting for confirmation': 'pending',
  'in progress': 'in_progress',
  completed: 'completed',
  failed: 'failed',
  rejected: 'cancelled',
  canceled: 'cancelled',
}

/** Reads a frame. Throws an Error that says what is wrong with it, without what it says. */
export function readFrame(json: string): HelixEvent {
  const { event_type: name, data } = Frame.parse(parsed(json))
  const of = <T>(schema: z.ZodType<T>): T => schema.parse(data ?? {})
  switch (name) {
    case 'agent_ready': {
      const said = of(Data.ready)
      return { type: 'ready', thread: said.thread_id ?? '', agentName: said.agent_name ?? '' }
    }
    case 'thread_created':
    case 'context_created': {
      const said = of(Data.thread)
      return { type: 'thread', thread: threadOf(said), request: said.request_id ?? '' }
    }
    case 'user_created_thread':
    case 'thread_title_changed': {
      const said = of(Data.titled)
      const type = name === 'user_created_thread' ? 'user_thread' : 'title'
      return { type, thread: said.acp_thread_id, title: clean(said.title ?? '').slice(0, 512) }
    }
    case 'message_added': {
      const said = of(Data.message)
      const content = clean(said.content)
      const status = STATUS[(said.tool_status ?? '').toLowerCase()]
      const kind = said.entry_type || (content.startsWith('**Tool Call:') ? 'tool_call' : '')
      return {
        type: 'message',
        thread: threadOf(said),
        id: said.message_id,
        byUser: said.role !== 'assistant',
        content,
        request: said.request_id ?? '',
        ...((kind === 'text' || kind === 'tool_call') && { kind }),
        ...(said.tool_name && { name: said.tool_name.slice(0, 512) }),
        ...(status && { status }),
      }
    }
    case 'message_completed': {
      const said = of(Data.completed)
      const usage = usageOf(said.usage)
      return {
        type: 'completed',
        thread: said.acp_thread_id ?? '',
        request: said.request_id ?? '',
        ...(usage && { usage }),
      }
    }
    case 'thread_load_error': {
      const said = of(Data.error)
      return {
        type: 'load_error',
        thread: said.acp_thread_id ?? '',
        request: said.request_id ?? '',
        error: clean(said.error).slice(0, 8192),
      }
    }
    case 'chat_response_error': {
      const said = of(Data.error)
      return { type: 'error', request: said.request_id ?? '', error: clean(said.error).slice(0, 8192) }
    }
    case 'turn_cancelled': {
      const said = of(Data.cancelled)
      return { type: 'cancelled', request: said.request_id ?? '', noop: said.status === 'noop' }
    }
    case 'chat_response':
    case 'chat_response_chunk':
    case 'chat_response_done': {
      const said = of(Data.response)
      const how = name === 'chat_response' ? 'whole' : name === 'chat_response_chunk' ? 'chunk' : 'done'
      const content = clean(said.content ?? said.chunk ?? '')
      return { type: 'response', request: said.request_id ?? '', how, text: PLACEHOLDER.test(content) ? '' : content }
    }
    default: // ping, message_updated, ui_state_response, …
      return { type: 'nothing', name }
  }
}

/** Agents of before 2026 say `context_id`. */
function threadOf(said: { acp_thread_id?: string | null; context_id?: string | null }): string {
  const thread = said.acp_thread_id || said.context_id
  if (!thread || thread.length > 512) throw new Error('no thread id of 1 to 512 characters')
  return thread
}

function usageOf(said: unknown): Usage | undefined {
  const { data } = Data.usage.safeParse(said)
  return (
    data && {
      inputTokens: data.input_tokens,
      outputTokens: data.output_tokens,
      ...(data.thought_tokens != null && { reasoningTokens: data.thought_tokens }),
      ...(data.cached_read_tokens != null && { cachedTokens: data.cached_read_tokens }),
    }
  )
}

/** Without NUL, other controls (but tab, line feed and carriage return) and the two non-characters of the BMP. */
const clean = (said: string): string =>
  said.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufffe\uffff]/g, '')

/** A command to the agent, as it goes over the wire. */
export type HelixCommand =
  | {
      type: 'chat_message'
      data: {
        message: string
        request_id: string
        acp_thread_id: string | null
        agent_name: string
        interrupt: boolean
        interaction_id: string
        session_id: string
      }
    }
  | {
      type: 'open_thread'
      data: { acp_thread_id: string; agent_name: string; session_id: string; request_id?: string }
    }
  | { type: 'cancel_current_turn'; data: { request_id: string; session_id: string } }

/** JSON.parse would quote what it does not understand. */
function parsed(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    throw new Error('not JSON')
  }
}
