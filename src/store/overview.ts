import { sessionOf, type InteractionId, type SessionId } from '../protocol/ids.js'
import { DEADLINE_SHARDS, type Keys } from './keys.js'
import { byNewest, newestFirst, type Listed } from './newest-first.js'
import type { Database } from './redis.js'

/** Turns of one shard that are listed as in flight, at most. */
const MOST_DUE = 2000
const SHARDS = Array.from({ length: DEADLINE_SHARDS }, (_, shard) => shard)

/**
 * What there is over all owners, for operators. Read from the deadlines and what stands beside them: no SCAN, and a
 * bounded part of every shard. Lines whose session or turn is gone are among them; who finds one calls `forget`.
 */
export class Overview {
  readonly #db: Database
  readonly #keys: Keys

  constructor(db: Database, keys: Keys) {
    this.#db = db
    this.#keys = keys
  }

  /** Sessions by their last activity (a message posted, a turn ended), the newest first. `before`: see `newestFirst`. */
  async sessions(limit: number, before?: string): Promise<Listed<SessionId>[]> {
    return this.#newest(this.#keys.recent, limit, before)
  }

  /** Turns that have ended, the last first; about the last 16,000, of sessions that still live. */
  async ended(limit: number, before?: string): Promise<Listed<InteractionId>[]> {
    return this.#newest(this.#keys.ended, limit, before)
  }

  /** Turns that have not ended, and when each is to be looked at next. `all`: whether these are all there are. */
  async inFlight(): Promise<{ turns: { id: InteractionId; lookAt: number }[]; all: boolean }> {
    const shards = await Promise.all(
      SHARDS.map((shard) =>
        this.#db.run((redis) =>
          redis.zrangebyscore(this.#keys.deadlines(shard), '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, MOST_DUE),
        ),
      ),
    )
    const turns = shards.flatMap((rows) => {
      const flat = rows.flat().map(String)
      return Array.from({ length: flat.length / 2 }, (_, i) => ({
        id: flat[2 * i] as InteractionId,
        lookAt: Number(flat[2 * i + 1]),
      }))
    })
    return { turns, all: shards.every((rows) => rows.flat().length < 2 * MOST_DUE) }
  }

  /** When a turn is to be looked at next, ms; undefined when nothing is left to do for it. */
  async lookAt(id: InteractionId): Promise<number | undefined> {
    const key = this.#keys.deadlines(this.#keys.deadlineShard(sessionOf(id)))
    const score = await this.#db.run((redis) => redis.zscore(key, id))
    return score === null ? undefined : Number(score)
  }

  /** The session, or the ended turn, is gone. */
  async forget(id: SessionId | InteractionId): Promise<void> {
    const isSession = id.startsWith('ses_')
    const shard = this.#keys.deadlineShard(isSession ? (id as SessionId) : sessionOf(id as InteractionId))
    const key = isSession ? this.#keys.recent(shard) : this.#keys.ended(shard)
    await this.#db.run((redis) => redis.zrem(key, id))
  }

  async #newest<Id extends string>(key: (shard: number) => string, limit: number, before?: string) {
    const shards = await Promise.all(SHARDS.map((shard) => newestFirst<Id>(this.#db, key(shard), limit, before)))
    return shards.flat().sort(byNewest).slice(0, limit)
  }
}
