import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible'
import type { Count } from '../protocol/count.js'
import type { Keys } from './keys.js'
import { within, type Connection } from './redis.js'
import type { Replicas } from './replicas.js'

/** What is counted: an owner's requests, the messages among them, and failed authentications of an address. */
export type RateName = 'requests' | 'messages' | 'failures'

/** Longest that a count waits for Redis, ms: nobody should wait for being counted. */
const PATIENCE_MS = 500

/**
 * Counts in fixed windows, for all replicas together. While Redis is away each replica counts for itself, up to its share
 * of the limit. A subject that is over its limit is not asked about again until its window ends.
 */
export class Rate {
  readonly #name: RateName
  readonly #keys: Keys
  readonly #replicas: Replicas
  readonly #limit: number
  readonly #windowMs: number
  readonly #shared: RateLimiterRedis
  readonly #own: RateLimiterMemory

  /** `windowMs`: whole seconds. */
  constructor(
    connection: Connection,
    keys: Keys,
    replicas: Replicas,
    name: RateName,
    { limit, windowMs }: { limit: number; windowMs: number },
  ) {
    this.#name = name
    this.#keys = keys
    this.#replicas = replicas
    this.#limit = limit
    this.#windowMs = windowMs
    const rate = { points: limit, duration: windowMs / 1000, keyPrefix: '' }
    this.#own = new RateLimiterMemory(rate)
    this.#shared = new RateLimiterRedis({
      ...rate,
      storeClient: connection,
      rejectIfRedisNotReady: true,
      inMemoryBlockOnConsumed: limit + 1,
    })
  }

  /** Counts one of `subject`. Never fails. */
  async count(subject: string): Promise<Count> {
    const key = this.#keys.rate(this.#name, subject)
    try {
      return this.#said(await within(PATIENCE_MS, tried(this.#shared, key)), this.#limit)
    } catch {
      const share = Math.max(1, Math.ceil(this.#limit / this.#replicas.seen))
      this.#own.points = share
      return this.#said(await tried(this.#own, key), share)
    }
  }

  #said({ res, exceeded }: Tried, limit: number): Count {
    const resetMs = Math.max(res.msBeforeNext, 0)
    return { limit, windowMs: this.#windowMs, remaining: exceeded ? 0 : res.remainingPoints, resetMs, exceeded }
  }
}

interface Tried {
  res: RateLimiterRes
  exceeded: boolean
}

/** The library rejects with the count when it is exceeded, and with an error when it could not count. */
async function tried(limiter: RateLimiterRedis | RateLimiterMemory, key: string): Promise<Tried> {
  try {
    return { res: await limiter.consume(key), exceeded: false }
  } catch (err) {
    if (err instanceof RateLimiterRes) return { res: err, exceeded: true }
    throw err
  }
}
