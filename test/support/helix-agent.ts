import { WebSocket } from 'ws'
import { eventually } from './eventually.js'

/** A command that came from the gateway. */
export interface Command {
  type: string
  data: Record<string, unknown>
}

export interface HelixAgentOptions {
  url: string
  /** The session it is named after, or any other name. */
  session: string
  key?: string
  /** Further query parameters. */
  query?: string
}

/** A Helix agent's socket without a mind of its own: it records what comes and sends what the test says. */
export interface HelixAgent extends AsyncDisposable {
  socket: WebSocket
  commands: Command[]
  closed: Promise<{ code: number; reason: string }>
  /** The n-th command of this type (from 0), once it has come. */
  command(type: string, n?: number): Promise<Record<string, unknown>>
  /** Commands of this type so far. */
  of(type: string): Record<string, unknown>[]
  /** Sends an event as Zed does. */
  say(event: string, data: Record<string, unknown>): void
  /** `message_added` of an assistant's entry. */
  text(thread: string, id: string, content: string, request?: unknown, more?: Record<string, unknown>): void
  completed(thread: string, request?: unknown, more?: Record<string, unknown>): void
  close(): void
  /** The network goes: no close frame, no FIN that anybody waits for. */
  cut(): void
}

export async function startHelixAgent({ url, session, key, query = '' }: HelixAgentOptions): Promise<HelixAgent> {
  const address = `${url.replace(/^http/, 'ws')}/api/v1/external-agents/sync?session_id=${session}${query}`
  const socket = new WebSocket(address, {
    headers: { authorization: `Bearer ${key ?? 'any'}` },
    perMessageDeflate: false,
  })
  const commands: Command[] = []
  socket.on('message', (data: Buffer) => commands.push(JSON.parse(data.toString()) as Command))
  const closed = new Promise<{ code: number; reason: string }>((resolve) =>
    socket.once('close', (code, reason) => resolve({ code, reason: reason.toString() })),
  )
  socket.on('error', () => {})
  const it: HelixAgent = {
    socket,
    commands,
    closed,
    of: (type) => commands.filter((command) => command.type === type).map((command) => command.data),
    command: (type, n = 0) => eventually(() => it.of(type)[n] ?? false, { limitMs: 15_000 }),
    say: (event, data) => socket.send(JSON.stringify({ event_type: event, data })),
    text: (thread, id, content, request = '', more = {}) =>
      it.say('message_added', {
        acp_thread_id: thread,
        message_id: id,
        role: 'assistant',
        content,
        request_id: request,
        entry_type: 'text',
        tool_name: '',
        tool_status: '',
        timestamp: 1754650003,
        ...more,
      }),
    completed: (thread, request = '', more = {}) =>
      it.say('message_completed', { acp_thread_id: thread, message_id: '0', request_id: request, ...more }),
    close: () => socket.close(),
    cut: () => socket.terminate(),
    async [Symbol.asyncDispose]() {
      socket.terminate()
      await closed
    },
  }
  await new Promise<void>((resolve, reject) => {
    socket.once('open', resolve)
    socket.once('unexpected-response', (_req, res) => {
      let body = ''
      res.on('data', (chunk: Buffer) => (body += chunk.toString()))
      res.on('end', () => reject(new Error(`${res.statusCode} ${body}`)))
    })
    socket.once('error', reject)
  })
  it.say('ping', { timestamp: 1754650000 })
  return it
}
