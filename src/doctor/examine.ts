import { readFile } from 'node:fs/promises'
import { openAdmin, RedisRequired } from '../admin.js'
import { ConfigError, readConfig, type Config } from '../config.js'
import { keysOf } from '../store/keys.js'
import { connector, type Connection } from '../store/redis.js'
import { askOnce, troubleAt, type Trouble } from '../store/redis-trouble.js'
import { whereIs, type Where } from '../store/redis-where.js'
import { fail, ok, type Finding } from './finding.js'
import { checkFleet } from './fleet.js'
import { checkRedis } from './redis.js'
import { checkFiles, checkSettings } from './settings.js'

/** How long Redis may take to answer, ms. */
const PATIENCE_MS = 5000
/** A connection that does not come about is looked into after this time, ms. */
const LOOK_AFTER_MS = 400

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
      const ofRedis = Object.entries(env).filter(([name]) => /^(REDIS_|KEY_PREFIX$)/.test(name))
      config = readConfig(Object.fromEntries(ofRedis)) // the rest can still be looked at
    } catch {
      return findings
    }
  }
  let where: Where
  try {
    where = whereIs(config.redis)
  } catch (err) {
    if (!(err instanceof RedisRequired)) throw err
    return [...findings, fail('redis.reach', err.message, 'Correct REDIS_URL.')]
  }
  const redis = connector(config.redis, `doctor-${process.pid}`, { info() {}, warn() {} })('doctor')
  try {
    const trouble = await reach(redis, where)
    if (trouble) return [...findings, unreachable(trouble)]
    findings.push(ok('redis.reach', `${where.shown} answers.`))
    findings.push(...(await checkRedis(redis, keysOf(config.store.prefix))), ...(await checkSentinels(where)))
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
async function reach(redis: Connection, where: Where): Promise<Trouble | undefined> {
  const startedAt = Date.now()
  for (let lookAt = startedAt + LOOK_AFTER_MS; Date.now() < startedAt + PATIENCE_MS;) {
    if (redis.status === 'ready') return undefined
    if (Date.now() > lookAt) {
      const trouble = await troubleAt(where)
      if (trouble?.lasting) return trouble
      lookAt = Date.now() + LOOK_AFTER_MS
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return (await troubleAt(where)) ?? { what: 'It answers, and yet no connection comes about', lasting: false }
}

/** A trouble is told as what is so, and then what to do. */
function unreachable({ what }: Trouble): Finding {
  const [found, ...cure] = what.split('. ')
  return fail('redis.reach', found!, cure.join('. ') || 'Look at the log of Redis.')
}

/** Whether the Sentinels could agree on a failover. */
async function checkSentinels(where: Where): Promise<Finding[]> {
  if (where.kind !== 'sentinel') return []
  return Promise.all(
    where.nodes.map(async (node) => {
      const asked = await askOnce(where, 'sentinel', node, (sentinel) =>
        sentinel.call('SENTINEL', 'CKQUORUM', where.master),
      )
      if ('answer' in asked) return ok('redis.sentinel', `${node.host}:${node.port}: ${String(asked.answer)}`)
      return fail(
        'redis.sentinel',
        asked.trouble.what,
        'A failover would not happen. Bring the missing Sentinels back; SENTINEL CKQUORUM says when it is well.',
      )
    }),
  )
}
