import { MAX_BATCH_EVENTS } from './agent-wire.js'
import { isEnd, type AgentEvent } from './events.js'

/** How much of what was acknowledged is kept all the same: a failover of Redis may take it back. */
export const TAIL = { ms: 30_000, events: 1000, bytes: 4 * 1024 * 1024 }

/** Most events and bytes of one message. */
const BATCH = { events: MAX_BATCH_EVENTS, bytes: 512 * 1024 }

/** How far the agent may be ahead of the acknowledgements, per request. */
export interface Window {
  events: number
  bytes: number
}

interface Kept {
  event: AgentEvent
  bytes: number
  /** When it was acknowledged, ms; 0 before. */
  ackedAt: number
}

/**
 * The events of one request, numbered from 1: what is still to be sent, what is sent and not acknowledged, and a tail of
 * what is. Pure: time is an argument.
 */
export class Outbox {
  #kept: Kept[] = []
  /** Number of the last event that is no longer kept. */
  #forgotten = 0
  #acked = 0
  #sent = 0
  #pendingBytes = 0
  /** The part of the pending bytes that is sent. */
  #sentBytes = 0
  #ended = false
  #dropped = false

  /** `after`: the log has so many events already, from a connection before this one. */
  constructor(after = 0) {
    this.#forgotten = this.#acked = this.#sent = after
  }

  /** Number of the last event that was put in. */
  get last(): number {
    return this.#forgotten + this.#kept.length
  }

  get acked(): number {
    return this.#acked
  }

  get sent(): number {
    return this.#sent
  }

  /** The end of the turn was put in. */
  get ended(): boolean {
    return this.#ended
  }

  /** Nothing is left to say or to send: its end is acknowledged, or it was dropped. */
  get over(): boolean {
    return this.#dropped || (this.#ended && this.#acked === this.last)
  }

  /** Events, and bytes of JSON, that are not acknowledged. */
  get pending(): { events: number; bytes: number } {
    return { events: this.last - this.#acked, bytes: this.#pendingBytes }
  }

  put(event: AgentEvent): void {
    const bytes = sizeOf(event)
    this.#kept.push({ event, bytes, ackedAt: 0 })
    this.#pendingBytes += bytes
    if (isEnd(event)) this.#ended = true
  }

  /** The next batch to send; undefined when all is sent or the window is full. Counts as sent from now on. */
  take(window: Window): { first: number; events: AgentEvent[] } | undefined {
    const first = this.#sent + 1
    const events: AgentEvent[] = []
    for (let bytes = 0; this.#sent < this.last && events.length < BATCH.events; this.#sent++) {
      const next = this.#kept[this.#sent - this.#forgotten]!
      const inFlight = this.#sent - this.#acked // with none of it, one event goes whatever its size
      if (inFlight > 0 && (inFlight >= window.events || this.#sentBytes + next.bytes > window.bytes)) break
      bytes += next.bytes
      if (events.length > 0 && bytes > BATCH.bytes) break
      events.push(next.event)
      this.#sentBytes += next.bytes
    }
    return events.length > 0 ? { first, events } : undefined
  }

  /** Everything up to `after` is in the log. */
  ack(after: number, nowMs: number): void {
    for (; this.#acked < Math.min(after, this.last); this.#acked++) {
      const kept = this.#kept[this.#acked - this.#forgotten]!
      kept.ackedAt = nowMs
      this.#pendingBytes -= kept.bytes
      if (this.#acked < this.#sent) this.#sentBytes -= kept.bytes
    }
    this.#sent = Math.max(this.#sent, this.#acked)
    this.trim(nowMs)
  }

  /** The log ends at `after`: what follows goes out again. False when it is no longer kept, or was never said. */
  rewind(after: number, nowMs: number): boolean {
    if (this.#dropped) return true
    if (after < this.#forgotten || after > this.last) return false
    if (after >= this.#acked) this.ack(after, nowMs)
    for (; this.#acked > after; this.#acked--)
      this.#pendingBytes += this.#kept[this.#acked - 1 - this.#forgotten]!.bytes
    this.#sent = after
    this.#sentBytes = 0
    return true
  }

  /** Puts `end` in the place of everything after event `after`. */
  endAfter(after: number, end: AgentEvent): void {
    this.#kept = []
    this.#forgotten = this.#acked = this.#sent = after
    this.#pendingBytes = this.#sentBytes = 0
    this.put(end)
  }

  /** Forgets the part of the tail that is old or too large. */
  trim(nowMs: number): void {
    let bytes = 0
    let keep = this.#acked - this.#forgotten
    for (let i = keep - 1, events = 0; i >= 0; i--, events++) {
      const kept = this.#kept[i]!
      bytes += kept.bytes
      if (nowMs - kept.ackedAt > TAIL.ms || events >= TAIL.events || bytes > TAIL.bytes) break
      keep = i
    }
    this.#kept.splice(0, keep)
    this.#forgotten += keep
  }

  /** Nothing more will be sent: the turn is over for everybody. */
  drop(): void {
    this.#dropped = true
    this.#forgotten = this.last
    this.#acked = this.#sent = this.#forgotten
    this.#kept = []
    this.#pendingBytes = this.#sentBytes = 0
  }
}

/** Bytes of an event as JSON, within a few: text is measured by its units. */
const sizeOf = (event: AgentEvent): number =>
  event.type === 'permission'
    ? JSON.stringify(event).length
    : 96 + ('text' in event ? event.text.length * 2 : 'message' in event ? event.message.length : 64)
