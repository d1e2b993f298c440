import { Cluster, Redis, type ClusterOptions, type RedisOptions } from 'ioredis'
import { ThroughlineError } from '../protocol/errors.js'
import { whereIs, type RedisSettings } from './redis-where.js'

/** A connection to one Redis, to a master behind Sentinel, or to a Cluster. */
export type Connection = Redis | Cluster

/** What a connection is for; it appears in CLIENT LIST as `throughline:<replica>:<role>`. */
export type Role =
  | 'commands'
  | 'subscriber'
  | 'adapter-pub'
  | 'adapter-sub'
  | 'sweep-queue'
  | 'sweep-worker'
  | 'webhook-queue'
  | 'webhook-worker'
  | 'durability'
  | 'doctor'

export interface RedisLog {
  warn(fields: object, message: string): void
  info(fields: object, message: string): void
}

/** What is counted of Redis; metrics plug in here. */
export interface RedisObserver {
  /** A call is over; `operation` is the script's name, or `command`. */
  called(operation: string, seconds: number): void
  /** A call threw `store_unavailable`. */
  unavailable(): void
  /** A connection that had been lost is back. */
  reconnected(role: Role): void
}

/** Opens connections, by role, to what `redis` names: its settings, or just a URL. Throws RedisRequired for a wrong one. */
export function connector(
  redis: RedisSettings | string,
  replica: string,
  log: RedisLog,
  watch?: Pick<RedisObserver, 'reconnected'>,
) {
  const where = whereIs(typeof redis === 'string' ? { url: redis } : redis)
  const { tls } = where.auth
  return function open(role: Role): Connection {
    // Commands fail fast while Redis is away: a caller waits a bounded time in `Database.run` instead of in a queue
    // that would send, on reconnect, what the caller was already told had failed.
    const queueing = role !== 'commands' && role !== 'durability'
    const common: RedisOptions = {
      ...where.auth,
      connectionName: `throughline:${replica}:${role}`,
      maxRetriesPerRequest: null,
      enableOfflineQueue: queueing,
      connectTimeout: 5000,
      retryStrategy: (times) => Math.min(50 * 2 ** Math.min(times - 1, 5), 1000) + Math.random() * 100,
    }
    const connection =
      where.kind === 'cluster'
        ? new Cluster(where.nodes, {
            redisOptions: common,
            enableOfflineQueue: queueing,
            shardedSubscribers: true, // without it no sharded message ever arrives
            slotsRefreshInterval: 5000,
            clusterRetryStrategy: (times) => Math.min(100 + times * 50, 1000),
            ...(tls && { dnsLookup: (host, found) => found(null, host) }), // certificates are for names, not addresses
          } as ClusterOptions)
        : where.kind === 'sentinel'
          ? new Redis({
              ...common,
              ...where.sentinelAuth,
              sentinels: where.nodes,
              name: where.master,
              failoverDetector: true, // else a planned failover goes unseen and acknowledged writes are lost
              ...(tls && { sentinelTLS: tls, enableTLSForSentinelMode: true }),
            })
          : new Redis({ ...common, ...where.nodes[0], db: where.db })
    let said = 0
    connection.on('error', (err) => {
      if (Date.now() - said < 10_000) return // a dead cluster master emits a hundred of these a second
      said = Date.now()
      log.warn({ err, role }, 'redis connection error')
    })
    let was: 'new' | 'ready' | 'lost' = 'new'
    connection.on('close', () => {
      log.info({ role }, 'redis connection closed')
      if (was === 'ready') was = 'lost'
    })
    connection.on('ready', () => {
      if (was === 'lost') watch?.reconnected(role)
      was = 'ready'
    })
    if (connection instanceof Redis) neverGivenUp(connection)
    return connection
  }
}

/**
 * ioredis ends a connection for good that is told to reconnect (by the failover detector, or the bus) at the very time when it
 * asks a Sentinel for the master. Nothing else ends one that has no 'close' after its 'connecting', unless we close it.
 */
