import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket } from 'ws'

export interface Entry {
  id: string
  type: 'text' | 'tool_call'
  content: string
  status?: string
}

/** One run of a prompt in the agent: what the agent holds of it. */
export interface Run {
  request: string
  /** '' for what a person typed. */
  interaction: string
  prompt: string
  entries: Entry[]
  /** Told so that nobody can know whose it is (Helix's background jobs): it may stand in a later turn. */
  heldBack: boolean
  /** Of its frames those that were last told to a connection that then broke: nobody can know whether they were read. */
  inDoubt: Set<string>
  /** Some were, if only for a time: what is told again may be heard in another order. */
  wasInDoubt: boolean
}

/** A `chat_message` as it arrived. */
export interface Delivery {
  /** ms of the epoch. */
  at: number
  request: string
  interaction: string
  prompt: string
  thread: string | null
  /** The thread in which the agent would go on; null: none yet, or it is lost. */
  expected: string | null
  /** Has a role: a real Zed drops it. */
  role: boolean
  /** Prompts of the same conversation that the agent was told and has not ended. */
  unfinished: string[]
  /** The connection was lost before it was done. */
  broken: boolean
  /** Ended at once, without an answer, since a person's words were being answered. */
  bounced: boolean
}

export interface Thread {
  id: string
  /** Entries so far, prompts included: the next one's number. */
  count: number
  told: Entry[]
  lastRequest: string
  /** Another window of the same agent: a person opened it. */
  branch: boolean
}

/** A prompt as it reached the agent. */
export interface Prompted {
  thread: Thread
  run: Run
  /** The request that the agent had in this thread before. */
  before: string
  /** How often this prompt has come. */
  times: number
  /** The thread that the gateway named. */
  known: string | null
}

/** Does what the words of a prompt ask for; gives whether that was all, and the prompt is not answered. */
export type Behave = (zed: Zed, it: Prompted) => Promise<boolean>

/** What a session's agent does all the time. */
export interface Traits {
  /** Never says `agent_ready`. */
  unready?: boolean
  /** After every reconnect it ends an older request once more. */
  trap?: boolean
  /** While a person's words are answered, prompts are bounced with an empty end. */
  bouncesWhileTyped?: boolean
}

/** Times in ms; Zed's own are a hundred and a thousand. `tool`: longer than the trial's deadline for silence. */
const TIMES = { throttle: 15, firstRetry: 60, mostRetry: 600, load: 20, tool: 10_000, halt: 20_000, doubt: 4000 }

/** What was written to the socket, and of which run which part it was. */
interface Frame {
  text: string
  run: Run | undefined
  part: string
  at: number
  socket: WebSocket | undefined
}

/**
 * A Zed agent as its wire shows it, scaled in time: one process, its threads on disk, an unbounded queue of events while it
 * is not connected, one follow-up at a time, text throttled and told again in full when a new entry appears and before the
 * end, a cancel answered before the end it brings. What it says is made up; how it says it is not. Words of the prompt tell
 * it how to behave badly: see `behave` and `#answer`.
 */
export class Zed {
  readonly runs: Run[] = []
  readonly deliveries: Delivery[] = []
  readonly threads = new Map<string, Thread>()
  /** When each connection was opened and when it ended, ms of the epoch. */
  readonly connections: { from: number; to: number }[] = []
  readonly #urls: () => string
  readonly #session: string
  readonly #behave: Behave
  readonly #traits: Traits
  #socket: WebSocket | undefined
  /** Ended by the agent itself, since a newer one is there: the gateway has read them. */
  readonly #givenUp = new WeakSet<WebSocket>()
  #backlog: Frame[] = []
  #written: Frame[] = []
  #turns: Promise<void> = Promise.resolve()
  #running: { request: string; cancelled: boolean } | undefined
  /** A person's words are being answered. */
  #typing = 0
  #made = 0
  #stopped = false
  /** Connections are kept by one loop after the other: the newest goes on, an older one ends with its connection. */
  #loops = 0
  readonly #unfinished = new Map<string, { prompt: string; thread: string | null }>()

  constructor(session: string, urls: () => string, behave: Behave, traits: Traits = {}) {
    this.#behave = behave
    this.#session = session
    this.#urls = urls
    this.#traits = traits
    void this.#stay()
  }

