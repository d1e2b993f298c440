import type { RequestPermissionRequest, RequestPermissionResponse, SessionUpdate } from '@agentclientprotocol/sdk'
import type { AgentEvent, ContextUsage } from '../protocol/events.js'
import type { Turn } from '../sdk/agent.js'
import type { Gate } from './gate.js'
import { Narrator, toolEntry } from './narrate.js'
import { optionsOf, outcome, pick, type PermissionPolicy } from './policy.js'

/** Events, and UTF-16 units of text, that may wait for the gateway before the agent's output is left unread. */
const WAITING = { events: 500, units: 4 * 1024 * 1024 }

export interface Permission {
  policy: PermissionPolicy
  timeoutMs: number
}

/**
 * What the agent says in one turn, on its way to the gateway: taken in at once and in order (the library does not wait
 * for its handlers), said one after the other with the gateway's back-pressure.
 */
export class Telling {
  readonly #turn: Turn
  readonly #gate: Gate
  readonly #permission: Permission
  readonly #narrator: Narrator
  #queue: { task: () => Promise<unknown>; units: number }[] = []
  #units = 0
  #running: Promise<void> | undefined
  #over = false
  /** There was something to tell. */
  spoke = false

  constructor(turn: Turn, gate: Gate, permission: Permission, terminal: (id: string) => string | undefined) {
    this.#turn = turn
    this.#gate = gate
    this.#permission = permission
    this.#narrator = new Narrator(terminal)
    turn.signal.addEventListener('abort', () => this.stop(), { once: true })
  }

  update(update: SessionUpdate): void {
    if (this.#over) return
    this.#turn.working() // it lives, whether or not there is something to show
    for (const event of this.#narrator.tell(update)) this.#say(event)
  }

  /** Asks for a permission, in its place among the updates; what comes after it goes on. */
  permission(request: RequestPermissionRequest, withdrawn: AbortSignal): Promise<RequestPermissionResponse> {
    if (this.#over) return Promise.resolve({ outcome: outcome(null) })
    for (const event of this.#narrator.tool(request.toolCall)) this.#say(event)
    return new Promise((resolve) => {
      const refuse = () => resolve({ outcome: outcome(null) })
      this.#turn.signal.addEventListener('abort', refuse, { once: true })
      this.#push(() => {
        // asked now, in order; not waited for, or nothing else would be shown meanwhile
        void this.#ask(request, withdrawn).then((answer) => resolve({ outcome: answer }), refuse)
        return Promise.resolve()
      })
    })
  }

  /** How full the conversation is, as far as the agent has told in this turn. */
  get context(): ContextUsage {
    return this.#narrator.context
  }

  /** Resolves when everything so far has been said, or nobody wants to hear it any more. */
  async said(): Promise<void> {
    await this.#running
  }

  /** What is still to be said is dropped. */
  stop(): void {
    this.#over = true
    this.#queue = []
    this.#gate.free(this)
  }

  async #ask(request: RequestPermissionRequest, signal: AbortSignal) {
    const { options, theirs } = optionsOf(request.options)
    if (options.length === 0) return outcome(null)
    const { policy, timeoutMs } = this.#permission
    const { option } = await this.#turn.permission({
      title: request.toolCall.title ?? 'The agent asks for a permission.',
      options,
      entry: toolEntry(request.toolCall.toolCallId),
      timeoutMs,
      fallback: pick(options, 'reject'),
      signal,
      ...(policy !== 'ask' && { policy: pick(options, policy === 'allow' ? 'allow' : 'reject') }),
    })
    return outcome(option === null ? null : theirs.get(option))
  }

  #say(event: AgentEvent): void {
    this.#push(() => say(this.#turn, event), 'text' in event ? event.text.length : 0)
  }

  #push(task: () => Promise<unknown>, units = 0): void {
    if (this.#over) return
    this.spoke = true
    this.#queue.push({ task, units })
    this.#units += units
    if (this.#queue.length > WAITING.events || this.#units > WAITING.units) this.#gate.hold(this)
    this.#running ??= this.#run()
  }

  async #run(): Promise<void> {
    for (let next = this.#queue.shift(); next; next = this.#queue.shift()) {
      this.#units -= next.units
      await next.task().catch(() => this.stop()) // the turn is over; its signal says why
      if (this.#queue.length <= WAITING.events / 2 && this.#units <= WAITING.units / 2) this.#gate.free(this)
    }
    this.#running = undefined // in the step in which nothing was left: what comes after it starts anew
  }
}

function say(turn: Turn, event: AgentEvent): Promise<void> {
  switch (event.type) {
    case 'entry.append':
      return turn.append(event.entry, event.text, event.kind)
    case 'entry.replace':
      return turn.replace(event.entry, event.offset, event.text, event.kind)
    case 'entry.set':
      return turn.set(event.entry, event, event.kind)
    case 'title':
      return turn.setTitle(event.title)
    default:
      throw new Error(`a narrator does not say ${event.type}`)
  }
}
