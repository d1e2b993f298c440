import { ThroughlineError } from '../protocol/errors.js'
import { isEnd, type LogEvent } from '../protocol/events.js'
import { emptyTurn, type Turn } from '../protocol/fold.js'
import { sessionOf, type InteractionId } from '../protocol/ids.js'
import { isTerminal } from '../protocol/interaction.js'
import { place, type Cursor } from '../protocol/sequence.js'
import type { Message } from '../store/bus.js'
import { PAGE, type LiveBatch } from '../store/log.js'
import { persistently } from './coalesce.js'
import type { Followed } from './core.js'
import type { Parts } from './parts.js'
import { foldLog } from './seal.js'

/** Follows one turn, as `follow` below does, with what it needs given already. */
export type Follow = (id: InteractionId, after: Cursor, signal: AbortSignal) => AsyncIterable<Followed>

/** Live batches held for a follower that is not asking; beyond it the log is read instead. */
const HELD_BATCHES = 64
/** A follower without news looks at the log by itself after this time, ms. */
const LOOK_EVERY_MS = 15_000

/**
 * Everything in the log after the cursor, once and in order, live until the turn has ended. Subscribes first and holds
 * what comes meanwhile, reads the log, then goes on live; a hole in the numbers, a "look again", or an overflow of what
 * is held sends it back to the log. Ends early, and without an error, when `signal` aborts.
 * Throws `not_found` when the interaction has expired, `store_unavailable` after LIVE_OUTAGE_MS without Redis.
 */
export async function* follow(
  parts: Pick<Parts, 'store' | 'settings' | 'clock'>,
  id: InteractionId,
  after: Cursor,
  signal: AbortSignal,
  overdue: () => Promise<void>,
): AsyncGenerator<Followed> {
  const { store } = parts
  /** Whether the end of the turn may be shown as final. Not when it went with the server that had it: read again. */
  const isFinal = async () =>
    !store.durability.waits ||
    persist(parts, signal, async () => {
      const head = await store.turns.head(id)
      if (!head || !isTerminal(head.status)) return false
      if (!head.sealed) await store.durability.end(id)
      return true
    })
  using live = new Live(id, signal)
  using _ = await persist(parts, signal, () => store.bus.listen(store.keys.live(sessionOf(id)), live))
  let cursor = after
  const hereSince = parts.clock.now()
  while (!signal.aborted) {
    live.dirty = false
    const head = await persist(parts, signal, () => store.turns.head(id))
    if (signal.aborted) return
    if (!head) throw new ThroughlineError('not_found')
    if (isTerminal(head.status) && !(await isFinal())) continue
    const continues = cursor.n === 0 || (cursor.incarnation === head.incarnation && cursor.n <= head.tip)
    if (!continues) {
      const turn = await persist(parts, signal, () => snapshotOf(parts, id))
      if (isTerminal(turn.status) && !(await isFinal())) continue
      cursor = { n: turn.n, incarnation: head.incarnation }
      yield { type: 'snapshot', turn, cursor }
      if (isTerminal(turn.status)) return
      continue
    }
    cursor = { n: cursor.n, incarnation: head.incarnation }
    for (let more = true; more && !signal.aborted;) {
      const events = await persist(parts, signal, () => store.log.read(id, cursor.n))
      if (signal.aborted) return
      more = events.length === PAGE
      if (events.some(isEnd) && !(await isFinal())) {
        live.look()
        break
      }
      if (events.length === 0) break
      cursor = { ...cursor, n: events.at(-1)!.n }
      const heardAt = events.find(({ at }) => at >= hereSince)?.at
      yield {
        type: 'events',
        events,
        incarnation: cursor.incarnation,
        ...(heardAt !== undefined && { heardAt }),
      }
      if (events.some(isEnd)) return
    }
    if (isTerminal(head.status) && cursor.n < head.tip) {
      // the log has expired, the result is kept
      const turn = await persist(parts, signal, () => snapshotOf(parts, id))
      yield { type: 'snapshot', turn, cursor: { n: head.tip, incarnation: head.incarnation } }
      return
    }
    if (isTerminal(head.status)) return

    while (!live.dirty && !signal.aborted) {
      const batch = await live.next()
      if (batch === 'look') break
      if (batch === 'quiet') {
        await persist(parts, signal, overdue)
        break
      }
      if (batch.incarnation !== cursor.incarnation) break
      const last = batch.first + batch.count - 1
      if (last <= cursor.n) continue
      if (batch.events === null || place(cursor.n, batch.first) === 'hole') break
      const events = eventsOf(batch).slice(cursor.n + 1 - batch.first)
      if (events.some(isEnd) && !(await isFinal())) break
      cursor = { ...cursor, n: last }
      yield { type: 'events', events, incarnation: cursor.incarnation, heardAt: batch.heard ?? batch.at }
      if (events.some(isEnd)) return
    }
  }
}

