import type { Replicas } from '../store/replicas.js'

/** Redis' clock, guessed from this machine's and corrected at every heartbeat; deadlines are all on that one clock. */
export class RedisClock {
  readonly #replicas: Replicas
  #offsetMs = 0

  constructor(replicas: Replicas) {
    this.#replicas = replicas
  }

  now(): number {
    return Math.round(Date.now() + this.#offsetMs)
  }

  /** A time of Redis, as this machine's clock had it. */
  here(redisMs: number): number {
    return Math.round(redisMs - this.#offsetMs)
  }

  /** How far this machine is ahead of Redis, ms. */
  get aheadMs(): number {
    return -Math.round(this.#offsetMs)
  }

  async correct(): Promise<void> {
    const before = Date.now()
    const there = await this.#replicas.now()
    this.#offsetMs = there - (before + Date.now()) / 2
  }
}
