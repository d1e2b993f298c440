import { isEnd, isOutput, type AgentEvent } from '../protocol/events.js'
import { interactionOf, sessionOf, type RequestId } from '../protocol/ids.js'
import { AGENT_LOST } from '../protocol/thread.js'
import { isUnavailable } from '../store/redis.js'
import { backOff, pause } from './coalesce.js'
import { newName } from './mint.js'
import type { Parts } from './parts.js'
import { seal } from './seal.js'
import { bindThread, forgetThread } from './thread.js'

/** Most events and text units (UTF-16) in one append. */
const BATCH_EVENTS = 256
const BATCH_UNITS = 512 * 1024

/** What an agent may have unacknowledged per turn. What comes on top is dropped and asked for again. */
export const WINDOW = { events: 512, bytes: 2 * 1024 * 1024 }

export type Refusal = 'ended' | 'fenced' | 'superseded' | 'gone' | 'full'

export interface WriterEvents {
  acked(after: number): void
  resend(after: number): void
  /** The turn is over, by the agent's own end. */
  finished(): void
  /** Its thread, or what answers behind the agent, is gone: the request is over, the turn is not. Look at it again. */
  again(): void
  /** Nothing of this request can be written any more; `events` were dropped. */
  refused(why: Refusal, events: number, epoch?: number): void
}

/**
 * Writes one request's events to its log: one append in flight, what arrives meanwhile goes in the next one, so batches
 * grow under load and cost no delay without. The same batch is sent until Redis has answered it.
 */
export class Writer {
  readonly request: RequestId
  readonly #parts: Parts
  readonly #pool: string
  readonly #epoch: () => number
  readonly #on: WriterEvents
  #queue: AgentEvent[] = []
  #units = 0
  /** When each event of the queue came, ms of Redis time. */
  #heardAt: number[] = []
  /** When the agent got the turn, until its first output; undefined where that was elsewhere or is over. */
  #sentAt: number | undefined
  /** The agent's number of the first event in the queue. */
  #first: number
  #tip = 0
  #running: Promise<void> | null = null
  #asked = -1
  #stopped = false
  #alive = false

  /** `after`: the agent's last event that the log has. */
  constructor(
    parts: Parts,
    turn: { request: RequestId; pool: string; after: number; epoch: () => number; sentAt?: number },
    on: WriterEvents,
  ) {
    this.#parts = parts
    this.request = turn.request
    this.#pool = turn.pool
    this.#first = turn.after + 1
    this.#epoch = turn.epoch
    this.#sentAt = turn.sentAt
    this.#on = on
  }

  /** Takes a batch whose first event has the agent's number `first`; what is known already is skipped. */
  push(first: number, events: AgentEvent[]): void {
    if (this.#stopped) return
    const next = this.#first + this.#queue.length
    if (events.length === 0) this.#alive = true
    if (first > next || this.#queue.length + events.length > 2 * WINDOW.events || this.#units > 2 * WINDOW.bytes) {
      if (this.#asked !== next) this.#on.resend((this.#asked = next) - 1)
    } else {
      const now = this.#parts.clock.now()
      for (const event of events.slice(next - first)) {
        this.#queue.push(event)
        this.#heardAt.push(now)
        this.#units += unitsOf(event)
      }
      this.#asked = -1
    }
    this.#start()
  }

  /** What is queued is dropped; an append in flight may still land. */
  stop(): void {
    this.#stopped = true
    this.#queue = []
    this.#heardAt = []
  }

  /** The work under way, null between appends: what Redis says of the turn meanwhile may be this writer's own doing. */
  get busy(): Promise<void> | null {
    return this.#running
  }

  get #due(): boolean {
    return !this.#stopped && (this.#queue.length > 0 || this.#alive)
  }

  #start(): void {
    if (this.#running || !this.#due) return
    this.#running = this.#run().catch((err: unknown) => this.#parts.observe.bug('writer', err))
  }

  async #run(): Promise<void> {
    try {
      for (let failures = 0; this.#due;) {
        const batch = this.#batch()
        try {
          await this.#write(batch)
          failures = 0
        } catch (err) {
          if (!isUnavailable(err)) {
            this.#refuse('gone')
            throw err
          }
          if (failures++ === 0) this.#parts.observe.outage('append', err)
          await pause(backOff(failures))
        }
      }
    } finally {
      this.#running = null // in the step in which nothing was due: what comes after it starts anew
    }
  }

