import { setTimeout as sleep } from 'node:timers/promises'
import type { CancelMessage, TurnMessage } from '../../protocol/agent-wire.js'
import type { AgentEvent } from '../../protocol/events.js'
import type { Entry } from '../../protocol/fold.js'
import {
  interactionOf,
  isRequestId,
  sessionOf,
  type InteractionId,
  type RequestId,
  type SessionId,
} from '../../protocol/ids.js'
import type { Window } from '../../protocol/outbox.js'
import { Answer } from './answer.js'
import { Cancels } from './cancels.js'
import { Fates, type Fate } from './fates.js'
import { brief, type Known, type Past } from './past.js'
import { Turn, type Begun } from './turn.js'
import type { Typed } from './typed.js'
import { Waiting } from './waiting.js'
import type { HelixCommand, HelixEvent, Message } from './wire.js'

/** What a conversation asks of its connection. */
export interface Outlet {
  window: Window
  /** First pause before a prompt that was ended without an answer is sent again, ms; doubles each time. */
  bounceMs: number
  /** Silence after which a prompt that may be lost is sent again, ms. */
  quietMs: number
  send(command: HelixCommand): void
  /** Runs it once the agent is ready for commands. */
  whenReady(say: () => void): void
  push(request: RequestId, first: number, events: AgentEvent[]): void
  giveBack(request: RequestId, delayMs: number): void
  /** What an earlier turn's record says of words that come under its name now. */
  fate(interaction: InteractionId): Promise<Fate>
  /** The turns of the session that are not over. */
  open(): Promise<InteractionId[]>
  /** Keeps for later connections what was told of a turn that is over. */
  overheard(entry: string, known: Known): void
  /** Counts what is not shown: `replay` an earlier turn has it, `late` its turn is over, `older` it is about another turn. */
  dropped(reason: 'replay' | 'late' | 'older', request: string): void
}

const MOST_BOUNCE_MS = 30_000
/** How many prompts back the words of a person at the agent may be tagged. */
export const MOST_RECENT = 2

/**
 * One session as a Helix agent's connection sees it. The agent neither numbers nor acknowledges: here its whole contents
 * become numbered events, kept until some time after they are in the log; and here is decided what belongs to the one
 * turn that runs. A request id may only reject, never select: what a person typed at the agent carries an old one.
 */
export class Conversation {
  readonly session: SessionId
  readonly pool: string
  /** Which of the agent's kinds of agent answers; to be named in every command. */
  readonly agentName: string
  /** The agent's id for the conversation, as last told; '' before. */
  thread: string
  readonly #outlet: Outlet
  readonly #past: Past
  #turn: Turn | null = null
  readonly #waiting: Waiting
  readonly #cancels: Cancels
  #lastSent = ''
  #bounces = { interaction: '', count: 0 }
  /** The last prompt of a client. */
  #prompted = { request: '', input: '', answer: new Answer() }
  /** The clients' turns whose prompts the agent had last. */
  #recent: InteractionId[]
  readonly #fates: Fates
  /** The agent has been heard of this conversation since it connected. */
  #heard = false

