import { setTimeout as sleep } from 'node:timers/promises'
import type { CancelMessage, TurnMessage } from '../../protocol/agent-wire.js'
import type { AgentEvent } from '../../protocol/events.js'
import type { Entry } from '../../protocol/fold.js'
import {
  attemptOf,
  interactionOf,
  isRequestId,
  requestOf,
  sessionOf,
  type InteractionId,
  type RequestId,
  type SessionId,
} from '../../protocol/ids.js'
import { Outbox, type Window } from '../../protocol/outbox.js'
import { Answer } from './answer.js'
import { Fates, type Fate } from './fates.js'
import { brief, type Known, type Past } from './past.js'
import type { Typed } from './typed.js'
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

/** A prompt that stepped back for what a person typed. The agent has it, unless it bounced it: it waits there as well. */
interface Aside {
  interaction: InteractionId
  request: string
  bounced: boolean
}

/** A turn as the gateway knows it. */
interface Begun {
  request: RequestId
  interaction: InteractionId
  /** `agent`: a person wrote to the agent directly. */
  origin: 'client' | 'agent'
  input: string
  /**
   * The delivery under whose request the answer began: a second answer to the same prompt is none. Of a turn that the agent
   * began: the request that its words carry, which is that of an earlier prompt. '' where that is not known.
   */
  speaker: string
  /** Of a turn that the agent began: the number of the person's message, before which nothing of its answer stands. */
  after: number
  /** Begun on an earlier connection: whether the agent still has it is not known. */
  resumed: boolean
}

interface Turn extends Begun {
  outbox: Outbox
  answer: Answer
  /** Taken for a replay, though it came under this turn's own request. Its answer after all, if there is no other. */
  doubtful: Message[]
  /** The earlier delivery under which the agent has the prompt, '' when it was sent under this request. */
  askedAs: string
  /** Its answer may have begun on an earlier connection, and of what that one heard last, something may be lost. */
  doubted: boolean
  /** Has words that came under the request of another turn: they may be that one's, late. */
  foreign: boolean
  ended: boolean
}

