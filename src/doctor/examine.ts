import { readFile } from 'node:fs/promises'
import { Redis } from 'ioredis'
import { openAdmin, RedisRequired } from '../admin.js'
import { ConfigError, readConfig, type Config } from '../config.js'
import { connector, parseUrl } from '../store/redis.js'
import { keysOf } from '../store/keys.js'
import { fail, ok, type Finding } from './finding.js'
import { checkFleet } from './fleet.js'
import { checkRedis } from './redis.js'
import { checkFiles, checkSettings } from './settings.js'

/** How long Redis may take to answer, ms. */
const PATIENCE_MS = 5000

/**
 * Examines the deployment that the environment names: its settings, its Redis, its replicas. Changes nothing. What cannot
 * be looked at for an earlier failure is left out.
 */
export async function examine(env: Record<string, string | undefined>, version: string): Promise<Finding[]> {
  const findings: Finding[] = []
  let config: Config
  try {
    config = readConfig(env)
    findings.push(ok('config', 'every setting can be read.'), ...checkSettings(config))
    findings.push(...checkFiles(config, await readFile('/proc/self/limits', 'utf8').catch(() => '')))
  } catch (err) {
    if (!(err instanceof ConfigError)) throw err
    for (const problem of err.problems)
      findings.push(
        fail('config', problem, 'Replicas do not start with it. throughline config explains every setting.'),
      )
    try {
      config = readConfig({ REDIS_URL: env['REDIS_URL'], KEY_PREFIX: env['KEY_PREFIX'] }) // the rest can still be looked at
    } catch {
      return findings
    }
  }
  const trouble = await reach(config)
  if (trouble) return [...findings, trouble]
  const open = connector(config.redisUrl, `doctor-${process.pid}`, { info() {}, warn() {} })
  const redis = open('doctor')
  try {
    findings.push(ok('redis.reach', `${config.redisUrl.replace(/\/\/[^@/]*@/, '//***@')} answers.`))
    findings.push(...(await checkRedis(redis, keysOf(config.store.prefix))), ...(await checkSentinels(config.redisUrl)))
  } finally {
    redis.disconnect()
  }
  if (findings.some((it) => it.status === 'fail' && /^redis\.(version|acl|cluster)$/.test(it.check))) return findings
  try {
    await using admin = await openAdmin(config, version)
    return [...findings, ...(await checkFleet(admin, version))]
  } catch (err) {
    if (!(err instanceof RedisRequired)) throw err
    return [...findings, fail('redis.reach', err.message, 'Look at the log of Redis.')]
  }
}

/** Why Redis cannot be reached; undefined when it can. */
async function reach({ redisUrl }: Config): Promise<Finding | undefined> {
  let redis
  try {
    redis = connector(redisUrl, `doctor-${process.pid}`, { info() {}, warn() {} })('commands')
  } catch (err) {
    return fail('redis.reach', (err as Error).message, 'Correct REDIS_URL.')
  }
  let why = 'no answer'
  redis.on('error', (err: Error & { lastNodeError?: Error }) => (why = (err.lastNodeError ?? err).message))
  try {
    for (const end = Date.now() + PATIENCE_MS; Date.now() < end;) {
      if (redis.status === 'ready') return undefined
      if (/WRONGPASS|NOAUTH|NOPERM|certificate|wrong version number/i.test(why)) break // waiting does not help
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    return fail('redis.reach', `${redisUrl.replace(/\/\/[^@/]*@/, '//***@')}: ${why}`, cureOf(why))
  } finally {
    redis.disconnect()
  }
}

function cureOf(why: string): string {
  if (/WRONGPASS/i.test(why))
    return 'User or password in REDIS_URL is wrong: redis://user:password@host, both percent-encoded.'
  if (/NOAUTH/i.test(why)) return 'Redis asks for a password: redis://:password@host or redis://user:password@host.'
  if (/NOPERM/i.test(why)) return 'The Redis user may not even say hello; give it the rules in docs/operations.md.'
  if (/certificate|altname/i.test(why)) return 'The certificate of Redis is not trusted here, or is for another name.'
  if (/wrong version number|packet length/i.test(why))
    return 'Redis does not speak TLS at this port: redis:// instead of rediss://, or its TLS port.'
  if (/ENOTFOUND|EAI_AGAIN/i.test(why)) return 'The host in REDIS_URL has no address; is the name right, from here?'
  if (/ECONNREFUSED/i.test(why)) return 'Nothing listens there: start Redis, or correct host and port in REDIS_URL.'
  return 'Is Redis up, is this the right port (with TLS: rediss://), does a firewall or network policy stand between?'
}

/** Whether the Sentinels could agree on a failover. */
async function checkSentinels(url: string): Promise<Finding[]> {
  const where = parseUrl(url)
  if (where.kind !== 'sentinel') return []
  return Promise.all(
    where.nodes.map(async ({ host, port }) => {
      const sentinel = new Redis({
        host,
        port,
        lazyConnect: true,
        retryStrategy: () => null,
        connectTimeout: 3000,
        protocol: 2,
      })
      sentinel.on('error', () => {}) // told below
      try {
        await sentinel.connect()
        return ok(
          'redis.sentinel',
          `${host}:${port}: ${String(await sentinel.call('SENTINEL', 'CKQUORUM', where.master))}`,
        )
      } catch (err) {
        return fail(
          'redis.sentinel',
          `${host}:${port}: ${(err as Error).message}`,
          'A failover would not happen. Bring the missing Sentinels back; SENTINEL CKQUORUM says when it is well.',
        )
      } finally {
        sentinel.disconnect()
      }
    }),
  )
}
