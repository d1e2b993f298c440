import { setTimeout as sleep } from 'node:timers/promises'
import { isNewEnough, OLDEST_REDIS, versionIn } from './redis-version.js'
import { isCluster, type Connection, type RedisLog } from './redis.js'

/** Redis cannot be used; the message says why and what to do. */
export class RedisRequired extends Error {}

/** How long a starting replica waits for Redis, ms. */
export const PATIENCE_MS = 15_000

/**
 * Waits until Redis answers, `patienceMs` at most, and checks that it is 7.0 or newer and does not evict keys. Throws
 * RedisRequired.
 */
export async function requireRedis(
  redis: Connection,
  url: string,
  log: RedisLog,
  patienceMs = PATIENCE_MS,
): Promise<void> {
  const shown = url.replace(/\/\/[^@/]*@/, '//***@')
  const until = Date.now() + patienceMs
  let trouble = ''
  const heard = (err: Error) => (trouble = err.message)
  redis.on('error', heard)
  while (redis.status !== 'ready') {
    if (Date.now() > until)
      throw new RedisRequired(
        `Redis at ${shown} does not answer${trouble && ` (${trouble})`}. Start it, or set REDIS_URL to one that runs.`,
      )
    await sleep(50)
  }
  redis.off('error', heard)
  const node = isCluster(redis) ? redis.nodes('master')[0]! : redis
  const info = await node.info()
  const version = versionIn(info) ?? '0'
  if (!isNewEnough(version))
    throw new RedisRequired(
      `Redis at ${shown} is version ${version}; ${OLDEST_REDIS} or newer is needed for sharded pub/sub.`,
    )
  const policy = /maxmemory_policy:(\S+)/.exec(info)?.[1]
  if (policy && policy !== 'noeviction')
    log.warn(
      { policy },
      'Redis may evict keys when memory is full, and conversations with them: set maxmemory-policy noeviction',
    )
}