  stop(): void {
    this.#stopped = true
    this.#socket?.terminate()
  }

  received(interaction: string): number {
    return this.deliveries.filter((it) => it.interaction === interaction).length
  }

  /** A person writes into the editor. Resolves when the agent has answered. */
  type(text: string): Promise<void> {
    this.#typing++
    return this.queue(async () => {
      const thread = [...this.threads.values()].filter((it) => !it.branch).at(-1)
      if (thread) await this.#typed(thread, text)
    }).finally(() => this.#typing--)
  }

  /** A person opens another conversation in the editor, and writes into it. */
  branch(text: string): Promise<void> {
    return this.queue(async () => {
      const thread = this.makeThread('')
      thread.branch = true
      this.say('user_created_thread', { acp_thread_id: thread.id, title: null })
      await this.#typed(thread, text)
    })
  }

  async #typed(thread: Thread, text: string): Promise<void> {
    const run = newRun(thread.lastRequest, '', text)
    this.tellUser(thread, text, thread.lastRequest, run)
    await this.#answer(thread, run)
  }

  /** One connection after the other, for as long as the agent lives. */
  async #stay(): Promise<void> {
    const me = ++this.#loops
    for (let retry = TIMES.firstRetry; !this.#stopped && me === this.#loops;) {
      const socket = new WebSocket(
        `${this.#urls().replace('http', 'ws')}/api/v1/external-agents/sync?session_id=${this.#session}`,
        { headers: { authorization: 'Bearer token' } },
      )
      const closed = new Promise<number>((resolve) => socket.once('close', resolve))
      socket.on('error', () => {})
      socket.once('open', () => {
        if (me !== this.#loops) return socket.terminate()
        retry = TIMES.firstRetry
        this.#socket = socket
        const connection = { from: Date.now(), to: Infinity }
        this.connections.push(connection)
        void closed.then(() => (connection.to = Date.now()))
        this.#greet(socket)
      })
      const code = await closed
      if (code === 1006 && !this.#givenUp.has(socket)) this.#lost(socket)
      if (this.#socket === socket) {
        this.#socket = undefined
        this.#interrupted()
      }
      await sleep(retry)
      retry = Math.min(retry * 2, TIMES.mostRetry)
    }
  }

  #greet(socket: WebSocket): void {
    this.say('ping', { timestamp: 1 })
    for (const frame of this.#backlog.splice(0)) this.#write(frame)
    const older = [...this.threads.values()].at(0)?.told.length ? this.deliveries.at(0)?.request : undefined
    if (this.#traits.trap && older !== undefined && older !== this.#running?.request)
      this.say('message_completed', { acp_thread_id: [...this.threads.keys()][0], message_id: '0', request_id: older })
    const ready = setTimeout(() => this.ready('zed-connection', null), 100)
    socket.on('message', (data: Buffer) => {
      const { type, data: it } = JSON.parse(data.toString()) as { type: string; data: Record<string, string | null> }
      if (type === 'open_thread') clearTimeout(ready)
      this.#hear(type, it)
    })
  }

  /** An unclean end that is not our own: whether the last frames were read, nobody knows. */
  #lost(socket: WebSocket): void {
    const since = performance.now() - TIMES.doubt
    for (const { run, part, at, socket: to } of this.#written) {
      if (!run || to !== socket || at <= since) continue
      run.inDoubt.add(part)
      run.wasInDoubt = true
    }
  }

  #interrupted(): void {
    for (const delivery of this.deliveries) if (this.#unfinished.has(delivery.request)) delivery.broken = true
  }

  /** Tells an event, now or when there is a connection again. `part`: which part of the run it tells. */
  say(event: string, data: object, run?: Run, part = ''): void {
    this.sendRaw(JSON.stringify({ event_type: event, data }), run, part)
  }

  sendRaw(text: string, run?: Run, part = ''): void {
    const frame = { text, run, part, at: 0, socket: undefined }
    if (this.#socket?.readyState === WebSocket.OPEN) this.#write(frame)
    else this.#backlog.push(frame)
  }

  #write(frame: Frame): void {
    const at = performance.now()
    frame.run?.inDoubt.delete(frame.part)
    const told = ({ run, part }: Frame) => run === frame.run && part === frame.part
    this.#written = this.#written.filter((it) => it.at > at - TIMES.doubt && !told(it))
    this.#written.push({ ...frame, text: '', at, socket: this.#socket })
    this.#socket?.send(frame.text)
  }

  ready(agent: string, thread: string | null): void {
    if (!this.#traits.unready) this.say('agent_ready', { agent_name: agent, thread_id: thread })
  }

  /** The process is gone, with what it was asked and what it had not sent. */
  restart(): void {
    this.#backlog = []
    this.#interrupted()
    this.#unfinished.clear()
    this.#socket?.terminate()
  }

  queue(work: () => Promise<void>): Promise<void> {
    return (this.#turns = this.#turns.then(() => (this.#stopped ? undefined : work())))
  }

  #hear(type: string, it: Record<string, string | null>): void {
    if (type === 'open_thread') void sleep(TIMES.load).then(() => this.ready('zed-agent', it['acp_thread_id'] ?? null))
    if (type === 'cancel_current_turn') {
      const mine = this.#running?.request === it['request_id']
      if (mine) this.#running!.cancelled = true
      this.say('turn_cancelled', { request_id: it['request_id'], status: mine ? 'cancelled' : 'noop' })
    }
    if (type === 'chat_message') this.#asked(it)
  }

  #asked(it: Record<string, string | null>): void {
    const [request, interaction, prompt] = [it['request_id']!, it['interaction_id']!, it['message']!]
    const thread = it['acp_thread_id'] ?? null
    const own = [...this.threads.values()].filter((known) => !known.branch).at(-1)
    const known = thread === null ? undefined : this.threads.get(thread)
    const bounced = this.#typing > 0 && this.#traits.bouncesWhileTyped === true && known !== undefined
    this.deliveries.push({
      at: Date.now(),
      request,
      interaction,
      prompt,
      thread,
      expected: (known?.branch ? known : own)?.id ?? null,
      role: 'role' in it,
      unfinished: [...this.#unfinished.values()]
        .filter((other) => other.thread === thread && other.prompt !== prompt)
        .map((other) => other.prompt),
      broken: false,
      bounced,
    })
    if (bounced)
      return this.say('message_completed', { acp_thread_id: thread, message_id: '0', request_id: request, usage: null })
    this.#unfinished.set(request, { prompt, thread })
    void this.queue(() => this.#prompted(request, interaction, prompt, thread))
  }

  makeThread(request: string): Thread {
    const id = `${this.#session.slice(-6)}-T${++this.#made}`
    const thread = { id, count: 0, told: [], lastRequest: request, branch: false }
    this.threads.set(id, thread)
    return thread
  }

  async #prompted(request: string, interaction: string, prompt: string, known: string | null): Promise<void> {
    let thread = known === null ? undefined : this.threads.get(known)
    if (!thread) {
      thread = this.makeThread(request)
      this.ready('zed-agent', thread.id)
      this.say('thread_created', { acp_thread_id: thread.id, request_id: request })
    }
    const run = newRun(request, interaction, prompt)
    const before = thread.lastRequest
    if (await this.#behave(this, { thread, run, before, times: this.received(interaction), known })) return
    thread.count++ // the prompt
    thread.lastRequest = request
    await this.#answer(thread, run)
  }

  /** A new connection while the old one is still open; from here on everything goes over the new one. */
  async connectBeside(): Promise<void> {
    const old = this.#socket
    void this.#stay()
    for (const end = Date.now() + 10_000; this.#socket === old && !this.#stopped && Date.now() < end;) await sleep(10)
    if (!old) return
    await Promise.race([new Promise((resolve) => old.once('close', resolve)), sleep(500)])
    this.#givenUp.add(old)
    old.terminate()
  }

  async #answer(thread: Thread, run: Run): Promise<void> {
    const { prompt } = run
    this.runs.push(run)
    const state = (this.#running = { request: run.request, cancelled: false })
    for (let n = 0; n < 4 && !state.cancelled; n++) {
      if (n === 1 && prompt.includes('stalls')) {
        this.tell(thread, run.entries[0]!, run)
        this.#running = undefined
        return this.gaveUp(run.request)
      }
      if (n === 2 && prompt.includes('halting')) return void (await this.#untilCancelled(state, run, thread))
      if (n === 2 && prompt.includes('error')) return this.#breaksOff(run)
      if (n === 2 && prompt.includes('interjected')) return this.#interjected(thread, run)
      if (n === 2 && prompt.includes('rubbish')) this.#rubbish()
      const tool = n === 1
      const entry: Entry = { id: String(thread.count++), type: tool ? 'tool_call' : 'text', content: '' }
      for (const old of run.entries) this.tell(thread, old, run) // a new entry flushes the others
      run.entries.push(entry)
      for (let word = 0; word < (tool ? 2 : 6) && !state.cancelled; word++) {
        if (tool) entry.status = word === 0 ? 'In Progress' : 'Completed'
        entry.content = tool
          ? `**Tool Call: ${prompt}**\nStatus: ${entry.status}`
          : `${entry.content}${prompt} ${n}.${word} – ünïcödé 😀 `
        if (tool && word === 1 && prompt.includes('longtool')) await sleep(TIMES.tool)
        if (tool || word % 2 === 0) this.tell(thread, entry, run) // throttled: not every growth is told
        await sleep(TIMES.throttle)
      }
    }
    for (const entry of run.entries) this.tell(thread, entry, run)
    thread.told.push(...run.entries)
    this.#running = undefined
    this.completed(thread, run.request, run)
    if (prompt.includes('ready')) this.ready('zed-agent', thread.id)
  }

  async #untilCancelled(state: { cancelled: boolean }, run: Run, thread: Thread): Promise<void> {
    // the cancel may die with a replica; a real agent does not wait for ever either
    for (const end = Date.now() + TIMES.halt; !state.cancelled && !this.#stopped && Date.now() < end;) await sleep(20)
    this.#running = undefined
    this.completed(thread, run.request, run)
  }

  /** A person types in mid-answer: the turn stops, and its last words, which were throttled, come after the person's. */
  async #interjected(thread: Thread, run: Run): Promise<void> {
    const typed = newRun(run.request, '', run.prompt.replace('interjected', 'typed in mid-turn'))
    this.#typing++
    this.tellUser(thread, typed.prompt, run.request, typed)
    this.tell(thread, run.entries.at(-1)!, run)
    thread.told.push(...run.entries)
    this.completed(thread, run.request, run)
    await this.#answer(thread, typed).finally(() => this.#typing--)
  }

  #breaksOff(run: Run): void {
    this.#running = undefined
    this.#unfinished.delete(run.request)
    const error = 'agent turn aborted: the ACP agent process exited'
    this.say('chat_response_error', { request_id: run.request, error }, run, 'end')
  }

  #rubbish(): void {
    for (const text of ['{', '[]', '{"event_type":"message_added","data":7}', '{"event_type":"brand_new","data":{}}'])
      this.sendRaw(text)
  }

  /** An entry as it is now. `under`: the request that it is told to belong to, if not the run's. */
  tell(thread: Thread, { id, type, content, status }: Entry, run: Run, under = run.request): void {
    const data = {
      acp_thread_id: thread.id,
      message_id: id,
      role: 'assistant',
      content,
      request_id: run.prompt.includes('norequest') ? '' : under,
      entry_type: type,
      tool_name: type === 'tool_call' ? 'tool' : '',
      tool_status: status ?? '',
    }
    this.say('message_added', data, run, id)
  }

  /** A person's message, or an echo of the prompt. */
  tellUser(thread: Thread, content: string, request: string, run?: Run): void {
    const id = String(run?.interaction === '' ? thread.count++ : thread.count)
    const data = { acp_thread_id: thread.id, message_id: id, role: 'user', content, request_id: request }
    this.say('message_added', data, run, 'user')
  }

  completed(thread: Thread, request: string, run?: Run): void {
    this.#unfinished.delete(request)
    const under = run?.prompt.includes('norequest') ? '' : request
    const data = { acp_thread_id: thread.id, message_id: '0', request_id: under, usage: null }
    this.say('message_completed', data, run, 'end')
  }

  /** The prompt is done with in another way than by an end. */
  gaveUp(request: string): void {
    this.#unfinished.delete(request)
  }
}

export const newRun = (request: string, interaction: string, prompt: string): Run => ({
  request,
  interaction,
  prompt,
  entries: [],
  heldBack: false,
  inDoubt: new Set(),
  wasInDoubt: false,
})
