import type { AgentEvent } from '../protocol/events.js'

/** How much of what was acknowledged is kept all the same: a failover of Redis may take it back. */
export const TAIL = { ms: 30_000, events: 1000, bytes: 4 * 1024 * 1024 }

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

  /** Number of the last event that was put in. */
  get last(): number {
    return this.#forgotten + this.#kept.length
  }

  get acked(): number {
    return this.#acked
  }

  /** Events, and bytes of JSON, that are not acknowledged. */
  get pending(): { events: number; bytes: number } {
    return { events: this.last - this.#acked, bytes: this.#pendingBytes }
  }

  put(event: AgentEvent): void {
    const bytes = sizeOf(event)
    this.#kept.push({ event, bytes, ackedAt: 0 })
    this.#pendingBytes += bytes
  }

  /** The next batch to send, at most so large; undefined when all is sent. Counts as sent from now on. */
  take(most: { events: number; bytes: number }): { first: number; events: AgentEvent[] } | undefined {
    const from = this.#sent - this.#forgotten
    const events: AgentEvent[] = []
    let bytes = 0
    for (const kept of this.#kept.slice(from, from + most.events)) {
      bytes += kept.bytes
      if (events.length > 0 && bytes > most.bytes) break
      events.push(kept.event)
    }
    if (events.length === 0) return undefined
    const first = this.#sent + 1
    this.#sent += events.length
    return { first, events }
  }

  /** Everything up to `after` is in the log. */
  ack(after: number, nowMs: number): void {
    for (; this.#acked < Math.min(after, this.last); this.#acked++) {
      const kept = this.#kept[this.#acked - this.#forgotten]!
      kept.ackedAt = nowMs
      this.#pendingBytes -= kept.bytes
    }
    this.#sent = Math.max(this.#sent, this.#acked)
    this.trim(nowMs)
  }

  /** The log ends at `after`: what follows goes out again. False when it is no longer kept. */
  rewind(after: number, nowMs: number): boolean {
    if (after < this.#forgotten) return false
    if (after >= this.#acked) this.ack(after, nowMs)
    for (; this.#acked > after; this.#acked--) this.#pendingBytes += this.#kept[this.#acked - 1 - this.#forgotten]!.bytes
    this.#sent = Math.min(after, this.last)
    return true
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
    this.#forgotten = this.last
    this.#acked = this.#sent = this.#forgotten
    this.#kept = []
    this.#pendingBytes = 0
  }
}

/** Bytes of an event as JSON, within a few: text is measured by its units. */
const sizeOf = (event: AgentEvent): number => 96 + ('text' in event ? event.text.length * 2 : 'message' in event ? event.message.length : 64)
