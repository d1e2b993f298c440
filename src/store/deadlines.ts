import { sessionOf, type InteractionId } from '../protocol/ids.js'
import { DEADLINE_SHARDS, type Keys } from './keys.js'
import type { Database } from './redis.js'

/** Ended turns that are listed per shard; the oldest go first. */
const MOST_ENDED = 1000

/**
 * What must be looked at, by when (ms of Redis time). Every interaction that is not sealed stands here; a line too much
 * is found idle by the sweep and removed. Beside it, in the same slots, what `overview.ts` reads.
 */
export class DeadlineIndex {
  readonly #db: Database
  readonly #keys: Keys
  readonly #ttlMs: number

  constructor(db: Database, keys: Keys, ttlMs: number) {
    this.#db = db
    this.#keys = keys
    this.#ttlMs = ttlMs
  }

  /** Sets when to look. With `sooner`, only if that is earlier than what was set. */
  async look(id: InteractionId, atMs: number, how: 'set' | 'sooner' = 'set'): Promise<void> {
    const key = this.#shardOf(id)
    await this.#db.run((redis) => {
      const both = redis.multi()
      if (how === 'sooner') both.zadd(key, 'LT', atMs, id)
      else both.zadd(key, atMs, id)
      return both.pexpire(key, this.#ttlMs).exec()
    })
  }

  /** A new turn: when to look at it, and that its session is active. */
  async enlist(id: InteractionId, atMs: number, nowMs: number): Promise<void> {
    const [due, recent] = [this.#shardOf(id), this.#recentOf(id)]
    await this.#db.run((redis) =>
      redis
        .multi()
        .zadd(due, atMs, id)
        .pexpire(due, this.#ttlMs)
        .zadd(recent, nowMs, sessionOf(id))
        .pexpire(recent, this.#ttlMs)
        .exec(),
    )
  }

  /** A turn has ended and nothing is left to do for it. */
  async settle(id: InteractionId, endedAtMs: number): Promise<void> {
    const ended = this.#keys.ended(this.#keys.deadlineShard(sessionOf(id)))
    await this.#db.run((redis) =>
      redis
        .multi()
        .zrem(this.#shardOf(id), id)
        .zadd(this.#recentOf(id), 'XX', 'GT', endedAtMs, sessionOf(id))
        .zadd(ended, endedAtMs, id)
        .zremrangebyrank(ended, 0, -MOST_ENDED - 1)
        .pexpire(ended, this.#ttlMs)
        .exec(),
    )
  }

  async drop(id: InteractionId): Promise<void> {
    await this.#db.run((redis) => redis.zrem(this.#shardOf(id), id))
  }

  /** At most `limit` interactions of a shard that are due, the longest overdue first. */
  async due(shard: number, nowMs: number, limit: number): Promise<InteractionId[]> {
    return (await this.#db.run((redis) =>
      redis.zrangebyscore(this.#keys.deadlines(shard), '-inf', nowMs, 'LIMIT', 0, limit),
    )) as InteractionId[]
  }

  get shards(): number[] {
    return Array.from({ length: DEADLINE_SHARDS }, (_, shard) => shard)
  }

  #recentOf(id: InteractionId): string {
    return this.#keys.recent(this.#keys.deadlineShard(sessionOf(id)))
  }

  #shardOf(id: InteractionId): string {
    return this.#keys.deadlines(this.#keys.deadlineShard(sessionOf(id)))
  }
}
