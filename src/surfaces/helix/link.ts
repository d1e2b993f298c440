import type { WebSocket } from 'ws'
import { beginTurn, branchSession, openTurns, pastTurns, takeSession, type PastTurn } from '../../core/agent-begun.js'
import { pause, persistently } from '../../core/coalesce.js'
import { fenced, giveBack } from '../../core/deliver.js'
import type { AgentLink } from '../../core/link.js'
import type { Station } from '../../core/links.js'
import { newInteractionId } from '../../core/mint.js'
import type { Parts } from '../../core/parts.js'
import { foldLog } from '../../core/seal.js'
import { WINDOW } from '../../core/writer.js'
import type { CancelMessage, TurnMessage } from '../../protocol/agent-wire.js'
import { interactionOf, isRequestId, sessionOf, type RequestId, type SessionId } from '../../protocol/ids.js'
import { isTerminal } from '../../protocol/interaction.js'
import { Conversation, MOST_RECENT } from './conversation.js'
import { fateOf } from './fates.js'
import { Past, type Known } from './past.js'
import { Threads } from './threads.js'
import { refOf, typedOf, waitsAtTheAgent } from './typed.js'
import { readFrame, type HelixEvent, type Message } from './wire.js'

/** How a Helix agent is served. Times in ms. */
export interface HelixSettings {
  /** The kind of agent that Zed is asked for, unless the session's metadata has an `agent_name`. */
  agentName: string
  /** Longest wait for `agent_ready` before commands are sent all the same. */
  readyMs: number
  /** After a reconnect: silence after which a prompt that may be lost is sent again. */
  quietMs: number
  /** First pause before a prompt that was ended without an answer is sent again. */
  bounceMs: number
  /** How long what was said over a connection that has closed waits for a Redis that is away. */
  lingerMs: number
}

/** WebSocket close codes (RFC 6455): go elsewhere; this one is replaced, or its key is no longer good. */
const CLOSE = {
  drain: 1012,
  unaccepted: 1011,
  superseded: 1008,
  operator: 1012,
  revoked: 1008,
  expired: 1008,
} as const
/** Above so many bytes that wait for Redis the socket is not read. */
const PAUSE_BYTES = 16 * 1024 * 1024
/** Longest wait for a peer's answer to a close, ms. */
const CLOSE_MS = 1000
/**
 * Longest wait for what was said to reach the log, before a connection is given up; when Redis was away the pause between two
 * attempts comes on top.
 */
const SETTLE_MS = { usual: 2000, afterOutage: 4000 }
/** Conversations that are remembered. */
const MOST_CONVERSATIONS = 200
/** Late words that a connection keeps for later ones. */
const MOST_OVERHEARD = 10_000

/** A Helix agent's socket as core sees an agent. Frames are handled one after the other, in the order they came. */
export class HelixLink implements AgentLink {
  readonly agent: string
  readonly pool: string | null
  readonly connection: string
  readonly since: number
  readonly realm: string
  readonly transport = 'helix'
  ending = false
  readonly confirms = false
  /** From its joining on. */
  station!: Station
  readonly #parts: Parts
  readonly #socket: WebSocket
  readonly #settings: HelixSettings
  readonly #conversations = new Map<SessionId, Conversation>()
  readonly #threads: Threads
  #latest: SessionId | undefined
  #opened = (): void => {}
  #takenUp = false
  /** It has closed while Redis was away, and what it had heard waits. */
  #lingering = false
  /** What it has heard and Redis has not is lost. */
  #abandoned = false
  #work: Promise<void> = new Promise((resolve) => (this.#opened = resolve))
  #backlog = 0
  #overheard = 0
  /** What core says of conversations that are being looked up. */
  readonly #untold = new Map<SessionId, ((it: Conversation) => void)[]>()
  #ready = false
  #held: (() => void)[] = []

  constructor(
    parts: Parts,
    socket: WebSocket,
    settings: HelixSettings,
    self: { agent: string; pool: string | null; connection: string; since: number },
  ) {
    this.#parts = parts
    this.#socket = socket
    this.#settings = settings
    this.agent = self.agent
    this.pool = self.pool
    this.connection = self.connection
    this.since = self.since
    this.realm = self.pool === null ? self.agent : '' // it is named after its session
    const lookUp = (session: SessionId) => this.#lookUp(session)
    this.#threads = new Threads(parts.store, { pool: self.pool, open: this.#conversations, lookUp })
  }

