import type { SessionId } from '../protocol/ids.js'
import type { Keys } from './keys.js'
import type { Database } from './redis.js'

/** The agent's thread id → our session: a hash per thread, kept as long as a session. */
export class Threads {
  readonly #db: Database
  readonly #keys: Keys
  readonly #ttlMs: number

  constructor(db: Database, keys: Keys, ttlMs: number) {
    this.#db = db
    this.#keys = keys
    this.#ttlMs = ttlMs
  }

  /** A thread stays with the session that named it first: else an agent of another one could name it and take its words. */
  async bind(pool: string, thread: string, session: SessionId): Promise<void> {
    const key = this.#keys.thread(pool, thread)
    await this.#db.run((redis) =>
      redis.multi().hsetnx(key, 'session', session).hset(key, { thread, pool }).pexpire(key, this.#ttlMs).exec(),
    )
  }

  async session(pool: string, thread: string): Promise<SessionId | undefined> {
    const found = await this.#db.run((redis) => redis.hget(this.#keys.thread(pool, thread), 'session'))
    return (found ?? undefined) as SessionId | undefined
  }

  /** Forgets the thread, if it is this session's. */
  async clear(pool: string, thread: string, session: SessionId): Promise<void> {
    if ((await this.session(pool, thread)) === session)
      await this.#db.run((redis) => redis.del(this.#keys.thread(pool, thread)))
  }
}
