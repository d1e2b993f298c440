import type { SessionId } from '../protocol/ids.js'
import type { Keys } from './keys.js'
import type { Database } from './redis.js'

/**
 * What an agent without acknowledgements told of turns that were over: a hash per session, entry's number → a description
 * of what it was, as the surface made it. No log has it, and yet it is not new when the agent tells it again later.
 * Kept as long as a session.
 */
export class Overheard {
  readonly #db: Database
  readonly #keys: Keys
  readonly #ttlMs: number

  constructor(db: Database, keys: Keys, ttlMs: number) {
    this.#db = db
    this.#keys = keys
    this.#ttlMs = ttlMs
  }

  async add(session: SessionId, entry: string, what: string): Promise<void> {
    await this.#db.keep(this.#keys.overheard(session), { [entry]: what }, this.#ttlMs)
  }

  read(session: SessionId): Promise<Record<string, string>> {
    return this.#db.run((redis) => redis.hgetall(this.#keys.overheard(session)))
  }
}