  constructor(
    session: {
      id: SessionId
      pool: string
      thread: string
      agentName: string
      recent: InteractionId[]
      /** What a person typed and no connection has named yet. */
      typed: Typed[]
      /** The last delivery of a prompt that stepped back for what a person typed, '' for none. */
      aside: RequestId | ''
    },
    past: Past,
    outlet: Outlet,
  ) {
    this.#recent = session.recent
    this.#waiting = new Waiting(session.typed, session.aside, () => outlet.open())
    this.#cancels = new Cancels((request) =>
      outlet.send({ type: 'cancel_current_turn', data: { request_id: request, session_id: session.id } }),
    )
    this.#fates = new Fates((interaction) => outlet.fate(interaction))
    this.session = session.id
    this.pool = session.pool
    this.thread = session.thread
    this.agentName = session.agentName
    this.#past = past
    this.#outlet = outlet
  }

  /** The request that runs, '' for none. */
  get request(): RequestId | '' {
    return this.#turn && !this.#turn.ended ? this.#turn.request : ''
  }

  /** Whether nothing that the agent said is still on its way into the log. */
  get settled(): boolean {
    const outbox = this.#turn?.outbox
    return !outbox || outbox.acked === outbox.last
  }

  /** Bytes that wait for Redis. */
  get pendingBytes(): number {
    return this.#turn?.outbox.pending.bytes ?? 0
  }

  /** A turn from the gateway. A client's is sent to the agent; one that the agent began is only named. */
  start({ request, interaction, origin, input, thread, attempt }: TurnMessage): void {
    this.#fates.set(interaction, attempt > 1 ? 'repeated' : 'done')
    const turn: Begun = {
      request,
      interaction,
      origin: origin ?? 'client',
      input,
      speaker: '',
      after: NaN,
      resumed: false,
    }
    if (origin === 'agent') {
      const { request: speaker, entry: after, inherited } = this.#waiting.name(interaction)
      this.#begin({ ...turn, speaker, after, resumed: inherited })
      if (this.thread !== '' && this.thread !== thread) this.#say({ type: 'thread', thread: this.thread })
      return
    }
    const begun = this.#begin(turn)
    const aside = this.#waiting.prompted(interaction)
    if (!aside || aside.bounced) return this.#outlet.whenReady(() => void this.#prompt(request, thread))
    begun.askedAs = aside.request
    begun.doubted = true
    setTimeout(() => this.#promptAnew(request), this.#outlet.quietMs).unref()
  }

  /** The agent has this prompt from an earlier delivery, but has bounced it by now, or has not begun to answer. */
  #promptAnew(request: RequestId): void {
    const turn = this.#turn
    if (turn?.request !== request || turn.ended || !turn.answer.empty || turn.askedAs === '') return
    turn.askedAs = ''
    this.#outlet.whenReady(() => void this.#prompt(request, this.thread || null))
  }

  /** The turn that the agent has in hand from an earlier connection, of which the log has `after` events of the agent. */
  resume(turn: Omit<Begun, 'resumed'>, after: number, entries: readonly Entry[]): void {
    this.#begin({ ...turn, resumed: true }, after, entries)
    if (turn.origin === 'agent') return
    this.#lastSent = turn.request
    this.#recent = [...this.#recent, turn.interaction].slice(-MOST_RECENT)
  }

  /** After a reconnect: shows the agent which thread goes on, and has it load it. */
  open(): void {
    if (this.thread === '') return
    const { session, thread, agentName, request } = this
    const data = { acp_thread_id: thread, agent_name: agentName, session_id: session }
    this.#outlet.send({ type: 'open_thread', data: { ...data, ...(request && { request_id: request }) } })
  }

  /**
   * The agent may have lost the prompt in its restart, or be at work on it after a mere break of the network: the prompt
   * is sent again only when nothing is heard of the conversation for a while.
   */
  async sendAgainAfter(quietMs: number): Promise<void> {
    const turn = this.#turn
    if (!turn?.resumed || turn.origin === 'agent' || !turn.answer.empty || turn.ended) return
    await sleep(quietMs, undefined, { ref: false })
    if (this.#turn !== turn || this.#heard || turn.ended) return
    this.#turn = null
    this.#outlet.giveBack(turn.request, 0)
  }

  /** The thread has a name: that of now, or another for the same conversation; the newest counts. */
  bind(thread: string): void {
    if (thread === this.thread) return
    this.thread = thread
    if (this.request) this.#say({ type: 'thread', thread })
  }

  /** A turn that the agent begins is on its way: what is said meanwhile waits for it. */
  expect(typed: Typed): void {
    this.#waiting.expect(typed)
  }

  /** It has the place already: what is said from here on is not of the turn that had it, also before it is named. */
  stepBack(typed: Typed): void {
    if (this.#turn && this.#waiting.expects(typed)) this.#stepAside(this.#turn)
  }

  #stepAside(turn: Turn): void {
    const request = turn.askedAs || turn.request
    if (turn.origin === 'client' && this.#lastSent === request) {
      this.#waiting.stepAside(turn.interaction, request)
      this.#fates.stopped(request)
    }
    this.#turn = null
  }

  /** It did not come to be after all. */
  unexpect(typed: Typed): void {
    this.#waiting.unexpect(typed)
  }

  /** Whether a person's message is but the prompt that we sent, told back: it stands before the answer. */
  echoes({ id, content, request }: Message): boolean {
    const { input, answer, request: prompt } = this.#prompted
    if (content.trim() !== input || answer.entries.some((entry) => Number(entry.id) < Number(id))) return false
    return this.#turn?.request === prompt || request === prompt
  }

  async message(said: Message): Promise<void> {
    this.#heard = true
    const turn = await this.#answering(said.request, said.id)
    const typed = turn?.origin === 'agent' && ['', said.request].includes(turn.speaker) // its words carry an older request
    const early = !turn && this.#waiting.isAside(said.request) // its turn takes long to be named: it is told again by then
    if (!typed && !early && (await this.#isOver(said.request, turn))) {
      // older Zeds cancel whatever runs in the thread: what answers already is let be
      const atIt = this.#fates.told(said.request) === 'stopped' && (!turn || turn.answer.empty)
      if (atIt) this.#cancels.once(said.request)
      return this.#overheard(said)
    }
    if (!turn || turn !== this.#turn || turn.ended) return this.#outlet.dropped('late', said.request)
    if (!turn.answer.has(said.id)) {
      if (this.#past.holds(said)) {
        if (said.request === turn.request) turn.doubt(said)
        return this.#outlet.dropped('replay', said.request)
      }
      if (this.#past.continues(said) || Number(said.id) < turn.after) return this.#overheard(said)
    }
    if (turn.origin === 'agent') turn.speaker = said.request
    else if (isRequestId(said.request) && !turn.isNamedBy(said.request)) turn.foreign = true
    else if (turn.speaker === '' && turn.isNamedBy(said.request)) this.#speaks(turn, said.request)
    if (turn.beginsWith(said.id, this.#past.last)) turn.doubted = false
    this.#say(...turn.hear(said))
  }

  /** The turn that runs. What is said of this entry, under this request, may show that the agent has gone on to another. */
  async #answering(request: string, entry: string): Promise<Turn | null> {
    const turn = await this.#current(request)
    if (!turn || turn.answer.has(entry)) return turn
    if (!this.#waiting.isPassedBy(entry) && !this.#isOfAside(turn, request)) return turn
    if (turn.answer.empty) this.#end({ type: 'failed', code: 'agent_output_lost', message: LOST })
    else this.#complete(turn) // its end was lost with a connection
    return this.#current(request)
  }

  /** Of the prompt that stepped back: the words of what a person typed carry one request, that of its first message. */
  #isOfAside = ({ origin, speaker, resumed }: Turn, request: string): boolean =>
    origin === 'agent' && (speaker !== '' || resumed) && request !== speaker && this.#waiting.isAside(request)

  /** Of a client's turn: under which delivery it is answered. What was said under an earlier one, nobody may have heard. */
  #speaks(turn: Turn, request: string): void {
    turn.speaker = this.#lastSent = request
    turn.doubted ||= request !== turn.request
  }

  /** Of a turn that is over: not shown, also when the agent tells it again. */
  #overheard({ id, content, kind, status, request }: Message): void {
    const known = brief({ kind: kind ?? 'text', text: content, ...(status && { status }) })
    this.#past.overhear(id, known)
    this.#outlet.overheard(id, known)
    this.#outlet.dropped('late', request)
  }

  /** Whether words under this request can only be of a turn that was stopped, or of a second answer to an older prompt. */
  async #isOver(request: string, turn: Turn | null): Promise<boolean> {
    if (!isRequestId(request)) return false
    const named = interactionOf(request)
    if (named === turn?.interaction) return !turn.isSpokenBy(request)
    return (await this.#fates.of(named)) !== 'done'
  }

  /** `chat_response…`: the words of agents that know neither threads nor entries. */
  async response({ how, text, request }: Extract<HelixEvent, { type: 'response' }>): Promise<void> {
    if (how === 'done') return this.completed({ type: 'completed', thread: '', request })
    const before = this.#turn?.answer.entries.find((entry) => entry.id === 'response')?.text ?? ''
    const content = how === 'chunk' ? before + text : text
    const said = { type: 'message', thread: '', id: 'response', byUser: false, content, request } as const
    if (content !== '') await this.message(said)
    if (how === 'whole' && this.#turn) this.#turn.doubted = false
  }

  async completed({ request, usage }: Extract<HelixEvent, { type: 'completed' }>): Promise<void> {
    this.#heard = true
    const turn = await this.#current(request)
    this.#fates.ended(request)
    const { aside } = this.#waiting
    if (aside?.request === request && !aside.bounced && !(turn?.resumed && turn.speaker === request)) {
      aside.bounced = true
      return this.#outlet.dropped('older', request)
    }
    if (!turn) return this.#outlet.dropped('late', request)
    if (turn.origin === 'agent') {
      // of a prompt that crossed it, or told once more; what a person typed next may have cut it before its first word
      if ((turn.answer.empty && !this.#waiting.hasTyped) || !this.#endsTyped(turn, request))
        return this.#outlet.dropped('older', request)
    } else {
      if (isRequestId(request) && !turn.isNamedBy(request)) return this.#outlet.dropped('older', request)
      if (!turn.isSpokenBy(request)) return this.#outlet.dropped('older', request)
      if (turn.answer.empty) for (const said of turn.doubtful) this.#say(...turn.answer.update(said))
      if (turn.answer.empty) {
        if (turn.askedAs !== '' && request === turn.askedAs)
          return void setTimeout(() => this.#promptAnew(turn.request), this.#outlet.bounceMs).unref()
        if (request === '' || request === turn.request) return this.#bounce(turn)
        this.#heard = false // one delivery is done with; whether the agent has another, silence will tell
        void this.sendAgainAfter(this.#outlet.quietMs)
        return this.#outlet.dropped('older', request)
      }
    }
    this.#complete(turn, ...(usage ? [{ type: 'usage' as const, usage }] : []))
  }

  /** What a person typed is ended under the request of its words; where they are not known, under that of a recent prompt. */
  #endsTyped({ speaker }: Turn, request: string): boolean {
    if (!isRequestId(request) || sessionOf(request) !== this.session) return true
    return speaker === '' ? this.#recent.includes(interactionOf(request)) : speaker === request
  }

  /** The agent could not: its words go to the reader. */
  async failed(code: string, message: string, request: string): Promise<void> {
    this.#heard = true
    const before = this.#turn
    if (before && !before.ended && !before.resumed && this.#isOfAside(before, request)) {
      this.#waiting.aside!.bounced = true // in the middle of what a person typed, whose end cannot have been lost
      return this.#outlet.dropped('older', request)
    }
    const turn = await this.#answering(request, '')
    if (!turn) return
    const ours =
      turn.origin === 'agent'
        ? this.#endsTyped(turn, request)
        : ['', turn.askedAs].includes(request) || (turn.resumed && turn.isNamedBy(request))
    if (!ours && request !== turn.request) return this.#outlet.dropped('older', request)
    this.#end({ type: 'failed', code, message: message || code })
  }

  title(title: string): boolean {
    if (!this.request) return false
    this.#say({ type: 'title', title })
    return true
  }

  /** Past its deadline: the agent's answer to a cancel tells whether it was still at it. */
  ask(request: RequestId): void {
    const turn = this.#turn
    if (turn?.request === request && !turn.ended) this.#cancels.ask(turn.deliveries(this.#lastSent))
  }

  cancelled({ request, noop }: Extract<HelixEvent, { type: 'cancelled' }>): void {
    const answer = this.#cancels.answered(request, noop)
    const turn = this.#turn
    if (!answer || !turn || turn.ended) return
    if (answer === 'noop' && !turn.answer.empty) return this.#complete(turn)
    this.#end({ type: 'failed', code: 'agent_silent', message: 'The agent said nothing until the deadline.' })
  }

  /** The turn is over for the gateway. An agent that may still be at it is told so. */
  over(request: RequestId, reason: CancelMessage['reason']): void {
    const turn = this.#turn
    if (turn?.request !== request) return
    this.#past.add(turn.answer.entries)
    if (reason === 'yielded') return this.#stepAside(turn)
    this.#turn = null
    if (turn.ended || reason === 'superseded') return
    this.#fates.stopped(turn.origin === 'agent' ? turn.speaker : turn.request)
    this.#cancels.stop(turn.deliveries(this.#lastSent))
  }

  acked(request: RequestId, after: number): void {
    const turn = this.#turn
    if (turn?.request !== request) return
    turn.outbox.ack(after, Date.now())
    if (turn.outbox.over) return this.#forget(turn)
    this.#flush(turn)
  }

  /** The log ends at `after`: what followed is sent again, or, where it is not kept, the turn fails. */
  resend(request: RequestId, after: number): void {
    const turn = this.#turn
    if (turn?.request !== request) return
    if (!turn.outbox.rewind(after, Date.now())) {
      turn.outbox.endAfter(after, { type: 'failed', code: 'agent_output_lost', message: LOST })
      turn.ended = true
    }
    this.#flush(turn)
  }

  #begin(begun: Begun, after = 0, has: readonly Entry[] = []): Turn {
    if (this.#turn) this.#forget(this.#turn)
    this.#cancels.unask()
    const turn = (this.#turn = new Turn(begun, after, has))
    if (turn.origin === 'client')
      this.#prompted = { request: turn.request, input: turn.input.trim(), answer: turn.answer }
    return turn
  }

  async #prompt(request: RequestId, thread: string | null): Promise<void> {
    const { stopping } = this.#cancels
    if (stopping) await stopping
    if (this.#turn?.request !== request) return // cancelled before it was sent
    this.#lastSent = request
    this.#recent = [...this.#recent, this.#turn.interaction].slice(-MOST_RECENT)
    this.#outlet.send({
      type: 'chat_message',
      data: {
        message: this.#turn.input,
        request_id: request,
        acp_thread_id: thread,
        agent_name: this.agentName,
        interrupt: stopping !== null && thread !== null,
        interaction_id: this.#turn.interaction,
        session_id: this.session,
      },
    })
  }

  /**
   * The turn that runs. One that is on its way here is waited for: the agent has begun it and it is not named yet, or it had
   * stepped back and the agent has come to it.
   */
  async #current(request: string): Promise<Turn | null> {
    const running = () => (this.#turn && !this.#turn.ended ? this.#turn : null)
    await this.#waiting.turnComes(
      () => running() !== null,
      request,
      (over) => this.#fates.stopped(over),
    )
    return running()
  }

  /** An end without an answer is none: the prompt is sent again, after a while, as often as the gateway allows. */
  #bounce(turn: Turn): void {
    const count = this.#bounces.interaction === turn.interaction ? this.#bounces.count + 1 : 1
    this.#bounces = { interaction: turn.interaction, count }
    this.#turn = null
    this.#outlet.giveBack(turn.request, Math.min(this.#outlet.bounceMs * 2 ** (count - 1), MOST_BOUNCE_MS))
  }

  #complete({ stopReason }: Turn, ...events: AgentEvent[]): void {
    this.#end(...events, { type: 'completed', reason: stopReason })
  }

  #end(...events: AgentEvent[]): void {
    this.#say(...events)
    this.#turn!.ended = true
  }

  #say(...events: AgentEvent[]): void {
    const turn = this.#turn
    if (!turn || turn.ended || events.length === 0) return
    this.#cancels.unask()
    for (const event of events) turn.outbox.put(event)
    this.#flush(turn)
  }

  #flush(turn: Turn): void {
    for (let batch = turn.outbox.take(this.#outlet.window); batch; batch = turn.outbox.take(this.#outlet.window))
      this.#outlet.push(turn.request, batch.first, batch.events)
  }

  #forget(turn: Turn): void {
    this.#past.add(turn.answer.entries)
    if (this.#turn === turn) this.#turn = null
  }
}

const LOST = 'The gateway lost a part of the answer that is no longer kept.'
