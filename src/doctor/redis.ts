import type { Redis } from 'ioredis'
import { CLUSTER_COMMANDS, COMMANDS, sampleOf } from '../store/commands.js'
import type { Keys } from '../store/keys.js'
import { isCluster, type Connection } from '../store/redis.js'
import { isNewEnough, OLDEST_REDIS, versionIn } from '../store/redis-version.js'
import { fail, ok, warn, type Finding } from './finding.js'

/** Clocks that differ by less do no harm, ms. */
const SKEW_MS = 2000
/** Cannot be tried inside of MULTI, being its own words. */
const NOT_IN_MULTI = ['multi', 'exec', 'discard']

/** Everything about the servers, each node of a Cluster by itself: settings and users are not shared between them. */
export async function checkRedis(redis: Connection, keys: Keys): Promise<Finding[]> {
  if (!isCluster(redis)) return checkNode(redis, keys, '', false)
  const nodes = redis.nodes('master')
  const findings = await Promise.all(
    nodes.map((node) => checkNode(node, keys, `${node.options.host}:${node.options.port}: `, true)),
  )
  return [...findings.flat(), await checkSlots(nodes[0]!)]
}

async function checkNode(node: Redis, keys: Keys, name: string, cluster: boolean): Promise<Finding[]> {
  const info = await node.info()
  return [
    checkVersion(info, name),
    checkEviction(info, name),
    checkMemory(info, name),
    await checkPersistence(node, info, name),
    await checkClock(node, name),
    await checkCommands(node, keys, name, cluster),
  ]
}

const field = (info: string, name: string): string => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? ''

function checkVersion(info: string, name: string): Finding {
  const version = versionIn(info) ?? 'unknown'
  return isNewEnough(version)
    ? ok('redis.version', `${name}${version}`)
    : fail(
        'redis.version',
        `${name}${version}; replicas do not start with it.`,
        `Upgrade Redis to ${OLDEST_REDIS} or newer, or use Valkey.`,
      )
}

function checkEviction(info: string, name: string): Finding {
  const policy = field(info, 'maxmemory_policy')
  return policy === 'noeviction'
    ? ok('redis.eviction', `${name}noeviction`)
    : fail(
        'redis.eviction',
        `${name}maxmemory-policy is ${policy}: when memory is full Redis throws conversations away.`,
        'CONFIG SET maxmemory-policy noeviction, and the same in its configuration file.',
      )
}

function checkMemory(info: string, name: string): Finding {
  const [used, most] = [Number(field(info, 'used_memory')), Number(field(info, 'maxmemory'))]
  const mib = (bytes: number) => `${Math.round(bytes / 1024 ** 2)} MiB`
  if (most === 0)
    return warn(
      'redis.memory',
      `${name}maxmemory is not set, ${mib(used)} are used: when the machine is full the system kills Redis.`,
      'Set maxmemory to what docs/operations.md (Sizing) says, and give the machine half as much again.',
    )
  const said = `${name}${mib(used)} of ${mib(most)} are used`
  const cure = 'Raise maxmemory, or lower SESSION_TTL_MS and RESUME_WINDOW_MS.'
  if (used > 0.95 * most) return fail('redis.memory', `${said}: writes are refused, or nearly so.`, cure)
  if (used > 0.8 * most) return warn('redis.memory', `${said}.`, cure)
  return ok('redis.memory', `${said}.`)
}

async function checkPersistence(node: Redis, info: string, name: string): Promise<Finding> {
  const cure = 'CONFIG SET appendonly yes, and the same in its configuration file; with a disk that lasts.'
  if (field(info, 'aof_enabled') === '1') {
    const failed = ['aof_last_write_status', 'aof_last_bgrewrite_status'].find((it) => field(info, it) === 'err')
    return failed
      ? fail(
          'redis.persistence',
          `${name}the append-only file is on and ${failed} is err.`,
          'Look at the log of Redis; the disk is full or broken.',
        )
      : ok('redis.persistence', `${name}append-only file: a restart loses nothing, a power cut a second or so.`)
  }
  const saves = await node.config('GET', 'save').then(
    (answer) => String((answer as string[])[1] ?? ''),
    () => undefined, // a user with few rights may not ask
  )
  if (saves === '')
    return fail('redis.persistence', `${name}nothing is written to disk: a restart of Redis loses every session.`, cure)
  return warn(
    'redis.persistence',
    `${name}no append-only file${saves === undefined ? '' : `, snapshots only (save ${saves})`}: a restart of Redis loses what came after the last snapshot, if there is one.`,
    cure,
  )
}

async function checkClock(node: Redis, name: string): Promise<Finding> {
  const before = Date.now()
  const [seconds, micros] = await node.time()
  const ahead = Math.round((before + Date.now()) / 2 - (Number(seconds) * 1000 + Number(micros) / 1000))
  return Math.abs(ahead) <= SKEW_MS
    ? ok('clock', `${name}this machine and Redis differ by ${Math.abs(ahead)} ms.`)
    : warn(
        'clock',
        `${name}this machine is ${Math.abs(ahead)} ms ${ahead > 0 ? 'ahead of' : 'behind'} Redis: tokens are taken for expired or not yet valid.`,
        'Set the clocks by NTP on both.',
      )
}

/** Tries every command in a transaction that is then discarded: what the user may not run is refused as it is queued. */
async function checkCommands(node: Redis, keys: Keys, name: string, cluster: boolean): Promise<Finding> {
  const refused: string[] = []
  const tried = Object.entries({ ...COMMANDS, ...(cluster && CLUSTER_COMMANDS) })
  await node.call('MULTI')
  for (const [command, args] of tried) {
    if (NOT_IN_MULTI.includes(command)) continue
    await node.call(...sampleOf(command, args, keys)).catch((err: Error) => {
      if (err.message.startsWith('NOPERM')) refused.push(command)
    })
  }
  await node.call('DISCARD')
  return refused.length === 0
    ? ok('redis.acl', `${name}all ${tried.length} commands may be run, on keys ${keys.prefix}*.`)
    : fail(
        'redis.acl',
        `${name}this user may not run, or not on keys and channels of ${keys.prefix}*: ${refused.join(', ')}.`,
        `ACL SETUSER <user> ${refused.map((it) => `+${it}`).join(' ')} ~${keys.prefix}* ~${keys.bullmq}:* &${keys.prefix}* (all rules: docs/operations.md).`,
      )
}

async function checkSlots(node: Redis): Promise<Finding> {
  const info = String(await node.call('CLUSTER', 'INFO'))
  const [state, assigned, good] = ['cluster_state', 'cluster_slots_assigned', 'cluster_slots_ok'].map((it) =>
    field(info, it),
  )
  return state === 'ok' && good === '16384'
    ? ok('redis.cluster', 'all 16384 slots are served.')
    : fail(
        'redis.cluster',
        `the Cluster is ${state}: ${assigned} of 16384 slots are assigned, ${good} served. Sessions in the others are out of reach.`,
        'redis-cli --cluster check, then --cluster fix; bring the missing master back or promote its replica.',
      )
}
