import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket } from 'ws'

interface Entry {
  id: string
  type: 'text' | 'tool_call'
  content: string
  status?: string
}

/** One run of a prompt in the agent: what the agent holds of it. */
export interface Run {
  request: string
  interaction: string
  prompt: string
  entries: Entry[]
}

interface Thread {
  id: string
  /** Entries so far, prompts included: the next one's number. */
  count: number
  told: Entry[]
  lastRequest: string
}

/** Times in ms; Zed's own are a hundred and a thousand. `tool`: longer than the trial's deadline for silence. */
const TIMES = { throttle: 15, firstRetry: 60, mostRetry: 600, load: 20, tool: 4500, halt: 12_000 }

/**
 * A Zed agent as its wire shows it, scaled in time: one process, its threads on disk, an unbounded queue of events while it
 * is not connected, one follow-up at a time, text throttled and told again in full when a new entry appears and before the
 * end, a cancel answered before the end it brings. What it says is made up; how it says it is not. Words of the prompt tell
 * it how to behave badly: see `#misbehaves` and `#answer`.
 */
export class Zed {
  readonly runs: Run[] = []
  /** Prompts received, by interaction. */
  readonly received = new Map<string, number>()
  readonly #urls: () => string
  readonly #session: string
  readonly #threads = new Map<string, Thread>()
  #socket: WebSocket | undefined
  #backlog: string[] = []
  #turns: Promise<void> = Promise.resolve()
  #running: { request: string; cancelled: boolean } | undefined
  #made = 0
  #stopped = false
  /** A newer connection has taken over from the one that is being kept. */
  #beside = false
  readonly #broken = new Set<string>()

  constructor(session: string, urls: () => string) {
    this.#session = session
    this.#urls = urls
    void this.#stay()
  }

  stop(): void {
    this.#stopped = true
    this.#socket?.terminate()
  }

