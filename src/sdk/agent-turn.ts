import type { TurnMessage } from '../protocol/agent-wire.js'
import {
  AgentEvent,
  isEnd,
  split,
  type EntryKind,
  type EntryStatus,
  type StopReason,
  type Usage,
} from '../protocol/events.js'
import type { Outbox, Window } from '../protocol/outbox.js'
import { AGENT_LOST } from '../protocol/thread.js'
import { Permissions, type Ask, type Decision } from './agent-permission.js'

/**
 * Why a turn was taken away: its `signal` aborts with this. `reason` is the gateway's word (`cancelled` by a client,
 * `ended` otherwise, `superseded` by another connection or a newer turn, `gone`: the session is deleted) or ours: `closed`
 * the agent was closed, `refused` by the gateway, `lost` the gateway needs output that is no longer kept, `overrun` the
 * handler did not await its calls, `invalid_message` or `event_too_large` the gateway does not take what was said.
 */
export class TurnEnded extends Error {
  override readonly name = 'AbortError'
  readonly reason: string

  constructor(reason: string) {
    super(`The turn is over: ${reason}.`)
    this.reason = reason
  }
}

/** A tool call as it is shown to readers. Each call resolves when there is room for more. */
export interface ToolCall {
  /** Id of its entry. */
  readonly id: string
  /** Adds to what the tool shows. */
  append(text: string): Promise<void>
  update(change: { name?: string; status?: EntryStatus }): Promise<void>
  done(): Promise<void>
  fail(): Promise<void>
}

/** What the turn asks of its connection. */
export interface Outlet {
  /** Something is to be sent. */
  flush(): void
  /** A sign of life without content. */
  working(): void
  window(): Window
}

/** Who does not wait for the promises may run so many windows ahead; then the turn fails. */
const RUNAWAY = 8
/** Signs of life are at least so far apart, ms. */
const WORKING_MS = 1000
/** Longer names and titles, and messages of failures, are cut; UTF-16 units. */
const NAME_UNITS = 512
const MESSAGE_UNITS = 8192

/**
 * One turn in the hands of its handler. Everything that writes resolves when there is room for more: while the gateway is
 * behind, `await` waits. After the turn has ended or was taken away (`signal`) they reject with `TurnEnded`; an argument
 * that cannot be sent throws a TypeError at once.
 */
export class Turn {
  readonly session: TurnMessage['session']
  readonly interaction: TurnMessage['interaction']
  readonly request: TurnMessage['request']
  /** 1 for the first delivery; more when an agent was lost before. */
  readonly attempt: number
  /** The id that `setThread` gave this conversation in an earlier turn. */
  readonly thread: string | null
  readonly input: string
  readonly metadata: Readonly<Record<string, string>>
  /** W3C Trace Context to make spans below, such as with OpenTelemetry's `propagation.extract`; '' where there is none. */
  readonly traceparent: string
  readonly tracestate: string
  /** Aborted when nobody waits for this turn any more; its reason is a `TurnEnded`. */
  readonly signal: AbortSignal

  readonly #outbox: Outbox
  readonly #outlet: Outlet
  readonly #abort = new AbortController()
  #waiting: (() => void)[] = []
  #workedAt = -Infinity
  #entries = 0
  #open: { kind: EntryKind; entry: string } | undefined
  readonly #permissions: Permissions

  /** @internal */
  constructor(message: TurnMessage, outbox: Outbox, outlet: Outlet) {
    this.session = message.session
    this.interaction = message.interaction
    this.request = message.request
    this.attempt = message.attempt
    this.thread = message.thread
    this.input = message.input
    this.metadata = message.metadata
    this.traceparent = message.traceparent ?? ''
    this.tracestate = message.tracestate ?? ''
    this.signal = this.#abort.signal
    this.#outbox = outbox
    this.#permissions = new Permissions(message.attempt)
    this.#outlet = outlet
  }

  /** Whether `complete` or `fail` has been said. */
  get ended(): boolean {
    return this.#outbox.ended
  }

  /** Adds to the answer. After a tool call or reasoning a new text entry begins. */
  text(delta: string): Promise<void> {
    return this.#flow('text', delta)
  }

  /** Adds to the thoughts that are shown beside the answer. */
  reasoning(delta: string): Promise<void> {
    return this.#flow('reasoning', delta)
  }

  /** Adds to the entry of this id; the first mention makes it, with `kind` (default `text`). */
  append(entry: string, text: string, kind?: EntryKind): Promise<void> {
    return this.#put({ type: 'entry.append', entry, text, ...(kind && { kind }) })
  }

  /** Cuts the entry's text at `offset` (UTF-16 units) and puts `text` there. */
  replace(entry: string, offset: number, text: string, kind?: EntryKind): Promise<void> {
    return this.#put({ type: 'entry.replace', entry, offset, text, ...(kind && { kind }) })
  }