/** How long a cancelled turn may take to stop before the next prompt is sent all the same, ms. */
const CANCEL_MS = 3000
/** How long what an agent says waits for its turn to be named, ms. */
const NAMING_MS = 5000
const MOST_BOUNCE_MS = 30_000
const MOST_DOUBTFUL = 200
const MOST_CANCELLED = 1000
/** Deliveries of one prompt that the agent is asked about. */
const MOST_DELIVERIES = 5
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
  /** Turns that the agent has begun and that are not named yet, in order. */
  #expected: Typed[]
  /** Of those, the ones that an earlier connection heard of. */
  readonly #inherited: ReadonlySet<InteractionId>
  #named = (): void => {}
  /** A cancel that the agent has not confirmed, by the deliveries of the turn. */
  #cancelling: { open: Set<string>; done: Promise<unknown>; confirm: () => void } | null = null
  /** Deliveries of a turn past its deadline of which the agent has not said yet whether it is at them. */
  #asked = new Set<string>()
  #lastSent = ''
  #bounces = { interaction: '', count: 0 }
  /** The last prompt of a client. */
  #prompted = { request: '', input: '', answer: new Answer() }
  /** The clients' turns whose prompts the agent had last. */
  #recent: InteractionId[]
  #aside: Aside | null
  /** A prompt was sent although what is expected, or stepped back, was to go before it: a client may have ended that. */
  #overdue = false
  readonly #fates: Fates
  /** The requests that this connection has told the agent to stop. */
  readonly #cancelled = new Set<string>()
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
    const { aside, typed } = session
    this.#recent = session.recent
    this.#expected = typed
    this.#inherited = new Set(typed.map(({ interaction }) => interaction))
    this.#aside = aside === '' ? null : { interaction: interactionOf(aside), request: aside, bounced: false }
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
      const at = this.#expected.findIndex((typed) => typed.interaction === interaction)
      const { request: speaker, entry: after } = this.#expected[at] ?? { request: '', entry: NaN }
      this.#expected = this.#expected.slice(at + 1) // those before it, a client has ended
      this.#begin({ ...turn, speaker, after, resumed: this.#inherited.has(interaction) }, 0, [])
      if (this.thread !== '' && this.thread !== thread) this.#say({ type: 'thread', thread: this.thread })
      return this.#named()
    }
    const aside = this.#aside
    if (aside?.interaction === interaction) this.#aside = null
    this.#overdue = this.#expected.length > 0 || this.#aside !== null
    this.#begin(turn, 0, [])
    this.#named()
    if (aside?.interaction !== interaction || aside.bounced)
      return this.#outlet.whenReady(() => void this.#prompt(request, thread))
    Object.assign(this.#turn!, { askedAs: aside.request, doubted: true })
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
    this.#expected.push(typed)
  }

  /** It has the place already: what is said from here on is not of the turn that had it, also before it is named. */
  stepBack(typed: Typed): void {
    if (this.#turn && this.#expected.includes(typed)) this.#stepAside(this.#turn)
  }

  #stepAside(turn: Turn): void {
    const request = turn.askedAs || turn.request
    if (turn.origin === 'client' && this.#lastSent === request) {
      this.#aside = { interaction: turn.interaction, request, bounced: false }
      this.#fates.stopped(request)
    }
    this.#turn = null
  }

  /** It did not come to be after all. */
  unexpect(typed: Typed): void {
    this.#expected = this.#expected.filter((it) => it !== typed)
    this.#named()
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
    const early = !turn && this.#isAside(said.request) // its turn takes long to be named: it is told again by then
    if (!typed && !early && (await this.#isOver(said.request, turn))) {
      // older Zeds cancel whatever runs in the thread: what answers already is let be
      const atIt = this.#fates.told(said.request) === 'stopped' && (!turn || turn.answer.empty)
      if (atIt && !this.#cancelled.has(said.request)) this.#cancel(said.request)
      return this.#overheard(said)
    }
    if (!turn || turn !== this.#turn || turn.ended) return this.#outlet.dropped('late', said.request)
    if (turn.doubted && this.#begins(turn, said.id)) turn.doubted = false
    if (!turn.answer.has(said.id)) {
      if (this.#past.holds(said)) {
        if (said.request === turn.request && turn.doubtful.length < MOST_DOUBTFUL) turn.doubtful.push(said)
        return this.#outlet.dropped('replay', said.request)
      }
      if (this.#past.continues(said) || Number(said.id) < turn.after) return this.#overheard(said)
    }
    if (turn.origin === 'agent') turn.speaker = said.request
    else if (isRequestId(said.request) && !this.#names(turn, said.request)) turn.foreign = true
    else if (turn.speaker === '' && this.#names(turn, said.request)) turn.speaker = this.#lastSent = said.request
    this.#say(...turn.answer.update(said))
  }

  /** The turn that runs. What is said of this entry, under this request, may show that the agent has gone on to another. */
  async #answering(request: string, entry: string): Promise<Turn | null> {
    const turn = await this.#current(request)
    if (!turn || turn.answer.has(entry) || !(this.#isAfter(entry) || this.#isOfAside(turn, request))) return turn
    if (turn.answer.empty) this.#end({ type: 'failed', code: 'agent_output_lost', message: LOST })
    else this.#complete(turn) // its end was lost with a connection
    return this.#current(request)
  }

  /** Of what a person typed after the turn that runs. An agent numbers its entries in order. */
  #isAfter = (entry: string): boolean => entry !== '' && Number(entry) > (this.#expected[0]?.entry ?? NaN)

  /** The first entry of its answer. Where an entry is skipped before it, as of a prompt that was bounced, that is not seen. */
  #begins = ({ after }: Turn, entry: string): boolean =>
    entry !== '' && Number(entry) <= (Number.isNaN(after) ? this.#past.last + 2 : after + 1)

  /** Of the prompt that stepped back: the words of what a person typed carry one request, that of its first message. */
  #isOfAside = ({ origin, speaker, resumed }: Turn, request: string): boolean =>
    origin === 'agent' && (speaker !== '' || resumed) && request !== speaker && this.#isAside(request)

  #isAside = (request: string): boolean =>
    this.#aside !== null && isRequestId(request) && interactionOf(request) === this.#aside.interaction

  /** Of a turn that is over: not shown, also when the agent tells it again. */
  #overheard({ id, content, kind, status, request }: Message): void {
    const known = brief({ kind: kind ?? 'text', text: content, ...(status && { status }) })
    this.#past.overhear(id, known)
    this.#outlet.overheard(id, known)
    this.#outlet.dropped('late', request)
  }

  #names = ({ interaction }: Turn, request: string): boolean =>
    isRequestId(request) && interactionOf(request) === interaction

  /** A prompt that was sent twice may be answered twice: whoever began to answer goes on. */
  #speaks(turn: Turn, request: string): boolean {
    return turn.speaker === '' || turn.speaker === request || !this.#names(turn, request)
  }

  /** Whether words under this request can only be of a turn that was stopped, or of a second answer to an older prompt. */
  async #isOver(request: string, turn: Turn | null): Promise<boolean> {
    if (!isRequestId(request)) return false
    const named = interactionOf(request)
    if (named === turn?.interaction) return !this.#speaks(turn, request)
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
    if (this.#aside?.request === request && !this.#aside.bounced && !(turn?.resumed && turn.speaker === request)) {
      this.#aside.bounced = true
      return this.#outlet.dropped('older', request)
    }
    if (!turn) return this.#outlet.dropped('late', request)
    if (turn.origin === 'agent') {
      // of a prompt that crossed it, or told once more; what a person typed next may have cut it before its first word
      if ((turn.answer.empty && this.#expected.length === 0) || !this.#endsTyped(turn, request))
        return this.#outlet.dropped('older', request)
    } else {
      if (isRequestId(request) && interactionOf(request) !== turn.interaction)
        return this.#outlet.dropped('older', request)
      if (!this.#speaks(turn, request)) return this.#outlet.dropped('older', request)
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
      this.#aside!.bounced = true // in the middle of what a person typed, whose end cannot have been lost
      return this.#outlet.dropped('older', request)
    }
    const turn = await this.#answering(request, '')
    if (!turn) return
    const ours =
      turn.origin === 'agent'
        ? this.#endsTyped(turn, request)
        : ['', turn.askedAs].includes(request) || (turn.resumed && this.#names(turn, request))
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
    if (turn?.request !== request || turn.ended || this.#asked.size > 0) return
    this.#asked = new Set(this.#deliveries(turn))
    for (const delivery of this.#asked) this.#cancel(delivery)
  }

  cancelled({ request, noop }: Extract<HelixEvent, { type: 'cancelled' }>): void {
    const cancelling = this.#cancelling
    if (cancelling?.open.delete(request) && (!noop || cancelling.open.size === 0)) cancelling.confirm()
    const turn = this.#turn
    if (!this.#asked.delete(request) || !turn || turn.ended || (noop && this.#asked.size > 0)) return
    if (noop && !turn.answer.empty) return this.#complete(turn)
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
    const open = new Set(this.#deliveries(turn))
    const cancelling = { open, done: Promise.resolve() as Promise<unknown>, confirm: () => {} }
    cancelling.done = new Promise<void>((resolve) => {
      cancelling.confirm = resolve
      setTimeout(resolve, CANCEL_MS).unref()
    }).finally(() => {
      if (this.#cancelling === cancelling) this.#cancelling = null
    })
    this.#cancelling = cancelling
    this.#fates.stopped(turn.origin === 'agent' ? turn.speaker : turn.request)
    for (const delivery of open) this.#cancel(delivery)
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

  #begin(turn: Begun, after: number, has: readonly Entry[]): void {
    if (this.#turn) this.#forget(this.#turn)
    this.#asked.clear()
    const answer = new Answer(has)
    const unsaid = { doubtful: [], askedAs: '', doubted: turn.resumed, foreign: false, ended: false }
    this.#turn = { ...turn, outbox: new Outbox(after), answer, ...unsaid }
    if (turn.origin === 'client') this.#prompted = { request: turn.request, input: turn.input.trim(), answer }
  }

  async #prompt(request: RequestId, thread: string | null): Promise<void> {
    const cancelling = this.#cancelling
    let interrupt = false
    if (cancelling) {
      interrupt = true
      await cancelling.done
    }
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
        interrupt: interrupt && thread !== null,
        interaction_id: this.#turn.interaction,
        session_id: this.session,
      },
    })
  }

  /**
   * The requests under which the agent may be at a turn: its last deliveries. What a person typed it knows by the request
   * that its words carry.
   */
  #deliveries({ origin, request, speaker }: Turn): string[] {
    if (origin === 'agent') return [speaker || this.#lastSent || request]
    const attempts = Array.from({ length: attemptOf(request) }, (_, i) => requestOf(interactionOf(request), i + 1))
    return attempts.slice(-MOST_DELIVERIES)
  }

  #cancel(request: string): void {
    if (this.#cancelled.size >= MOST_CANCELLED) this.#cancelled.clear()
    this.#cancelled.add(request)
    this.#outlet.send({ type: 'cancel_current_turn', data: { request_id: request, session_id: this.session } })
  }

  /**
   * The turn that runs. One that is on its way here is waited for: the agent has begun it and it is not named yet, or it had
   * stepped back and the agent has come to it.
   */
  async #current(request: string): Promise<Turn | null> {
    const running = () => (this.#turn && !this.#turn.ended ? this.#turn : null)
    const awaited = () => !running() && (this.#expected.length > 0 || this.#isAside(request))
    while (this.#overdue || awaited()) {
      await this.#review()
      if (awaited() && !(await this.#naming())) break
    }
    return running()
  }

  /** Resolves when a turn is named; false when that takes too long. */
  #naming(): Promise<boolean> {
    return new Promise((resolve) => {
      this.#named = () => resolve(true)
      setTimeout(resolve, NAMING_MS, false).unref()
    })
  }

  /**
   * What is expected, or stepped back, may be over by now: a client can cancel what waits, of which no connection is told.
   * The agent has it all the same, and what it says of it is nobody's.
   */
  async #review(): Promise<void> {
    const open = await this.#outlet.open()
    this.#overdue = false
    const isOver = ({ interaction }: { interaction: InteractionId }) => !open.includes(interaction)
    const over: { request: string }[] = this.#expected.filter(isOver)
    this.#expected = this.#expected.filter((typed) => !isOver(typed))
    if (this.#aside && isOver(this.#aside)) {
      over.push(this.#aside)
      this.#aside = null
    }
    for (const { request } of over) this.#fates.stopped(request)
  }

  /** An end without an answer is none: the prompt is sent again, after a while, as often as the gateway allows. */
  #bounce(turn: Turn): void {
    const count = this.#bounces.interaction === turn.interaction ? this.#bounces.count + 1 : 1
    this.#bounces = { interaction: turn.interaction, count }
    this.#turn = null
    this.#outlet.giveBack(turn.request, Math.min(this.#outlet.bounceMs * 2 ** (count - 1), MOST_BOUNCE_MS))
  }

  /** A Helix agent tells every entry again before its end, in order: whoever hears the first of them misses none. */
  #complete({ doubted, foreign, resumed, answer }: Turn, ...events: AgentEvent[]): void {
    const reason = doubted || foreign || (resumed && !answer.ordered) ? 'unconfirmed' : 'end_turn'
    this.#end(...events, { type: 'completed', reason })
  }

  #end(...events: AgentEvent[]): void {
    this.#say(...events)
    this.#turn!.ended = true
  }

  #say(...events: AgentEvent[]): void {
    const turn = this.#turn
    if (!turn || turn.ended || events.length === 0) return
    this.#asked.clear()
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