  /** A person writes into the editor. Gives what the agent then holds of it. */
  type(text: string): Promise<void> {
    return this.#queue(async () => {
      const thread = [...this.#threads.values()].at(-1)
      if (!thread) return
      const id = String(thread.count++)
      this.#say('message_added', {
        acp_thread_id: thread.id,
        message_id: id,
        role: 'user',
        content: text,
        request_id: thread.lastRequest,
      })
      await this.#answer(thread, { request: thread.lastRequest, interaction: '', prompt: text, entries: [] })
    })
  }

  async #stay(): Promise<void> {
    for (let retry = TIMES.firstRetry; !this.#stopped;) {
      const socket = new WebSocket(
        `${this.#urls().replace('http', 'ws')}/api/v1/external-agents/sync?session_id=${this.#session}`,
        {
          headers: { authorization: 'Bearer token' },
        },
      )
      const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
      socket.on('error', () => {})
      socket.once('open', () => {
        retry = TIMES.firstRetry
        this.#socket = socket
        this.#write('ping', { timestamp: 1 })
        for (const event of this.#backlog.splice(0)) socket.send(event)
        const ready = setTimeout(() => this.#say('agent_ready', { agent_name: 'zed-connection', thread_id: null }), 100)
        socket.on('message', (data: Buffer) => {
          const { type, data: it } = JSON.parse(data.toString()) as {
            type: string
            data: Record<string, string | null>
          }
          if (type === 'open_thread') clearTimeout(ready)
          this.#hear(type, it)
        })
      })
      await closed
      if (this.#beside && this.#socket !== socket) return void (this.#beside = false)
      if (this.#socket === socket) this.#socket = undefined
      await sleep(retry)
      retry = Math.min(retry * 2, TIMES.mostRetry)
    }
  }

  #write(event: string, data: object): void {
    this.#socket?.send(JSON.stringify({ event_type: event, data }))
  }

  #say(event: string, data: object): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#write(event, data)
    else this.#backlog.push(JSON.stringify({ event_type: event, data }))
  }

  #queue(work: () => Promise<void>): Promise<void> {
    return (this.#turns = this.#turns.then(() => (this.#stopped ? undefined : work())))
  }

  #hear(type: string, it: Record<string, string | null>): void {
    if (type === 'open_thread')
      void sleep(TIMES.load).then(() =>
        this.#say('agent_ready', { agent_name: 'zed-agent', thread_id: it['acp_thread_id'] }),
      )
    if (type === 'cancel_current_turn') {
      const mine = this.#running?.request === it['request_id']
      if (mine) this.#running!.cancelled = true
      this.#say('turn_cancelled', { request_id: it['request_id'], status: mine ? 'cancelled' : 'noop' })
    }
    if (type !== 'chat_message') return
    const [request, interaction, prompt] = [it['request_id']!, it['interaction_id']!, it['message']!]
    this.received.set(interaction, (this.received.get(interaction) ?? 0) + 1)
    void this.#queue(() => this.#prompted(request, interaction, prompt, it['acp_thread_id'] ?? null))
  }

  async #prompted(request: string, interaction: string, prompt: string, known: string | null): Promise<void> {
    if (prompt.includes('released') && known !== null && !this.#broken.has(known)) {
      this.#broken.add(known)
      return this.#say('thread_load_error', {
        acp_thread_id: known,
        request_id: request,
        error: 'Failed to load thread: entity released',
      })
    }
    let thread = known === null ? undefined : this.#threads.get(known)
    if (!thread) {
      thread = { id: `${this.#session.slice(-6)}-T${++this.#made}`, count: 0, told: [], lastRequest: request }
      this.#threads.set(thread.id, thread)
      this.#say('agent_ready', { agent_name: 'zed-agent', thread_id: thread.id })
      this.#say('thread_created', { acp_thread_id: thread.id, request_id: request })
    }
    const before = thread.lastRequest
    thread.count++ // the prompt
    thread.lastRequest = request
    if (prompt.includes('bounce') && (this.received.get(interaction) ?? 0) < 2) return this.#completed(thread, request)
    if (await this.#misbehaves(prompt, thread, request, before, this.received.get(interaction)!)) return
    if (prompt.includes('echo'))
      this.#say('message_added', {
        acp_thread_id: thread.id,
        message_id: String(thread.count - 1),
        role: 'user',
        content: prompt,
        request_id: request,
      })
    if (prompt.includes('replay')) for (const old of thread.told) this.#tell(thread, old, request)
    await this.#answer(thread, { request, interaction, prompt, entries: [] })
  }

  /** What agents have been seen to do with a prompt, before or in place of an answer. Gives whether that was all. */
  async #misbehaves(prompt: string, thread: Thread, request: string, before: string, times: number): Promise<boolean> {
    if (prompt.includes('silent')) return true
    if (prompt.includes('renumber')) thread.count = 0 // its wrapper was restarted
    if (prompt.includes('drafts'))
      for (const draft of ['D1', 'D2', 'D1'])
        this.#say('user_created_thread', { acp_thread_id: `${this.#session.slice(-6)}-${draft}`, title: null })
    if (prompt.includes('stale')) {
      for (const old of thread.told.slice(-2)) this.#tell(thread, old, before)
      this.#completed(thread, before)
    }
    if (prompt.includes('twothreads')) {
      this.#threads.delete(thread.id)
      thread.id = `${this.#session.slice(-6)}-T${++this.#made}`
      this.#threads.set(thread.id, thread)
      this.#say('thread_created', { acp_thread_id: thread.id, request_id: request })
    }
    if (prompt.includes('second')) await this.#connectBeside()
    if (prompt.includes('restart') && times < 2) {
      this.#backlog = []
      this.#socket?.terminate() // the process is gone, and what it was asked
      return true
    }
    return false
  }

  /** A new connection while the old one is still open; from here on everything goes over the new one. */
  async #connectBeside(): Promise<void> {
    const old = this.#socket
    this.#socket = undefined
    this.#beside = true
    void this.#stay()
    for (const end = Date.now() + 10_000; !this.#socket && !this.#stopped && Date.now() < end;) await sleep(10)
    if (old) await Promise.race([new Promise((resolve) => old.once('close', resolve)), sleep(2000)])
    old?.terminate()
  }

  async #answer(thread: Thread, run: Run): Promise<void> {
    this.runs.push(run)
    const state = (this.#running = { request: run.request, cancelled: false })
    for (let n = 0; n < 4 && !state.cancelled; n++) {
      if (n === 2 && run.prompt.includes('halting')) return void (await this.#untilCancelled(state, run, thread))
      if (n === 2 && run.prompt.includes('error')) return this.#breaksOff(run)
      const tool = n === 1
      const entry: Entry = { id: String(thread.count++), type: tool ? 'tool_call' : 'text', content: '' }
      for (const old of run.entries) this.#tell(thread, old, run.request) // a new entry flushes the others
      run.entries.push(entry)
      for (let word = 0; word < (tool ? 2 : 6) && !state.cancelled; word++) {
        if (tool) entry.status = word === 0 ? 'In Progress' : 'Completed'
        entry.content = tool
          ? `**Tool Call: ${run.prompt}**\nStatus: ${entry.status}`
          : `${entry.content}${run.prompt} ${n}.${word} – ünïcödé 😀 `
        if (tool && word === 1 && run.prompt.includes('longtool')) await sleep(TIMES.tool)
        if (tool || word % 2 === 0) this.#tell(thread, entry, run.request) // throttled: not every growth is told
        await sleep(TIMES.throttle)
      }
    }
    for (const entry of run.entries) this.#tell(thread, entry, run.request)
    thread.told.push(...run.entries)
    this.#running = undefined
    this.#completed(thread, run.request)
  }

  async #untilCancelled(state: { cancelled: boolean }, run: Run, thread: Thread): Promise<void> {
    // the cancel may die with a replica; a real agent does not wait for ever either
    for (const end = Date.now() + TIMES.halt; !state.cancelled && !this.#stopped && Date.now() < end;) await sleep(20)
    this.#running = undefined
    this.#completed(thread, run.request)
  }

  #breaksOff(run: Run): void {
    this.#running = undefined
    this.#say('chat_response_error', {
      request_id: run.request,
      error: 'agent turn aborted: the ACP agent process exited',
    })
  }

  #tell(thread: Thread, { id, type, content, status }: Entry, request: string): void {
    this.#say('message_added', {
      acp_thread_id: thread.id,
      message_id: id,
      role: 'assistant',
      content,
      request_id: request,
      entry_type: type,
      tool_name: type === 'tool_call' ? 'tool' : '',
      tool_status: status ?? '',
    })
  }

  #completed(thread: Thread, request: string): void {
    this.#say('message_completed', { acp_thread_id: thread.id, message_id: '0', request_id: request, usage: null })
  }
}
