import { setTimeout as sleep } from 'node:timers/promises'
import type { Confirmation } from './durability.js'
import { isCluster, type Connection } from './redis.js'
import { meaningOf, type Trouble } from './redis-trouble.js'
import { RedisRequired, whereIs, type RedisSettings } from './redis-where.js'
import { PATIENCE_MS } from './require-redis.js'

/**
 * Checks that every master can confirm what is written, and tells how it is asked: by so many replicas, or (`replicas` 0)
 * by its append-only file. `always`: every answer of Redis is one. Throws RedisRequired with what is missing.
 */
export async function requireDurability(
  redis: Connection,
  settings: RedisSettings | string,
  { replicas }: { replicas: number },
  patienceMs = PATIENCE_MS,
): Promise<Confirmation | 'always'> {
  const { shown } = whereIs(typeof settings === 'string' ? { url: settings } : settings)
  const until = Date.now() + patienceMs
  for (;;) {
    const found = await look().catch((err: unknown): Trouble => meaningOf(err as Error, 'redis', false))
    if (typeof found === 'string') return found
    if (!('what' in found)) return found
    if (found.lasting || Date.now() > until)
      throw new RedisRequired(
        `DURABILITY=safe is not to be had at ${shown}. ${found.what}. DURABILITY=fast does without.`,
      )
    await sleep(200)
  }

  async function look(): Promise<Confirmation | 'always' | Trouble> {
    let confirmation: Confirmation | 'always' = replicas > 0 ? { by: 'replicas', replicas } : 'always'
    for (const master of isCluster(redis) ? redis.nodes('master') : [redis]) {
      const name = `${master.options.host}:${master.options.port}`
      const info = await master.info()
      const field = (of: string) => new RegExp(`^${of}:(\\S+)`, 'm').exec(info)?.[1]
      if (replicas > 0) {
        const there = Number(field('connected_slaves') ?? 0)
        if (there < replicas) {
          const what = `${name} has ${there} connected replicas and DURABILITY_REPLICAS is ${replicas}: add replicas, or set DURABILITY_REPLICAS=0 to rely on the append-only file of one server`
          return { what, lasting: false }
        }
        await master.wait(0, 1) // whether we may
      } else if (!(await syncsAlways(master))) {
        const file = field('aof_enabled') === '1'
        if (!file || !hasWaitAof(field('redis_version') ?? '0', field('valkey_version'))) {
          const what = `${name} does not sync its append-only file before it answers: set appendonly yes and appendfsync always (or, from Redis 7.2 on, appendonly yes), or add a replica and set DURABILITY_REPLICAS=1`
          return { what, lasting: true }
        }
        await master.call('WAITAOF', 0, 0, 1) // whether we may
        confirmation = { by: 'file' }
      }
    }
    return confirmation
  }
}

async function syncsAlways(master: { config(get: 'GET', name: string): Promise<unknown> }): Promise<boolean> {
  const [, appendonly] = (await master.config('GET', 'appendonly')) as string[]
  const [, appendfsync] = (await master.config('GET', 'appendfsync')) as string[]
  return appendonly === 'yes' && appendfsync === 'always'
}

function hasWaitAof(version: string, valkey: string | undefined): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return valkey !== undefined || major > 7 || (major === 7 && minor >= 2)
}