/** The state as a whole, from the log or, where that has expired, from what was sealed. */
export async function snapshotOf({ store }: Pick<Parts, 'store'>, id: InteractionId): Promise<Turn> {
  const turn = await foldLog(store.log, id)
  if (turn.n > 0) return turn
  const stored = await store.turns.read(id)
  if (!stored) throw new ThroughlineError('not_found')
  return {
    ...emptyTurn(),
    n: stored.tip,
    status: stored.status,
    attempt: stored.attempt,
    entries: stored.output ?? [],
    ...(stored.usage && { usage: stored.usage }),
    ...(stored.stopReason && { stopReason: stored.stopReason }),
    ...(stored.error && { error: stored.error }),
  }
}

const decoded = new WeakMap<LiveBatch, LogEvent[]>()

/** The events of a live batch: the same objects for every viewer on this replica, so that each is encoded once. */
function eventsOf(batch: LiveBatch): LogEvent[] {
  let events = decoded.get(batch)
  if (!events) {
    events = (batch.events ?? []).map((event, i) => ({ ...event, n: batch.first + i, at: batch.at }) as LogEvent)
    decoded.set(batch, events)
  }
  return events
}

/** What the bus says between two questions of a follower: a few batches, or just that it must look. */
class Live implements Disposable {
  readonly #id: InteractionId
  readonly #signal: AbortSignal
  #held: LiveBatch[] = []
  #wake: () => void = () => {}
  /** Batches were dropped, or the channel was cut: the log must be read. */
  dirty = false

  constructor(id: InteractionId, signal: AbortSignal) {
    this.#id = id
    this.#signal = signal
    signal.addEventListener('abort', this.#aborted)
  }

  readonly #aborted = () => this.#wake()

  message(message: Message): void {
    const batch = message.json<LiveBatch>()
    if (batch.interaction !== this.#id) return
    if (this.#held.length >= HELD_BATCHES) this.look()
    else this.#held.push(batch)
    this.#wake()
  }

  look(): void {
    this.dirty = true
    this.#held = []
    this.#wake()
  }

  async next(): Promise<LiveBatch | 'look' | 'quiet'> {
    const batch = this.#held.shift()
    if (batch) return batch
    if (this.dirty || this.#signal.aborted) return 'look'
    const quiet = await new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(true), LOOK_EVERY_MS)
      this.#wake = () => {
        clearTimeout(timer)
        resolve(false)
      }
    })
    this.#wake = () => {}
    return quiet ? 'quiet' : (this.#held.shift() ?? 'look')
  }

  [Symbol.dispose](): void {
    this.#signal.removeEventListener('abort', this.#aborted)
  }
}

/** Tries again while Redis is away, for at most LIVE_OUTAGE_MS. */
export function persist<T>(
  { settings }: Pick<Parts, 'settings'>,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  const giveUpAt = Date.now() + settings.liveOutageMs
  return persistently(work, () => signal.aborted || Date.now() > giveUpAt)
}
