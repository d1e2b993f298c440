import type { SessionId } from '../protocol/ids.js'
import type { Keys } from './keys.js'
import type { Database } from './redis.js'
import type { Scripts } from './scripts.js'

/** How long a pool that no agent has joined again is remembered, ms. */
const POOL_TTL_MS = 24 * 3600_000

/** Where a session stands that needs an agent. */
export interface Place {
  /** In the line of the agent that has its thread, or in its pool's. */
  line: 'own' | 'pool'
  /** 1: it is next. */
  position: number
  /** Free places for those in this line, counted up to `position`; at most 64 agents are looked at. */
  free: number
  /** Agents of the pool that are here. */
  agents: number
  /** How many stand in this line. */
  waiting: number
}

/** Agents that serve named sessions only are listed as those of this pool, which no pool can be called. */
export const NAMED = '-'

/** An agent that is here, as its replica last said. */
export interface StoredAgent {
  pool: string
  id: string
  connection: string
  replica: string
  transport: string
  capacity: number
  busy: number
  /** When it connected, ms. */
  since: number
  /** It takes nothing new, and moves when what it has in hand is done. */
  draining: boolean
}

/** What an operator may ask of an agent's connection. */
export type AgentOrder = 'drain' | 'disconnect'

/** Agents listed of a pool, at most. */
const MOST_AGENTS = 1000

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
   * Puts a session in its pool's line, or in that of the agent which has its thread, as long as that one is here and
   * `sticky.wait` says so; wakes the pool. It stands in one line at a time, and repeating it changes nothing: the first
   * time in counts, so `sinceMs` must be the same every time.
   */
  async pend(
    pool: string,
    session: SessionId,
    sinceMs: number,
    sticky: { agent: string; wait: boolean } = { agent: '', wait: false },
  ): Promise<Place> {
    const { agent, wait } = sticky
    const keys = [
      this.#keys.pending(pool),
      this.#keys.pendingFor(pool, agent),
      this.#keys.agent(pool, agent),
      this.#keys.agents(pool),
    ]
    const args = [session, sinceMs, agent, wait ? '1' : '0', this.#ttlMs, this.#keys.poolWake(pool)]
    const [line, position, free, agents, waiting] = await this.#scripts.over('pend', keys, args)
    return {
      line: line as Place['line'],
      position: Number(position),
      free: Number(free),
      agents: Number(agents),
      waiting: Number(waiting),
    }
  }

  /** A session does not need an agent any more. */
  async withdraw(pool: string, session: SessionId, agent: string): Promise<void> {
    await this.#db.run((redis) =>
      redis.multi().zrem(this.#keys.pending(pool), session).zrem(this.#keys.pendingFor(pool, agent), session).exec(),
    )
  }

  /** Gives this connection of an agent up to `most` sessions that wait for it or for any of its pool, first come first. */
  async claim(pool: string, agent: string, connection: string, most: number): Promise<SessionId[]> {
    const keys = [
      this.#keys.pendingFor(pool, agent),
      this.#keys.pending(pool),
      this.#keys.agentSessions(pool, agent),
      this.#keys.agent(pool, agent),
    ]
    return (await this.#scripts.over('claim', keys, [most, this.#ttlMs, connection])) as SessionId[]
  }

  /** Gives an agent's own line back to the pool: it has left. */
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

  /**
   * Says that an agent `arrives` or still `stays` by this connection, and that its pool exists. Of several connections the
   * newest is heard. `since`: when it began, ms. Gives what an operator has asked of this connection.
   */
  async present(
    pool: string,
    by: { agent: string; connection: string; since: number; how: 'arrives' | 'stays' },
    fields: Record<string, string | number>,
    nowMs: number,
  ): Promise<AgentOrder | undefined> {
    const keys = [this.#keys.agent(pool, by.agent), this.#keys.agents(pool)]
    const arrives = by.how === 'arrives' ? '1' : '0'
    const args = [by.agent, by.connection, arrives, nowMs, this.#agentTtlMs, by.since, ...Object.entries(fields).flat()]
    const [, asked = ''] = await this.#scripts.over('present', keys, args)
    const order = asked ? (asked as AgentOrder) : undefined
    if (pool === NAMED) return order
    await this.#db.run((redis) =>
      redis
        .multi()
        .hsetnx(this.#keys.pools, `first:${pool}`, nowMs)
        .hset(this.#keys.pools, `last:${pool}`, nowMs)
        .pexpire(this.#keys.pools, POOL_TTL_MS)
        .exec(),
    )
    return order
  }

  /** The agents of a pool that are here; at most 1,000. */
  async agents(pool: string, nowMs: number): Promise<StoredAgent[]> {
    const ids = await this.#db.run((redis) =>
      redis.zrangebyscore(this.#keys.agents(pool), nowMs, '+inf', 'LIMIT', 0, MOST_AGENTS),
    )
    return (await Promise.all(ids.map((id) => this.agent(pool, id)))).filter((it) => it !== undefined)
  }

  async agent(pool: string, id: string): Promise<StoredAgent | undefined> {
    const [hash, busy] = await this.#db.run((redis) =>
      Promise.all([redis.hgetall(this.#keys.agent(pool, id)), redis.scard(this.#keys.agentSessions(pool, id))]),
    )
    if (hash['connection'] === undefined) return undefined
    return {
      pool,
      id,
      connection: hash['connection'],
      replica: hash['replica'] ?? '',
      transport: hash['transport'] ?? '',
      capacity: Number(hash['capacity'] ?? 0),
      busy: pool === NAMED ? Number(hash['busy'] ?? 0) : busy, // the set is up to date at any time
      since: Number(hash['since'] ?? 0),
      draining: hash['draining'] === '1',
    }
  }

  /** Asks something of an agent's connection: its replica finds it when it next says that the agent is here. */
  async ask({ pool, id, connection }: StoredAgent, order: AgentOrder): Promise<void> {
    await this.#db.keep(this.#keys.agent(pool, id), { order, orderFor: connection }, this.#agentTtlMs)
  }

  /** Where a session stands in its pool's line, or in that of the agent which has its thread; undefined: in neither. */
  async place(pool: string, session: SessionId, agent: string) {
    const [place, waiting, own] = await this.#db.run((redis) =>
      Promise.all([
        redis.zrank(this.#keys.pending(pool), session),
        redis.zcard(this.#keys.pending(pool)),
        redis.zrank(this.#keys.pendingFor(pool, agent), session),
      ]),
    )
    if (own !== null) return { line: 'own' as const, position: own + 1, waiting }
    return place === null ? undefined : { line: 'pool' as const, position: place + 1, waiting }
  }

  /** An agent's entry goes, if it is still that of this connection; gives whether it was. */
  async absent(pool: string, agent: string, connection: string): Promise<boolean> {
    const keys = [this.#keys.agent(pool, agent), this.#keys.agents(pool)]
    const [gone] = await this.#scripts.over('absent', keys, [agent, connection])
    return Number(gone) === 1
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

  /** Agents of the pool that are here, as `place.agents`. */
  async agentCount(pool: string, nowMs: number): Promise<number> {
    return this.#db.run((redis) => redis.zcount(this.#keys.agents(pool), nowMs, '+inf'))
  }

  /** Wakes every replica that has agents of the pool. */
  async wake(pool: string): Promise<void> {
    await this.#db.run((redis) => redis.spublish(this.#keys.poolWake(pool), ''))
  }
}
