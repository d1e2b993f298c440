import { memberOf, replicaOfMember } from '../store/places.js'
import { isUnavailable } from '../store/redis.js'
import { coalesced } from './coalesce.js'
import type { Parts } from './parts.js'

/** A stream's place among its owner's. */
export interface Place {
  /** Aborted when a newer stream has taken the place over. */
  taken: AbortSignal
  leave(): void
}

/** A place that nobody renews fades after this time, ms: those of a killed replica. */
const PLACE_TTL_MS = 30_000
const RENEW_MS = PLACE_TTL_MS / 3

interface Held {
  owner: string
  taken: AbortController
}

/**
 * The streams that this replica holds open, among those of all replicas: an owner has at most `limit`. Who comes to a full
 * owner with a stream that can resume takes over the place of the oldest such stream; others are refused. While Redis is
 * away a replica lets in its share.
 */
export class Places {
  readonly #parts: Parts
  readonly #limit: number
  readonly #held = new Map<string, Held>()
  readonly #look: () => void
  #nth = 0
  #timer: NodeJS.Timeout | undefined
  #listening: Disposable | undefined
  #stopped = false

  constructor(parts: Parts, limit: number) {
    this.#parts = parts
    this.#limit = limit
    this.#look = coalesced(
      'places of streams',
      () => this.#renew(),
      parts.observe,
      () => this.#stopped,
    )
  }

  async start(): Promise<void> {
    const { store, settings } = this.#parts
    const listener = { message: this.#look, look: this.#look }
    this.#listening = await store.bus.listen(store.keys.placesOf(settings.replica), listener)
    this.#timer = setInterval(this.#look, RENEW_MS).unref()
  }

  stop(): void {
    this.#stopped = true
    clearInterval(this.#timer)
    this.#listening?.[Symbol.dispose]()
  }

  /** A place for a new stream of the owner; undefined when there is none. */
  async enter(owner: string, resumable: boolean): Promise<Place | undefined> {
    const { store, settings, clock } = this.#parts
    const member = memberOf(resumable, clock.now(), settings.replica, ++this.#nth)
    const taken = new AbortController()
    this.#held.set(member, { owner, taken }) // before it is asked for: a renewal meanwhile must know it
    if (!(await this.#admitted(owner, member, resumable))) {
      this.#held.delete(member)
      return undefined
    }
    return {
      taken: taken.signal,
      leave: () => {
        if (this.#held.delete(member)) store.places.leave(owner, member).catch(() => {}) // it fades by itself
      },
    }
  }

  async #admitted(owner: string, member: string, resumable: boolean): Promise<boolean> {
    try {
      const { refused, displaced } = await this.#occupy(owner, [member], resumable)
      for (const replica of new Set(displaced.map(replicaOfMember))) this.#tell(replica)
      return refused.length === 0
    } catch (err) {
      if (!isUnavailable(err)) throw err
      const mine = [...this.#held.values()].filter((it) => it.owner === owner).length
      return mine <= Math.max(1, Math.ceil(this.#limit / this.#parts.store.replicas.seen))
    }
  }

  #tell(replica: string): void {
    if (replica === this.#parts.settings.replica) this.#look()
    else this.#parts.store.places.tell(replica).catch(() => {}) // it looks by itself, later
  }

  /** Renews every place, and learns which were taken over. */
  async #renew(): Promise<void> {
    const owners = new Map<string, string[]>()
    for (const [member, { owner }] of this.#held) {
      const members = owners.get(owner)
      if (members) members.push(member)
      else owners.set(owner, [member])
    }
    for (const [owner, members] of owners) {
      const { refused } = await this.#occupy(owner, members, false)
      for (const member of members)
        if (!this.#held.has(member)) this.#parts.store.places.leave(owner, member).catch(() => {}) // left meanwhile
      for (const member of refused) {
        this.#held.get(member)?.taken.abort()
        this.#held.delete(member)
      }
    }
  }

  #occupy(owner: string, members: string[], takeOver: boolean) {
    return this.#parts.store.places.occupy(owner, members, { limit: this.#limit, ttlMs: PLACE_TTL_MS, takeOver })
  }
}
