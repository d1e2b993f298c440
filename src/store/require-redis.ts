import { setTimeout as sleep } from 'node:timers/promises'
import { isCluster, maskUrl, type Connection, type RedisLog } from './redis.js'

/** Redis cannot be used; the message says why and what to do. */
export class RedisRequired extends Error {}

/** How long a starting replica waits for Redis, ms. */
export const PATIENCE_MS = 15_000

/**
 * Waits until Redis answers, and checks that it is 7.0 or newer and does not evict keys. Throws RedisRequired.
 */
export async function requireRedis(redis: Connection, url: string, log: RedisLog): Promise<void> {
  const shown = maskUrl(url)
  const until = Date.now() + PATIENCE_MS
  while (redis.status !== 'ready') {
    if (Date.now() > until)
      throw new RedisRequired(`Redis at ${shown} does not answer. Start it, or set REDIS_URL to one that runs.`)
    await sleep(50)
  }
  const node = isCluster(redis) ? redis.nodes('master')[0]! : redis
  const info = await node.info()
  const version = /redis_version:(\S+)/.exec(info)?.[1] ?? '0'
  const valkey = /valkey_version:(\S+)/.exec(info)?.[1]
  if (!valkey && Number.parseInt(version, 10) < 7)
    throw new RedisRequired(`Redis at ${shown} is version ${version}; 7.0 or newer is needed for sharded pub/sub.`)
  const policy = /maxmemory_policy:(\S+)/.exec(info)?.[1]
  if (policy && policy !== 'noeviction')
    log.warn(
      { policy },
      'Redis may evict keys when memory is full, and conversations with them: set maxmemory-policy noeviction',
    )
}
