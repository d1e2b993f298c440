import { Cluster, Redis, type ClusterOptions, type RedisOptions } from 'ioredis'
import { ThroughlineError } from '../protocol/errors.js'

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
  | 'doctor'

export interface RedisLog {
  warn(fields: object, message: string): void
  info(fields: object, message: string): void
}

/**
 * Opens connections to the Redis at `url`:
 * `redis[s]://[user:password@]host:port[/db]` one server · `redis[s]+sentinel://…host:port,host:port/<master name>` ·
 * `redis[s]+cluster://…host:port,host:port`.
 */
export function connector(url: string, replica: string, log: RedisLog) {
  const where = parseUrl(url)
  return function open(role: Role): Connection {
    // Commands fail fast while Redis is away: a caller waits a bounded time in `Database.run` instead of in a queue
    // that would send, on reconnect, what the caller was already told had failed.
    const queueing = role !== 'commands'
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
          } as ClusterOptions)
        : where.kind === 'sentinel'
          ? new Redis({
              ...common,
              sentinels: where.nodes,
              name: where.master,
              failoverDetector: true, // else a planned failover goes unseen and acknowledged writes are lost
              ...(where.auth.tls && { enableTLSForSentinelMode: true }),
            })
          : new Redis({ ...common, ...where.nodes[0], db: where.db })
    let said = 0
    connection.on('error', (err) => {
      if (Date.now() - said < 10_000) return // a dead cluster master emits a hundred of these a second
      said = Date.now()
      log.warn({ err, role }, 'redis connection error')
    })
    connection.on('close', () => log.info({ role }, 'redis connection closed'))
    return connection
  }
}

export interface Where {
  kind: 'single' | 'sentinel' | 'cluster'
  nodes: { host: string; port: number }[]
  auth: Pick<RedisOptions, 'username' | 'password' | 'tls'>
  db: number
  master: string
}

/** What REDIS_URL says. Throws an Error for what is none. */
export function parseUrl(url: string): Where {
  const match = /^redis(s?)(?:\+(sentinel|cluster))?:\/\/(?:([^@/]*)@)?([^/]+)(?:\/(.*))?$/.exec(url)
  if (!match) throw new Error('REDIS_URL must look like redis://host:6379, redis+sentinel://… or redis+cluster://…')
  const [, secure, kind, credentials, hosts, path] = match
  const [username, password] = (credentials ?? '').split(':').map(decodeURIComponent)
  return {
    kind: (kind as 'sentinel' | 'cluster' | undefined) ?? 'single',
    nodes: hosts!.split(',').map((host) => {
      const at = host.lastIndexOf(':')
      return at < 0 || host.endsWith(']')
        ? { host, port: 6379 }
        : { host: host.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(host.slice(at + 1)) }
    }),
    auth: {
      ...(username && { username }),
      ...(password && { password }),
      ...(secure && { tls: {} }),
    },
    db: kind ? 0 : Number(path || 0),
    master: kind === 'sentinel' ? path || 'mymaster' : '',
  }
}

export const isCluster = (connection: Connection): connection is Cluster => connection instanceof Cluster

/**
 * The commands connection, with a deadline: a call that Redis does not answer in `deadlineMs`, or that fails for the
 * connection's sake, throws `store_unavailable`. It may still have taken effect; every script is idempotent for that.
 */
export class Database {
  readonly #redis: Connection
  readonly #deadlineMs: number
  #readiness: Promise<void> | undefined

  constructor(redis: Connection, deadlineMs: number) {
    this.#redis = redis
    this.#deadlineMs = deadlineMs
  }

  get available(): boolean {
    return this.#redis.status === 'ready'
  }

  async run<T>(work: (redis: Connection) => Promise<T>): Promise<T> {
    const started = Date.now()
    if (!this.available) await this.#ready()
    const left = Math.max(this.#deadlineMs - (Date.now() - started), 1)
    return within(
      left,
      work(this.#redis).catch((err: unknown) => {
        throw isOutage(err) ? new ThroughlineError('store_unavailable', { cause: err }) : err
      }),
    )
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
  /Stream isn't writeable|Connection is closed|Connection is in subscriber|ECONN|EPIPE|ETIMEDOUT|max retries|Too many Cluster redirections|Cluster isn't ready|ClusterAllFailed|None of startup nodes|CLUSTERDOWN|LOADING|MASTERDOWN|READONLY|NOREPLICAS|TRYAGAIN|UNBLOCKED|OOM command|MISCONF|Command timed out/i

function isOutage(err: unknown): boolean {
  if (!(err instanceof Error)) return false
  if (OUTAGE.test(err.message) || OUTAGE.test(err.name)) return true
  // a transaction is only said to be discarded (EXECABORT); why, its commands were told
  return 'previousErrors' in err && Array.isArray(err.previousErrors) && err.previousErrors.some(isOutage)
}

export const isUnavailable = (err: unknown): boolean =>
  err instanceof ThroughlineError && err.code === 'store_unavailable'
