import { Redis } from 'ioredis'

/** What Throughline's finished turns take in Redis, bytes. */
export interface Stored {
  sessions: number
  events: number
  /** Of the log, per event: kept for RESUME_WINDOW. */
  logPerEvent: number
  /** Of the interaction with its final output, per event: kept as long as the session. */
  resultPerEvent: number
  /** Of everything else that a session has. */
  restPerSession: number
}

/** Looks at no more sessions than this. */
const SAMPLE = 50

/** Asks Redis for the size of all keys of the sessions with the longest logs. */
export async function stored(redisUrl: string): Promise<Stored> {
  const redis = new Redis(redisUrl)
  try {
    const logs = await keysLike(redis, '*:log:*')
    const lengths = new Map(await Promise.all(logs.map(async (key) => [key, await redis.xlen(key)] as const)))
    const longest = logs.sort((a, b) => lengths.get(b)! - lengths.get(a)!).slice(0, SAMPLE)
    const total = { events: 0, log: 0, result: 0, rest: 0 }
    for (const log of longest) {
      total.events += lengths.get(log)!
      for (const key of await keysLike(redis, `${log.slice(0, log.indexOf('}') + 1).replace('{', '\\{')}*`)) {
        const bytes = Number(await redis.memory('USAGE', key, 'SAMPLES', 0))
        const what = key.includes(':log:') ? 'log' : key.includes(':interaction:') ? 'result' : 'rest'
        total[what] += bytes
      }
    }
    return {
      sessions: longest.length,
      events: total.events,
      logPerEvent: total.log / total.events,
      resultPerEvent: total.result / total.events,
      restPerSession: total.rest / longest.length,
    }
  } finally {
    redis.disconnect()
  }
}

async function keysLike(redis: Redis, pattern: string): Promise<string[]> {
  const keys: string[] = []
  for await (const page of redis.scanStream({ match: pattern, count: 1000 })) keys.push(...(page as string[]))
  return keys
}
