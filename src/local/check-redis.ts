import { setTimeout as sleep } from 'node:timers/promises'

import { Redis } from 'ioredis'

import { isNewEnough, OLDEST_REDIS, versionIn } from '../store/redis-version.js'
import { sentenceOf, SetUpError } from './set-up-error.js'

/**
 * Asks the Redis that somebody named for its version (at most 3 s).
 * @throws SetUpError when it does not answer or is too old. A URL that was given is never replaced by another one:
 * the data would go where nobody looks for it.
 */
export async function checkRedis(url: string): Promise<{ version: string }> {
  const redis = client(url)
  let trouble = ''
  redis.on('error', (err: Error) => (trouble = err.message || (err as NodeJS.ErrnoException).code || trouble))
  const tooSlow = sleep(3_000, undefined, { ref: false }).then(() => Promise.reject(new Error('no answer within 3 s')))
  try {
    const info = await Promise.race([redis.connect().then(() => redis.info('server')), tooSlow])
    const version = versionIn(info) ?? 'unknown'
    if (version !== 'unknown' && !isNewEnough(version)) {
      throw new SetUpError(
        `The Redis at ${withoutPassword(url)} (REDIS_URL) is ${version}; Throughline needs ${OLDEST_REDIS} or newer.`,
      )
    }
    return { version }
  } catch (err) {
    if (err instanceof SetUpError) throw err
    throw new SetUpError(
      `The Redis at ${withoutPassword(url)} (REDIS_URL) cannot be used: ${trouble || sentenceOf(err)}. ` +
        'Start it, correct REDIS_URL, or leave REDIS_URL out to get one for this machine.',
    )
  } finally {
    redis.disconnect()
  }
}

function client(url: string): Redis {
  if (!/^rediss?:\/\//.test(url) || !URL.canParse(url)) {
    throw new SetUpError(
      `REDIS_URL must look like redis://host:6379 or rediss://…, not ${JSON.stringify(withoutPassword(url))}.`,
    )
  }
  // protocol 2: a server that is too old for 3 shall still tell its version.
  return new Redis(url, {
    protocol: 2,
    lazyConnect: true,
    retryStrategy: () => null,
    maxRetriesPerRequest: 0,
    connectTimeout: 3_000,
  })
}

/** For messages: a URL of which the password, which may also stand in a query, is not shown. */
function withoutPassword(url: string): string {
  return url.replace(/\/\/[^@/]*@/, '//…@').replace(/\?.*$/, '')
}