  /** Takes up what the agent had in hand, then hears what it says; before this its frames wait. */
  async open(resumed: { session: SessionId; request: RequestId; after: number }[]): Promise<void> {
    for (const session of this.station.holds.keys()) {
      const conversation = await this.#converse(
        session,
        resumed.find((it) => it.session === session),
      )
      if (!conversation) continue
      this.#latest ??= session
      if (conversation.thread === '' || (conversation.request === '' && session !== this.agent)) continue
      this.#threads.open(conversation)
    }
    this.#takenUp = true
    this.#opened()
    setTimeout(() => this.#becomeReady(), this.#settings.readyMs).unref()
  }

  /** A text frame from the agent. */
  hear(frame: string): void {
    this.#backlog += frame.length
    this.#regulate()
    this.#work = this.#work
      .then(() => (this.#abandoned ? undefined : this.#persistently(() => this.#handle(frame))))
      .catch((err: unknown) => (this.#abandoned ? undefined : this.#parts.observe.bug('helix frame', err)))
      .finally(() => {
        this.#backlog -= frame.length
        this.#regulate()
      })
  }

  turn(message: TurnMessage): void {
    const { session } = message
    this.#latest = session
    const unknown = !this.#conversations.has(session) && !this.#untold.has(session)
    if (unknown) this.#untold.set(session, [])
    this.#tell(session, (it) => it.start(message))
    if (!unknown) return
    this.#work = this.#work
      .then(async () => void (this.#conversations.has(session) || (await this.#converse(session))))
      .catch((err: unknown) => this.#parts.observe.outage('helix turn', err)) // it is dispatched anew, in time
      .finally(() => this.#untold.delete(session))
  }

  ack(request: RequestId, after: number): void {
    this.#conversations.get(sessionOf(request))?.acked(request, after)
    this.#regulate()
  }

  resend(request: RequestId, after: number): void {
    this.#conversations.get(sessionOf(request))?.resend(request, after)
  }

  cancel(session: SessionId, request: RequestId, reason: CancelMessage['reason']): void {
    this.#tell(session, (it) => it.over(request, reason))
  }

  ask(session: SessionId, request: RequestId): void {
    this.#tell(session, (it) => it.ask(request))
  }

  /** At once, or, while the conversation is being looked up, as soon as it is there. */
  #tell(session: SessionId, say: (it: Conversation) => void): void {
    const known = this.#conversations.get(session)
    if (known) return say(known)
    const untold = this.#untold.get(session)
    if (untold) untold.push(say)
    else if (!this.#takenUp) this.#untold.set(session, [say])
  }

  async settle(): Promise<void> {
    if (this.#abandoned) return
    const most = this.#lingering ? SETTLE_MS.afterOutage : SETTLE_MS.usual
    const end = Date.now() + most
    const late = new Promise<void>((resolve) => setTimeout(resolve, most).unref())
    await Promise.race([this.#work, late])
    while (Date.now() < end && !this.#silent) await pause(10)
  }

  /** Whether nothing that the agent said is still on its way into the log. */
  get #silent(): boolean {
    return this.#backlog === 0 && [...this.#conversations.values()].every((it) => it.settled)
  }

  /**
   * Its socket has closed. What the agent had said it will not say again: while Redis is away that waits, until `stopped` or
   * its time is up. A newer connection waits for it as for any other; whatever comes later than that is fenced.
   */
  async outlast(stopped: AbortSignal): Promise<void> {
    this.ending = true
    if (!this.#takenUp) return this.abandon()
    await this.settle()
    if (this.#silent) return
    const limit = AbortSignal.any([stopped, AbortSignal.timeout(this.#settings.lingerMs)])
    const isBack = await persistently(
      () => this.#parts.store.replicas.now(),
      () => limit.aborted,
      () => (this.#lingering = true),
    ).catch(() => false)
    while (isBack && this.#lingering && !this.#silent && !limit.aborted) await pause(10)
    if (!isBack || this.#lingering) this.abandon()
  }

  /** What it has heard and Redis has not will not be heard of any more. */
  abandon(): void {
    if (this.#silent) return
    const bytes = [...this.#conversations.values()].reduce((sum, it) => sum + it.pendingBytes, this.#backlog)
    this.#lost('store_unavailable', [...this.#conversations.keys()], bytes)
    this.#abandoned = true
  }

  #lost(why: 'store_unavailable' | 'superseded', sessions: SessionId[], bytes: number): void {
    this.#parts.observe.agentWordsLost({ agent: this.agent, connection: this.connection, why, sessions, bytes })
  }

  /** Zed cannot open a second connection beside this one: it is closed when all that it said is safe. */
  move(): void {
    this.close('drain')
  }

  /** What is on its way here is heard until the agent answers the close: it will not say it again elsewhere. */
  close(why: keyof typeof CLOSE): void {
    this.ending = true
    this.#socket.close(CLOSE[why], why === 'revoked' || why === 'expired' ? `key ${why}` : why)
    setTimeout(() => this.#socket.terminate(), CLOSE_MS).unref() // a peer that is gone answers no close
  }

  async #handle(frame: string): Promise<void> {
    let event: HelixEvent
    try {
      event = readFrame(frame)
    } catch (err) {
      const detail = String((err as Error).message).slice(0, 300)
      return this.#parts.observe.badMessage({ agent: this.agent, code: 'invalid_frame', detail })
    }
    switch (event.type) {
      case 'ready':
        await this.#threads.loaded(event.thread)
        return this.#becomeReady()
      case 'nothing':
        return
      case 'user_thread':
        return this.#threads.announced(event.thread, event.title)
      case 'thread':
        return this.#threads.created(event.thread, event.request)
      case 'title':
        return this.#threads.titled(event.thread, event.title)
      case 'message':
        this.#becomeReady()
        return this.#said(event)
      case 'completed':
        this.#becomeReady()
        return (await this.#threads.of(event.thread, event.request))?.completed(event)
      case 'response':
        return this.#threads.ofRequest(event.request)?.response(event)
      case 'load_error': {
        const conversation = this.#threads.ofRequest(event.request) ?? (await this.#threads.of(event.thread, ''))
        return conversation?.failed('thread_load_error', event.error, event.request)
      }
      case 'error':
        return this.#threads.ofRequest(event.request)?.failed('agent_error', event.error, event.request)
      case 'cancelled':
        return this.#threads.ofRequest(event.request)?.cancelled(event)
    }
  }

  async #said(message: Message): Promise<void> {
    let conversation = await this.#threads.of(message.thread, message.request)
    if (!conversation) {
      conversation = await this.#branch(message.thread)
      if (!conversation) return this.#dropped('foreign', message.request)
      if (!message.byUser) await this.#begin(conversation, { ...message, content: '' })
    }
    if (!message.byUser) return conversation.message(message)
    if (!conversation.echoes(message)) await this.#begin(conversation, message)
  }

  /** A person wrote at the agent. */
  async #begin(conversation: Conversation, { id, content, request }: Message): Promise<void> {
    const { station } = this
    const held = station.holds.get(conversation.session)
    // an agent of named sessions that no longer has one was superseded; one of a pool gives them back between turns
    const it = held ?? (this.pool && (await takeSession(this.#parts, station, conversation.session)))
    const typed = { interaction: newInteractionId(conversation.session), request, entry: Number(id) }
    const turn = { interaction: typed.interaction, input: content, agentRef: refOf(typed) }
    conversation.expect(typed)
    const place = it ? await this.#persistently(() => beginTurn(this.#parts, it, turn)) : undefined
    if (place === 0) conversation.stepBack(typed)
    if (place !== undefined) return
    conversation.unexpect(typed)
    this.#lost('superseded', [conversation.session], content.length)
    this.#dropped('foreign', '')
  }

  /** While Redis is away what the agent said waits: it will not say it again. */
  #persistently<T>(work: () => Promise<T>): Promise<T> {
    const { observe } = this.#parts
    return persistently(
      work,
      () => this.#abandoned || this.station.closed,
      (err) => observe.outage('helix frame', err),
    )
  }

  /** A conversation that a person opened at the agent and has now written in; before that it is a draft, and no session. */
  async #branch(thread: string): Promise<Conversation | undefined> {
    if (!this.#latest) return undefined
    const it = await branchSession(this.#parts, this.station, this.#latest, this.#threads.draft(thread))
    const conversation = it && (await this.#converse(it.session))
    if (!conversation) return undefined
    await this.#threads.bind(conversation, thread)
    return conversation
  }

  /** A session that the agent has a thread of. An agent of a pool may have any of that pool, others just their own. */
  async #lookUp(session: SessionId): Promise<Conversation | undefined> {
    const stored = await this.#parts.store.sessions.read(session)
    if (!stored || this.pool === null || stored.pool !== this.pool) return undefined
    return this.#converse(session)
  }

  async #converse(
    session: SessionId,
    resumed?: { request: RequestId; after: number },
  ): Promise<Conversation | undefined> {
    const { store } = this.#parts
    const stored = await store.sessions.read(session)
    if (!stored) return undefined
    const past = new Past()
    const current = resumed ? interactionOf(resumed.request) : ''
    const [turns, overheard] = await Promise.all([
      pastTurns(this.#parts, session, current),
      store.overheard.read(session),
    ])
    for (const [entry, known] of Object.entries(overheard)) past.know(entry, JSON.parse(known) as Known)
    for (const { entries } of turns.toSorted(byEnd)) past.add(entries) // last, for `past.last`
    const asked = turns.filter(({ origin, attempt }) => origin === 'client' && attempt > 0)
    const aside = asked.find(waitsAtTheAgent)
    const unnamed = turns.filter(
      ({ origin, attempt, status }) => origin === 'agent' && attempt === 0 && !isTerminal(status),
    )
    const of = {
      id: session,
      pool: stored.pool,
      thread: stored.thread,
      agentName: stored.metadata['agent_name'] ?? this.#settings.agentName,
      recent: asked.slice(-MOST_RECENT).map(({ id }) => id),
      typed: unnamed.map(({ id, agentRef }) => typedOf(id, agentRef)),
      aside: aside?.yielded ?? '',
    }
    const conversation = new Conversation(of, past, {
      window: WINDOW,
      bounceMs: this.#settings.bounceMs,
      quietMs: this.#settings.quietMs,
      send: (command) => this.#socket.send(JSON.stringify(command)),
      whenReady: (say) => (this.#ready ? say() : void this.#held.push(say)),
      push: (request, first, events) => {
        const it = this.station.holds.get(session)
        if (it?.request === request) it.writer?.push(first, events)
      },
      giveBack: (request, delayMs) => {
        const it = this.station.holds.get(session)
        if (it) giveBack(it, request, delayMs)
      },
      fate: async (interaction) => fateOf(await store.turns.read(interaction)),
      open: () => openTurns(this.#parts, session),
      overheard: (entry, known) => this.#keep(session, entry, known),
      dropped: (reason, request) => this.#dropped(reason, request),
    })
    if (resumed) {
      const [turn, log] = await Promise.all([
        store.turns.read(interactionOf(resumed.request)),
        foldLog(store.log, interactionOf(resumed.request)),
      ])
      if (turn) {
        const { id: interaction, origin, input, agentRef } = turn
        const { request: speaker, entry } = typedOf(interaction, agentRef)
        conversation.resume(
          { request: resumed.request, interaction, origin, input, speaker, after: entry },
          resumed.after,
          log.entries,
        )
      }
    }
    this.#conversations.set(session, conversation)
    this.#forgetIdle()
    if (stored.thread) this.#threads.know(stored.thread, conversation)
    for (const say of this.#untold.get(session) ?? []) say(conversation)
    this.#untold.delete(session)
    return conversation
  }

  #keep(session: SessionId, entry: string, known: Known): void {
    if (this.#overheard++ >= MOST_OVERHEARD) return
    this.#parts.store.overheard
      .add(session, entry, JSON.stringify(known))
      .catch((err: unknown) => this.#parts.observe.outage('helix overheard', err))
  }

  /** An agent of a pool sees many sessions: those it no longer holds are looked up again when they come back. */
  #forgetIdle(): void {
    for (const [session, idle] of this.#conversations) {
      if (this.#conversations.size <= MOST_CONVERSATIONS) return
      if (idle.request !== '' || this.station.holds.has(session)) continue
      this.#conversations.delete(session)
      this.#threads.forget(idle)
    }
  }

  #becomeReady(): void {
    if (this.#ready) return
    this.#ready = true
    for (const say of this.#held.splice(0)) say()
    for (const conversation of this.#conversations.values()) void conversation.sendAgainAfter(this.#settings.quietMs)
  }

  #dropped(reason: 'replay' | 'late' | 'older' | 'foreign', request: string): void {
    if (reason === 'replay' || !isRequestId(request)) return this.#parts.observe.metrics.fenced.inc({ reason })
    fenced(this.#parts, this.station, request, reason, 1)
  }

  /** An agent that is faster than Redis is not read: its own socket holds it back. */
  #regulate(): void {
    const waiting = [...this.#conversations.values()].reduce((sum, it) => sum + it.pendingBytes, this.#backlog)
    if (waiting > PAUSE_BYTES) this.#socket.pause()
    else this.#socket.resume()
  }
}

/** The order in which the agent had them; those that are not over come last. */
const byEnd = (a: PastTurn, b: PastTurn): number => (a.endedAt || Infinity) - (b.endedAt || Infinity)