  /** Sets the name or status of the entry of this id; the first mention makes it, with `kind`. */
  set(entry: string, change: { name?: string; status?: EntryStatus }, kind?: EntryKind): Promise<void> {
    const { name, status } = change
    return this.#put({
      type: 'entry.set',
      entry,
      ...(kind && { kind }),
      ...(status && { status }),
      ...(name !== undefined && { name: cut(name, NAME_UNITS) }),
    })
  }

  /** Shows a tool call, in progress from now on. While one is open the agent may be silent. */
  async toolCall(call: { name: string; id?: string; status?: EntryStatus }): Promise<ToolCall> {
    this.#open = undefined
    const entry = call.id ?? `tool-${++this.#entries}`
    const update = (change: { name?: string; status?: EntryStatus }) => this.set(entry, change, 'tool_call')
    await update({ name: call.name, status: call.status ?? 'in_progress' })
    return {
      id: entry,
      append: (text) => this.append(entry, text, 'tool_call'),
      update,
      done: () => update({ status: 'completed' }),
      fail: () => update({ status: 'failed' }),
    }
  }

  /** Shows the agent's plan, replacing what it showed before. */
  plan(text: string): Promise<void> {
    return this.replace('plan', 0, text, 'plan')
  }

  /**
   * Asks the client, and waits: for an answer, for `timeoutMs`, or for the end of the turn (then `by` is `cancel` and
   * the handler should return). No option is a no. While it waits the agent may be silent.
   */
  permission(ask: Ask): Promise<Decision> {
    this.#open = undefined
    return this.#permissions.ask(
      { ...ask, title: cut(ask.title, NAME_UNITS) },
      (event) => this.#put(event),
      this.signal,
    )
  }

  /** Names the agent's own id of this conversation; it comes back as `thread` with every later turn. */
  setThread(thread: string): Promise<void> {
    return this.#put({ type: 'thread', thread })
  }

  setTitle(title: string): Promise<void> {
    return this.#put({ type: 'title', title: cut(title, NAME_UNITS) })
  }

  usage(usage: Usage): Promise<void> {
    return this.#put({ type: 'usage', usage })
  }

  /** A sign of life while there is nothing to say: moves the silence deadline. As often as you like: one a second is sent. */
  working(): void {
    if (this.ended || this.signal.aborted || performance.now() - this.#workedAt < WORKING_MS) return
    this.#workedAt = performance.now()
    this.#outlet.working()
  }

  /** Ends the turn. Returning from the handler does the same. */
  complete(reason: StopReason = 'end_turn'): Promise<void> {
    return this.#put({ type: 'completed', reason })
  }

  /**
   * Ends the turn as failed. Code `thread_gone` says that `thread` cannot be loaded any more: the session forgets it and,
   * before any output, the turn comes again without one.
   */
  fail(code: string, message: string): Promise<void> {
    return this.#put({ type: 'failed', code: cut(code, 64) || 'agent_error', message: cut(message, MESSAGE_UNITS) })
  }

  /**
   * Ends the turn as if this agent had been lost, because what answers behind it is (a child process, a machine). Before
   * any output the turn comes again, here or elsewhere; after it the gateway's ON_AGENT_LOSS decides.
   */
  lose(why: string): Promise<void> {
    return this.fail(AGENT_LOST, why)
  }

  /** @internal For the connection: a client has answered a permission. */
  answer(permission: string, option: string): void {
    this.#permissions.answer(permission, option)
  }

  /** @internal For the connection: the turn was taken away. */
  takeAway(reason: string): void {
    this.#abort.abort(new TurnEnded(reason))
    this.#outbox.drop()
    this.room()
  }

  /** @internal For the connection: what follows event `after` cannot be sent; in its place the reader gets this failure. */
  failAfter(after: number, reason: string, code: string, message: string): void {
    this.#abort.abort(new TurnEnded(reason))
    this.#outbox.endAfter(after, { type: 'failed', code, message })
    this.room()
    this.#outlet.flush()
  }

  /** @internal For the connection: there may be room again. */
  room(): void {
    for (const go of this.#waiting.splice(0)) go()
  }

  #flow(kind: 'text' | 'reasoning', text: string): Promise<void> {
    if (this.#open?.kind !== kind) this.#open = { kind, entry: `${kind}-${++this.#entries}` }
    return this.append(this.#open.entry, text, kind)
  }

  #put(event: AgentEvent): Promise<void> {
    const put = this.#send(valid(event))
    put.catch(() => {}) // a handler that does not await its calls learns of it by the signal
    return put
  }

  async #send(event: AgentEvent): Promise<void> {
    this.signal.throwIfAborted()
    if (this.ended) throw new TurnEnded('it has been completed or failed already')
    if (this.#crowded(RUNAWAY) && !isEnd(event)) {
      this.#outbox.put({ type: 'failed', code: 'agent_error', message: OVERRUN })
      this.#abort.abort(new TurnEnded('overrun'))
      this.room()
      this.#outlet.flush()
      throw this.signal.reason
    }
    for (const piece of split(event)) this.#outbox.put(piece)
    this.#outlet.flush()
    while (this.#crowded(1)) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
      this.signal.throwIfAborted()
    }
  }

  #crowded(times: number): boolean {
    const { events, bytes } = this.#outbox.pending
    const window = this.#outlet.window()
    return events >= window.events * times || bytes >= window.bytes * times
  }
}

const OVERRUN = 'The agent said far more than was acknowledged: its handler must await its calls.'

function valid(event: AgentEvent): AgentEvent {
  const { data, error } = AgentEvent.safeParse(event)
  if (data) return data
  const { path, message } = error.issues[0]!
  throw new TypeError(`${event.type} cannot be sent: ${path.join('.')}: ${message}`)
}

function cut(text: string, units: number): string {
  if (typeof text !== 'string' || text.length <= units) return text // what is no string is refused with its event
  const last = text.charCodeAt(units - 2)
  return `${text.slice(0, last >= 0xd800 && last <= 0xdbff ? units - 2 : units - 1)}…`
}
