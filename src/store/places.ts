import type { Keys } from './keys.js'
import type { Database } from './redis.js'
import type { Scripts } from './scripts.js'

/** Members of one call of the script. */
const AT_A_TIME = 500

/** Which streams an owner has open, on all replicas: each has a place, which fades unless it is renewed. */
export class PlaceIndex {
  readonly #db: Database
  readonly #scripts: Scripts
  readonly #keys: Keys

  constructor(db: Database, scripts: Scripts, keys: Keys) {
    this.#db = db
    this.#scripts = scripts
    this.#keys = keys
  }

  /**
   * Takes or renews a place for each of `members`, for `ttlMs`, as far as `limit` goes. With `takeOver` one that finds
   * none takes that of the oldest stream that can resume (see `memberOf`).
   */
  async occupy(
    owner: string,
    members: readonly string[],
    { limit, ttlMs, takeOver }: { limit: number; ttlMs: number; takeOver: boolean },
  ): Promise<{ refused: string[]; displaced: string[] }> {
    const found = { refused: [] as string[], displaced: [] as string[] }
    for (let from = 0; from < members.length; from += AT_A_TIME) {
      const some = members.slice(from, from + AT_A_TIME)
      const args = [limit, ttlMs, takeOver ? 1 : 0, ...some]
      const [refused, ...names] = await this.#scripts.over('occupy', [this.#keys.places(owner)], args)
      found.refused.push(...(names.slice(0, Number(refused)) as string[]))
      found.displaced.push(...(names.slice(Number(refused)) as string[]))
    }
    return found
  }

  async leave(owner: string, member: string): Promise<void> {
    await this.#db.run((redis) => redis.zrem(this.#keys.places(owner), member))
  }

  /** Tells the replica whose stream lost its place to look. */
  async tell(replica: string): Promise<void> {
    await this.#db.run((redis) => redis.spublish(this.#keys.placesOf(replica), ''))
  }
}

/** A place's name: whether its stream can resume elsewhere, since when it is open (ms), whose it is. */
export const memberOf = (resumable: boolean, since: number, replica: string, nth: number): string =>
  [resumable ? 'r' : 'o', Math.floor(since), replica, nth].join(':')

export const replicaOfMember = (member: string): string => member.split(':')[2] ?? ''
