/**
 * Conversations between a Helix server and Zed as they were seen on the wire (helix-agent-protocol.md, 2.5). `to`: a
 * command that the agent must be given, with at least these fields; `from`: an event that it sends. `R1`, `R2` … stand for
 * the request ids that the gateway chose, in the order of the prompts; `T` and `U` are threads.
 */
export type Step =
  | { post: string; interrupt?: true }
  | { cancel: string }
  | { to: string; with: Record<string, unknown> }
  | { from: string; data: Record<string, unknown> }
  /** The connection breaks and a new one is made; `restarted`: by a new process, which has lost what it was doing. */
  | { reconnect: 'blip' | 'restarted' }
  | { turn: string; status: string; text: string; origin?: 'agent' }

const to = (type: string, fields: Record<string, unknown>): Step => ({ to: type, with: fields })
const from = (event: string, data: Record<string, unknown> = {}): Step => ({ from: event, data })
const said = (id: string, content: string, request: string, more: Record<string, unknown> = {}): Step =>
  from('message_added', {
    acp_thread_id: 'T',
    message_id: id,
    role: 'assistant',
    content,
    request_id: request,
    entry_type: 'text',
    ...more,
  })
const tool = (id: string, status: string, request: string): Step =>
  said(id, `**Tool Call: Read**\nStatus: ${status}`, request, {
    entry_type: 'tool_call',
    tool_name: 'Read',
    tool_status: status,
  })
const done = (request: string, thread = 'T'): Step =>
  from('message_completed', { acp_thread_id: thread, message_id: '0', request_id: request })
const ready = (thread: string | null, agent = 'zed-agent'): Step =>
  from('agent_ready', { agent_name: agent, thread_id: thread })

const FIRST: Step[] = [
  { post: 'first' },
  from('ping', { timestamp: 1 }),
  ready(null, 'zed-connection'),
  to('chat_message', { message: 'first', request_id: 'R1', acp_thread_id: null }),
  ready('T'),
  from('thread_created', { acp_thread_id: 'T', request_id: 'R1' }),
  said('1', 'I', 'R1'),
  said('1', "I'll look", 'R1'),
  tool('2', 'Pending', 'R1'),
  said('1', "I'll look at it.", 'R1'),
  tool('2', 'Completed', 'R1'),
  said('3', 'Done', 'R1'),
  said('1', "I'll look at it.", 'R1'),
  tool('2', 'Completed', 'R1'),
  said('3', 'Done.', 'R1'),
  done('R1'),
  { turn: 'first', status: 'completed', text: "I'll look at it.\n\nDone." },
]
const SECOND: Step[] = [{ post: 'second' }, to('chat_message', { request_id: 'R2', acp_thread_id: 'T' })]

export const TRACES: Record<string, Step[]> = {
  'first prompt': FIRST,
  'follow-up': [
    ...FIRST,
    ...SECOND,
    said('5', 'Yes.', 'R2'), // entry 4 is the prompt: it is not sent
    done('R2'),
    { turn: 'second', status: 'completed', text: 'Yes.' },
  ],
  'reconnect, idle': [
    ...FIRST,
    { reconnect: 'blip' },
    from('ping'),
    to('open_thread', { acp_thread_id: 'T' }),
    ready('T'),
  ],
  'reconnect, a turn runs': [
    ...FIRST,
    ...SECOND,
    said('5', 'Ha', 'R2'),
    { reconnect: 'blip' },
    from('ping'),
    said('6', 'Half', 'R2'), // backlog, before agent_ready
    to('open_thread', { acp_thread_id: 'T', request_id: 'R2' }),
    ready('T'),
    said('5', 'Hah!', 'R2'),
    said('6', 'Half and half.', 'R2'),
    done('R2'),
    { turn: 'second', status: 'completed', text: 'Hah!\n\nHalf and half.' },
  ],
  'agent restarted': [
    ...FIRST,
    ...SECOND,
    { reconnect: 'restarted' },
    from('ping'),
    to('open_thread', { acp_thread_id: 'T', request_id: 'R2' }),
    ready('T'),
    to('chat_message', { message: 'second', request_id: 'R3', acp_thread_id: 'T' }),
    said('6', 'Again.', 'R3'),
    done('R3'),
    { turn: 'second', status: 'completed', text: 'Again.' },
  ],
  'agent restarted, and its thread cannot be loaded': [
    ...FIRST,
    ...SECOND,
    { reconnect: 'restarted' },
    to('open_thread', { acp_thread_id: 'T', request_id: 'R2' }),
    from('thread_load_error', { acp_thread_id: 'T', request_id: 'R2', error: 'Failed to load thread: busy' }),
    { turn: 'second', status: 'failed', text: '' },
  ],
  cancel: [
    ...FIRST,
    ...SECOND,
    said('5', 'Well', 'R2'),
    { cancel: 'second' },
    to('cancel_current_turn', { request_id: 'R2' }),
    from('turn_cancelled', { request_id: 'R2', status: 'cancelled' }),
    done('R2'),
    { turn: 'second', status: 'cancelled', text: 'Well' },
  ],
  interrupt: [
    ...FIRST,
    ...SECOND,
    said('5', 'Well', 'R2'),
    { post: 'third', interrupt: true },
    to('cancel_current_turn', { request_id: 'R2' }),
    from('turn_cancelled', { request_id: 'R2', status: 'cancelled' }),
    to('chat_message', { message: 'third', request_id: 'R3', acp_thread_id: 'T', interrupt: true }),
    said('5', 'Well, I', 'R2'), // what it had is told once more
    done('R2'),
    said('7', 'Third.', 'R3'),
    done('R3'),
    { turn: 'second', status: 'cancelled', text: 'Well' },
    { turn: 'third', status: 'completed', text: 'Third.' },
  ],
  'agent dies': [
    ...FIRST,
    ...SECOND,
    said('5', 'Half', 'R2'),
    from('chat_response_error', {
      request_id: 'R2',
      error: 'agent turn aborted: the ACP agent process exited mid-turn',
    }),
    { turn: 'second', status: 'failed', text: 'Half' },
  ],
  'typed in the editor': [
    ...FIRST,
    said('7', 'also the docs', 'R1', { role: 'user' }),
    said('8', 'The docs, too.', 'R1'),
    done('R1'),
    { turn: 'also the docs', status: 'completed', text: 'The docs, too.', origin: 'agent' },
  ],
  'new chat in the editor': [
    ...FIRST,
    from('user_created_thread', { acp_thread_id: 'U', title: null }),
    said('0', 'a new matter', '', { acp_thread_id: 'U', role: 'user' }),
    said('1', 'New.', '', { acp_thread_id: 'U' }),
    done('', 'U'),
    from('thread_title_changed', { acp_thread_id: 'U', title: 'Docs' }),
    { turn: 'a new matter', status: 'completed', text: 'New.', origin: 'agent' },
  ],
}
