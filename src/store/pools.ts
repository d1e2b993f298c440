import type { SessionId } from '../protocol/ids.js'
import type { Keys } from './keys.js'
import type { Database } from './redis.js'
import type { Scripts } from './scripts.js'

/** How long a pool that no agent has joined again is remembered, ms. */
const POOL_TTL_MS = 24 * 3600_000

/** Sessions that need an agent, and the agents that may take them. All keys of a pool share a slot. */
export class Pools {
  readonly #db: Database
  readonly #scripts: Scripts
  readonly #keys: Keys
  readonly #ttlMs: number
  readonly #agentTtlMs: number

  /** `ttlMs`: life of a waiting line. `agentTtlMs`: life of an agent's entry without `present`. */
  constructor(db: Database, scripts: Scripts, keys: Keys, ttlMs: number, agentTtlMs: number) {
    this.#db = db
    this.#scripts = scripts
    this.#keys = keys
    this.#ttlMs = ttlMs
    this.#agentTtlMs = agentTtlMs
  }

  /**
   * Puts a session in its pool's line, or in that of the agent which has its thread when that one is present, and wakes
   * the pool. Repeating it changes nothing: the first time in counts. Gives the agent it waits for, or ''.
   */
  async pend(pool: string, session: SessionId, sinceMs: number, sticky: string): Promise<string> {
    const present =
      sticky !== '' && (await this.#db.run((redis) => redis.exists(this.#keys.agent(pool, sticky)))) === 1 ? sticky : ''
    const line = present ? this.#keys.pendingFor(pool, present) : this.#keys.pending(pool)
    await this.#db.run((redis) =>
      redis
        .multi()
        .zadd(line, 'NX', sinceMs, session)
        .pexpire(line, this.#ttlMs)
        .spublish(this.#keys.poolWake(pool), '')
        .exec(),
    )
    return present
  }

  async claim(pool: string, agent: string, most: number): Promise<SessionId[]> {
    return (await this.#scripts.claim(pool, agent, most)) as SessionId[]
  }

  /** Gives an agent's own line back to the pool: it is gone or full. */
  async giveBack(pool: string, agent: string): Promise<void> {
    const own = this.#keys.pendingFor(pool, agent)
    const line = this.#keys.pending(pool)
    await this.#db.run((redis) =>
      redis
        .multi()
        .zunionstore(line, 2, line, own, 'AGGREGATE', 'MIN')
        .del(own)
        .pexpire(line, this.#ttlMs)
        .spublish(this.#keys.poolWake(pool), '')
        .exec(),
    )
  }

  /** Says that an agent is here (again), and which pool exists. */
  async present(pool: string, agent: string, fields: Record<string, string | number>, nowMs: number): Promise<void> {
    const key = this.#keys.agent(pool, agent)
    const agents = this.#keys.agents(pool)
    await this.#db.run((redis) =>
      redis
        .multi()
        .hset(key, fields)
        .pexpire(key, this.#agentTtlMs)
        .zadd(agents, nowMs + this.#agentTtlMs, agent)
        .zremrangebyscore(agents, '-inf', nowMs)
        .pexpire(agents, this.#agentTtlMs)
        .exec(),
    )
    await this.#db.run((redis) =>
      redis
        .multi()
        .hsetnx(this.#keys.pools, `first:${pool}`, nowMs)
        .hset(this.#keys.pools, `last:${pool}`, nowMs)
        .pexpire(this.#keys.pools, POOL_TTL_MS)
        .exec(),
    )
  }

  /** An agent's entry goes, if it is still that of this connection. */
  async absent(pool: string, agent: string, connection: string): Promise<void> {
    const key = this.#keys.agent(pool, agent)
    await this.#db.run(async (redis) => {
      if ((await redis.hget(key, 'connection')) !== connection) return
      await redis.multi().del(key).zrem(this.#keys.agents(pool), agent).exec()
    })
  }

  /** The sessions an agent had, as far as anyone knows. Kept so that a restarted agent's turns are found at once. */
  async sessionsOf(pool: string, agent: string): Promise<SessionId[]> {
    return (await this.#db.run((redis) => redis.smembers(this.#keys.agentSessions(pool, agent)))) as SessionId[]
  }

  async took(pool: string, agent: string, sessions: SessionId[]): Promise<void> {
    const key = this.#keys.agentSessions(pool, agent)
    await this.#db.run((redis) =>
      redis
        .multi()
        .sadd(key, ...sessions)
        .pexpire(key, this.#ttlMs)
        .exec(),
    )
  }

  async gaveUp(pool: string, agent: string, session: SessionId): Promise<void> {
    await this.#db.run((redis) => redis.srem(this.#keys.agentSessions(pool, agent), session))
  }

  /** Every pool that agents have joined lately: its name, and when it was first seen (ms). Forgets the others. */
  async known(): Promise<{ name: string; createdAt: number }[]> {
    const fields = await this.#db.run((redis) => redis.hgetall(this.#keys.pools))
    const seen = Object.entries(fields).filter(([field]) => field.startsWith('last:'))
    const newest = Math.max(...seen.map(([, at]) => Number(at)))
    const pools: { name: string; createdAt: number }[] = []
    for (const [field, at] of seen) {
      const name = field.slice('last:'.length)
      if (Number(at) > newest - POOL_TTL_MS) pools.push({ name, createdAt: Number(fields[`first:${name}`] ?? at) })
      else await this.#db.run((redis) => redis.hdel(this.#keys.pools, field, `first:${name}`))
    }
    return pools
  }

  async pendingCount(pool: string): Promise<number> {
    return this.#db.run((redis) => redis.zcard(this.#keys.pending(pool)))
  }

  /** Wakes every replica that has agents of the pool. */
  async wake(pool: string): Promise<void> {
    await this.#db.run((redis) => redis.spublish(this.#keys.poolWake(pool), ''))
  }
}
