import type { ApiKey, KeyKind } from '../protocol/api-key.js'
import type { Bus } from './bus.js'
import type { Keys } from './keys.js'
import type { Database } from './redis.js'
import type { Scripts } from './scripts.js'

/** A key with the SHA-256 of its text, hexadecimal: that is all that is kept of the secret. */
export interface StoredKey extends ApiKey {
  hash: string
}

/** Most keys at a time. */
export const MOST_KEYS = 10_000
/** Keys that are read, or asked for, in one go. */
const AT_A_TIME = 500

/**
 * API keys: a hash each, and an index by expiry; both live until the (last) key expires. All share one slot, so that a key
 * and its line in the index come and go together.
 */
export class ApiKeys {
  readonly #db: Database
  readonly #scripts: Scripts
  readonly #keys: Keys
  readonly #bus: Bus

  constructor(db: Database, scripts: Scripts, keys: Keys, bus: Bus) {
    this.#db = db
    this.#scripts = scripts
    this.#keys = keys
    this.#bus = bus
  }

  get available(): boolean {
    return this.#db.available
  }

  /** Keeps a key until it expires. False when there are `MOST_KEYS`. */
  async add({ pools, ...key }: StoredKey): Promise<boolean> {
    const { apiKey, apiKeys } = this.#keys
    await this.#trim(key.createdAt)
    if ((await this.#db.run((redis) => redis.zcard(apiKeys))) >= MOST_KEYS) return false
    await this.#db.run((redis) =>
      redis
        .multi()
        .hset(apiKey(key.id), { ...key, pools: pools.join(',') })
        .pexpireat(apiKey(key.id), String(key.expiresAt))
        .zadd(apiKeys, key.expiresAt, key.id)
        .pexpireat(apiKeys, String(key.expiresAt), 'NX')
        .pexpireat(apiKeys, String(key.expiresAt), 'GT')
        .exec(),
    )
    return true
  }

  async read(id: string): Promise<StoredKey | undefined> {
    return stored(await this.#db.run((redis) => redis.hgetall(this.#keys.apiKey(id))))
  }

  /** Every key, the first to expire first. */
  async list(nowMs: number): Promise<StoredKey[]> {
    await this.#trim(nowMs)
    const ids = await this.#db.run((redis) => redis.zrange(this.#keys.apiKeys, '0', '-1'))
    const found: StoredKey[] = []
    for (const some of portions(ids))
      found.push(...(await Promise.all(some.map((id) => this.read(id)))).filter((key) => key !== undefined))
    return found
  }

  /** Forgets a key and tells every replica; gives what it was, undefined when there is none. */
  async revoke(id: string): Promise<StoredKey | undefined> {
    const { apiKey, apiKeys, keysRevoked } = this.#keys
    const answers = await this.#db.run((redis) =>
      redis.multi().hgetall(apiKey(id)).del(apiKey(id)).zrem(apiKeys, id).spublish(keysRevoked, id).exec(),
    )
    return stored(answers?.[0]?.[1] as Record<string, string>)
  }

  /** Which of these there are. */
  async present(ids: readonly string[]): Promise<Set<string>> {
    const here = new Set<string>()
    for (const some of portions(ids)) {
      const scores = await this.#db.run((redis) => redis.zmscore(this.#keys.apiKeys, ...some))
      some.forEach((id, i) => scores[i] !== null && here.add(id))
    }
    return here
  }

  /** Notes the day on which a key was used, unless it is gone by now. */
  async used(id: string, day: string): Promise<void> {
    await this.#scripts.ofPool('used', [this.#keys.apiKey(id)], [day])
  }

  /** Hears of revocations on all replicas; `look`: some may have been missed. Dispose to stop. */
  heed(heard: { revoked: (id: string) => void; look: () => void }): Promise<Disposable> {
    return this.#bus.listen(this.#keys.keysRevoked, { message: ({ text }) => heard.revoked(text), look: heard.look })
  }

  async #trim(nowMs: number): Promise<void> {
    await this.#db.run((redis) => redis.zremrangebyscore(this.#keys.apiKeys, '-inf', nowMs))
  }
}

function* portions(ids: readonly string[]): Generator<string[]> {
  for (let at = 0; at < ids.length; at += AT_A_TIME) yield ids.slice(at, at + AT_A_TIME)
}

function stored(fields: Record<string, string> | null | undefined): StoredKey | undefined {
  if (!fields?.['hash']) return undefined
  const { id = '', kind, hash, owner = '', pools = '', name = '', usedOn = '', createdAt, expiresAt } = fields
  return {
    id,
    kind: kind as KeyKind,
    hash,
    owner,
    pools: pools.split(',').filter(Boolean),
    name,
    createdAt: Number(createdAt),
    expiresAt: Number(expiresAt),
    usedOn,
  }
}