function neverGivenUp(redis: Redis): void {
  let asking = false
  redis.on('connecting', () => (asking = true))
  for (const event of ['connect', 'close']) redis.on(event, () => (asking = false))
  redis.on('end', () => {
    if (asking && !redis['manuallyClosing']) redis.connect().catch(() => {}) // the next attempts are ioredis' own
  })
}

export const isCluster = (connection: Connection): connection is Cluster => connection instanceof Cluster

/**
 * The commands connection, with a deadline: a call that Redis does not answer in `deadlineMs`, or that fails for the
 * connection's sake, throws `store_unavailable`. It may still have taken effect; every script is idempotent for that.
 */
export class Database {
  readonly #redis: Connection
  readonly #deadlineMs: number
  readonly #watch: Pick<RedisObserver, 'called' | 'unavailable'> | undefined
  #readiness: Promise<void> | undefined

  constructor(redis: Connection, deadlineMs: number, watch?: Pick<RedisObserver, 'called' | 'unavailable'>) {
    this.#redis = redis
    this.#deadlineMs = deadlineMs
    this.#watch = watch
  }

  get available(): boolean {
    return this.#redis.status === 'ready'
  }

  /** `operation` is what the call is counted as. */
  async run<T>(work: (redis: Connection) => Promise<T>, operation = 'command'): Promise<T> {
    const started = performance.now()
    try {
      if (!this.available) await this.#ready()
      const left = Math.max(this.#deadlineMs - (performance.now() - started), 1)
      return await within(
        left,
        work(this.#redis).catch((err: unknown) => {
          throw outageOf(err)
        }),
      )
    } catch (err) {
      if (isUnavailable(err)) this.#watch?.unavailable()
      throw err
    } finally {
      this.#watch?.called(operation, (performance.now() - started) / 1000)
    }
  }

  /** Sets fields of a hash, which from now on lives for `ttlMs`. */
  async keep(key: string, fields: Record<string, string | number>, ttlMs: number): Promise<void> {
    await this.run((redis) => redis.multi().hset(key, fields).pexpire(key, ttlMs).exec())
  }

  /** One listener for all who wait. */
  #ready(): Promise<void> {
    this.#readiness ??= new Promise<void>((resolve) => this.#redis.once('ready', resolve)).finally(
      () => (this.#readiness = undefined),
    )
    return within(this.#deadlineMs, this.#readiness)
  }
}

/** Throws `store_unavailable` when `work` takes longer than `ms`. */
export async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new ThroughlineError('store_unavailable')), ms)
  })
  try {
    return await Promise.race([work, limit])
  } finally {
    clearTimeout(timer)
    work.catch(() => {}) // when the limit won: its failure has been told already
  }
}

const OUTAGE =
  /Stream isn't writeable|Connection is closed|Command aborted|Connection is in subscriber|ECONN|EPIPE|ETIMEDOUT|max retries|Too many Cluster redirections|Cluster isn't ready|ClusterAllFailed|None of startup nodes|CLUSTERDOWN|LOADING|MASTERDOWN|READONLY|NOREPLICAS|TRYAGAIN|UNBLOCKED|OOM command|MISCONF|Command timed out/i

/** Whether an error of Redis is for the connection's or the server's sake, and passes with it. */
export function isOutage(err: unknown): boolean {
  if (!(err instanceof Error)) return false
  if (OUTAGE.test(err.message) || OUTAGE.test(err.name)) return true
  // a transaction is only said to be discarded (EXECABORT); why, its commands were told
  return 'previousErrors' in err && Array.isArray(err.previousErrors) && err.previousErrors.some(isOutage)
}

/** `store_unavailable` for an outage; any other error as it is. */
export const outageOf = (err: unknown): unknown =>
  isOutage(err) ? new ThroughlineError('store_unavailable', { cause: err }) : err

/** Redis could not do it, or could not say in time that it is safe: the same again may do. */
export const isUnavailable = (err: unknown): boolean =>
  err instanceof ThroughlineError && (err.code === 'store_unavailable' || err.code === 'not_durable')
