import type { Keys } from './keys.js'
import type { Database } from './redis.js'

/** What a replica says of itself with every heartbeat. */
export interface ReplicaReport {
  id: string
  version: string
  startedAt: number
  draining: boolean
  agents: number
  sessions: number
  viewers: number
  /** How far its machine's clock is ahead of Redis' (behind: negative), ms. */
  clockAheadMs: number
}

/** A replica as it last said it is. */
export interface StoredReplica extends ReplicaReport {
  /** Its last heartbeat, ms. */
  beatAt: number
}

/** Which replicas are here, and the notes of the sweep that all of them share. */
export class Replicas {
  readonly #db: Database
  readonly #keys: Keys
  readonly #ttlMs: number
  #seen = 1

  /** `ttlMs`: a replica that was silent for so long is gone. */
  constructor(db: Database, keys: Keys, ttlMs: number) {
    this.#db = db
    this.#keys = keys
    this.#ttlMs = ttlMs
  }

  /** How many there were at the last heartbeat, at least 1. */
  get seen(): number {
    return this.#seen
  }

  /** Says that a replica is here. Gives whether an operator has asked it to leave. */
  async beat(report: ReplicaReport, nowMs: number): Promise<{ asked: boolean }> {
    const key = this.#keys.replica(report.id)
    const fields = Object.entries({ ...report, beatAt: nowMs }).flatMap(([k, v]) => [k, String(v)])
    const replies = await this.#db.run((redis) =>
      redis
        .multi()
        .hget(key, 'drain')
        .hset(key, ...fields)
        .pexpire(key, this.#ttlMs)
        .exec(),
    )
    const [, , counted] = (await this.#db.run((redis) =>
      redis
        .multi()
        .zadd(this.#keys.replicas, nowMs, report.id)
        .pexpire(this.#keys.replicas, this.#ttlMs * 10)
        .zcount(this.#keys.replicas, nowMs - this.#ttlMs, '+inf')
        .exec(),
    ))!
    this.#seen = Math.max(Number(counted?.[1]), 1)
    return { asked: replies?.[0]?.[1] === String(report.startedAt) }
  }

  /** Those that have beaten lately, by name; at most 1,000. */
  async list(nowMs: number): Promise<StoredReplica[]> {
    const ids = await this.#db.run((redis) =>
      redis.zrangebyscore(this.#keys.replicas, nowMs - this.#ttlMs, '+inf', 'LIMIT', 0, 1000),
    )
    const found = await Promise.all(ids.map((id) => this.read(id)))
    return found.filter((it) => it !== undefined).sort((a, b) => a.id.localeCompare(b.id))
  }

  async read(id: string): Promise<StoredReplica | undefined> {
    const hash = await this.#db.run((redis) => redis.hgetall(this.#keys.replica(id)))
    if (hash['beatAt'] === undefined) return undefined
    const count = (field: string) => Number(hash[field] ?? 0)
    return {
      id,
      version: hash['version'] ?? '',
      startedAt: count('startedAt'),
      draining: hash['draining'] === 'true',
      agents: count('agents'),
      sessions: count('sessions'),
      viewers: count('viewers'),
      clockAheadMs: count('clockAheadMs'),
      beatAt: count('beatAt'),
    }
  }

  /** Asks a replica to leave: it finds this with its next heartbeat. A later process of the same name is not meant. */
  async askToLeave({ id, startedAt }: Pick<ReplicaReport, 'id' | 'startedAt'>): Promise<void> {
    await this.#db.keep(this.#keys.replica(id), { drain: startedAt }, this.#ttlMs)
    await this.nudge(id)
  }

  /** Tells a replica to look: at what it is asked, or at what its connection of this agent is asked. */
  async nudge(id: string, at?: { pool: string; agent: string }): Promise<void> {
    await this.#db.run((redis) => redis.spublish(this.#keys.replicaWake(id), at ? JSON.stringify(at) : ''))
  }

  async leave(id: string): Promise<void> {
    await this.#db.run((redis) => redis.del(this.#keys.replica(id)))
    await this.#db.run((redis) => redis.zrem(this.#keys.replicas, id))
  }

  /** Removes the lines of replicas that stopped beating; gives their ids. */
  async removeDead(nowMs: number): Promise<string[]> {
    const dead = await this.#db.run((redis) => redis.zrangebyscore(this.#keys.replicas, '-inf', nowMs - this.#ttlMs))
    if (dead.length) await this.#db.run((redis) => redis.zrem(this.#keys.replicas, ...dead))
    return dead
  }

  /** Redis' clock, ms. */
  async now(): Promise<number> {
    const [seconds, micros] = await this.#db.run((redis) => redis.time())
    return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000)
  }

  /** When a sweep last ran, and the last time nobody could sweep (ms). */
  async sweepNotes(): Promise<{ last: number; awayUntil: number; awayForMs: number }> {
    const [last, until, length] = await this.#db.run((redis) =>
      redis.hmget(this.#keys.sweep, 'last', 'awayUntil', 'awayForMs'),
    )
    return { last: Number(last ?? 0), awayUntil: Number(until ?? 0), awayForMs: Number(length ?? 0) }
  }

  async noteSweep(fields: { last: number; awayUntil?: number; awayForMs?: number }, ttlMs: number): Promise<void> {
    await this.#db.keep(this.#keys.sweep, fields, ttlMs)
  }

  /** Whether this caller may sweep now: one at a time over all replicas, for at most `ms`. */
  async lockSweep(ms: number): Promise<boolean> {
    return (await this.#db.run((redis) => redis.set(this.#keys.sweepLock, '1', 'PX', ms, 'NX'))) === 'OK'
  }

  async unlockSweep(): Promise<void> {
    await this.#db.run((redis) => redis.del(this.#keys.sweepLock))
  }
}
