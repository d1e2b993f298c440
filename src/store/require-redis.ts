import { setTimeout as sleep } from 'node:timers/promises'
import { isNewEnough, OLDEST_REDIS, versionIn } from './redis-version.js'
import { isCluster, type Connection, type RedisLog } from './redis.js'
import { askOnce, meaningOf, troubleAt, type Trouble } from './redis-trouble.js'
import { RedisRequired, whereIs, type RedisSettings, type Where } from './redis-where.js'

/** How long a starting replica waits for Redis, ms. */
export const PATIENCE_MS = 15_000
/** A connection that does not come about is looked into after this time, ms. */
const LOOK_AFTER_MS = 400

/**
 * Waits until Redis answers, and checks every node that is known: 7.0 or newer, and it does not evict keys; the one that
 * is written to is a master. Throws RedisRequired, at once for what will not pass.
 */
export async function requireRedis(
  redis: Connection,
  settings: RedisSettings | string,
  log: RedisLog,
  patienceMs = PATIENCE_MS,
): Promise<void> {
  const where = whereIs(typeof settings === 'string' ? { url: settings } : settings)
  const startedAt = Date.now()
  for (let lookAt = startedAt + LOOK_AFTER_MS; ;) {
    let trouble: Trouble | undefined
    if (redis.status === 'ready') {
      trouble = await troubleOf(redis)
      if (!trouble) return
    } else if (Date.now() > lookAt) {
      trouble = await troubleAt(where)
      lookAt = Date.now() + LOOK_AFTER_MS
    }
    const over = Date.now() > startedAt + patienceMs
    if (trouble?.lasting || (over && (trouble || redis.status !== 'ready'))) {
      const { what } = trouble ?? (await troubleAt(where)) ?? { what: 'it answers, and yet no connection comes about' }
      throw new RedisRequired(`Redis at ${where.shown} cannot be used. ${what}.`)
    }
    await sleep(100)
  }

  async function troubleOf(ready: Connection): Promise<Trouble | undefined> {
    try {
      if (where.db !== 0 && !isCluster(ready)) await ready.select(where.db) // else it would be database 0, silently
      for (const master of isCluster(ready) ? ready.nodes('master') : [ready]) {
        const info = await master.info()
        const replicas = where.kind === 'single' ? [] : replicasIn(info)
        const found = judge(info, nameOf(master.options), where.kind) ?? (await troubleOfReplicas(replicas))
        if (found) return found
      }
      return undefined
    } catch (err) {
      return meaningOf(err as Error, 'redis', where.auth.tls !== undefined)
    }
  }

  /** They are masters after the next failover. One that is away does not keep us from starting. */
  async function troubleOfReplicas(replicas: Where['nodes']): Promise<Trouble | undefined> {
    const asked = await Promise.all(
      replicas.map(async (node) => ({ node, found: await askOnce(where, 'redis', node, (redis) => redis.info()) })),
    )
    for (const { node, found } of asked) {
      const trouble = 'answer' in found ? judge(found.answer, nameOf(node), 'replica') : undefined
      if (trouble) return trouble
      if ('trouble' in found)
        log.warn({ node: nameOf(node), why: found.trouble.what }, 'a replica of Redis cannot be asked')
    }
    return undefined
  }

  function judge(info: string, node: string, as: 'single' | 'sentinel' | 'cluster' | 'replica'): Trouble | undefined {
    const field = (name: string) => new RegExp(`^${name}:(\\S+)`, 'm').exec(info)?.[1]
    const version = versionIn(info) ?? '0'
    const mode = field('redis_mode')
    if (!isNewEnough(version)) {
      const what = `${node} is version ${version}; ${OLDEST_REDIS} or newer is needed for sharded pub/sub`
      return { what, lasting: true }
    }
    if (mode === 'sentinel')
      return {
        what: `${node} is a Sentinel. Begin REDIS_URL with redis+sentinel:// and end it with its master's name`,
        lasting: true,
      }
    if (mode === 'cluster' && as === 'single')
      return { what: `${node} is a node of a Cluster. Begin REDIS_URL with redis+cluster://`, lasting: true }
    if (as !== 'replica' && field('role') !== 'master') {
      const master = `${field('master_host') ?? '?'}:${field('master_port') ?? '?'}`
      return {
        what: `${node} is a replica and takes no writes. Its master is ${master}: name that, or Sentinels`,
        lasting: false,
      }
    }
    const policy = field('maxmemory_policy')
    if (policy && policy !== 'noeviction')
      log.warn(
        { node, policy },
        'Redis may evict keys when memory is full, and conversations with them: set maxmemory-policy noeviction',
      )
    return undefined
  }
}

const nameOf = ({ host, port }: { host?: string; port?: number }): string => `${host}:${port}`

/** The replicas that a master's INFO names. */
const replicasIn = (info: string): Where['nodes'] =>
  [...info.matchAll(/^slave\d+:ip=([^,]+),port=(\d+)/gm)].map(([, host, port]) => ({ host: host!, port: Number(port) }))
