import { digest, type Keys } from './keys.js'
import type { Database } from './redis.js'

/** What a POST that may come again was given: ids made before anything was stored, so repeating it converges. */
export interface Reservation {
  session: string
  interaction: string
}

/** Remembers, per owner, which ids a POST was given, by its Idempotency-Key or its fingerprint. */
export class OnceIndex {
  readonly #db: Database
  readonly #keys: Keys

  constructor(db: Database, keys: Keys) {
    this.#db = db
    this.#keys = keys
  }

  /**
   * Reserves `ids` under `name` for `ttlMs`, or gives what was reserved before: `first` says which.
   * `other` when it was reserved by another body.
   */
  async reserve(
    owner: string,
    name: string,
    body: string,
    ids: Reservation,
    ttlMs: number,
  ): Promise<{ word: 'first' | 'again'; ids: Reservation } | { word: 'other' }> {
    const key = this.#keys.once(owner, name)
    const mine = JSON.stringify({ ...ids, body: digest(body) })
    const before = await this.#db.run((redis) => redis.set(key, mine, 'PX', ttlMs, 'NX', 'GET'))
    if (before === null) return { word: 'first', ids }
    const stored = JSON.parse(before) as Reservation & { body: string }
    if (stored.body !== digest(body)) return { word: 'other' }
    return { word: 'again', ids: { session: stored.session, interaction: stored.interaction } }
  }

  /** Remembers a POST without a key by what it says, replacing what was remembered. */
  async remember(owner: string, name: string, ids: Reservation, ttlMs: number): Promise<void> {
    await this.#db.run((redis) => redis.set(this.#keys.once(owner, name), JSON.stringify(ids), 'PX', ttlMs))
  }

  async recall(owner: string, name: string): Promise<Reservation | undefined> {
    const stored = await this.#db.run((redis) => redis.get(this.#keys.once(owner, name)))
    return stored ? (JSON.parse(stored) as Reservation) : undefined
  }

  /** The POST was refused before anything was stored: its key is free again. */
  async release(owner: string, name: string): Promise<void> {
    await this.#db.run((redis) => redis.del(this.#keys.once(owner, name)))
  }
}