  /** The next events to write, at most up to the end of the turn; they stay queued until they are in the log. */
  #batch(): AgentEvent[] {
    const batch: AgentEvent[] = []
    let units = 0
    for (const event of this.#queue) {
      units += unitsOf(event)
      if (batch.length === BATCH_EVENTS || (batch.length > 0 && units > BATCH_UNITS)) break
      batch.push(event)
      if (isEnd(event)) break
    }
    return batch
  }

  async #write(events: AgentEvent[]): Promise<void> {
    const { store, observe } = this.#parts
    const interaction = interactionOf(this.request)
    const last = events.at(-1)
    this.#alive = false
    await bindThread(this.#parts, this.#pool, this.request, events)
    if (last?.type === 'failed' && last.code === AGENT_LOST) {
      if (events.length > 1) return this.#write(events.slice(0, -1)) // what it said before is output, and decides
      observe.agentLost({ session: sessionOf(this.request), interaction, request: this.request, why: last.message })
      this.stop()
      this.#on.again()
      return
    }
    if (last?.type === 'failed' && (await forgetThread(this.#parts, this.#pool, this.request, this.#epoch(), last))) {
      this.stop()
      this.#on.again()
      return
    }
    const started = performance.now()
    const answer = await store.log.append({
      interaction,
      request: this.request,
      epoch: this.#epoch(),
      expectedTip: this.#tip,
      first: this.#first,
      events,
      heardAt: this.#heardAt[0] ?? this.#parts.clock.now(),
      incarnation: newName('i').slice(2),
    })
    observe.metrics.appendSeconds.observe((performance.now() - started) / 1000)
    observe.metrics.appends.inc({ answer: answer.word })
    switch (answer.word) {
      case 'ok':
        await store.durability.events(this.request, answer.after)
        observe.metrics.events.inc(events.length)
        if (this.#sentAt !== undefined && events.some(isOutput)) {
          observe.metrics.firstOutput.observe(
            { pool: observe.metrics.ofPool(this.#pool) },
            (performance.now() - this.#sentAt) / 1000,
          )
          this.#sentAt = undefined
        }
        this.#tip = answer.tip
        this.#drop(answer.after)
        this.#on.acked(answer.after)
        if (last && isEnd(last)) {
          this.stop()
          this.#on.finished()
          void seal(this.#parts, interaction).catch(() => {}) // else the sweep finds it unsealed
        }
        return
      case 'rewound':
      case 'hole':
        observe.logRewound({
          session: sessionOf(this.request),
          interaction,
          request: this.request,
          tip: answer.tip,
          after: answer.after,
        })
        await store.durability.events(this.request, answer.after) // "from here on" is an acknowledgement too
        this.#tip = answer.tip
        this.#drop(Infinity)
        this.#first = answer.after + 1
        this.#asked = this.#first
        this.#on.resend(answer.after)
        return
      case 'ended':
        if (last && isEnd(last) && answer.after >= this.#first + events.length - 1) {
          // our own end, written by a call whose answer was lost
          await store.durability.events(this.request, answer.after)
          this.stop()
          this.#on.acked(answer.after)
          this.#on.finished()
          void seal(this.#parts, interaction).catch(() => {})
          return
        }
        return this.#refuse('ended')
      case 'superseded':
        return this.#refuse('superseded', answer.epoch)
      default:
        return this.#refuse(answer.word)
    }
  }

  #drop(upTo: number): void {
    const count = Math.max(0, Math.min(upTo - this.#first + 1, this.#queue.length))
    for (const event of this.#queue.splice(0, count)) this.#units -= unitsOf(event)
    this.#heardAt.splice(0, count)
    this.#first += count
  }

  #refuse(why: Refusal, epoch?: number): void {
    const dropped = this.#queue.length
    this.stop()
    this.#on.refused(why, dropped, epoch)
  }
}

const unitsOf = (event: AgentEvent): number => ('text' in event ? event.text.length : 64)
