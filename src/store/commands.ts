import type { Keys } from './keys.js'

/** Stands for a key, or for a channel, of the gateway in the samples below. */
const KEY = '<key>'
const CHANNEL = '<channel>'
const PATTERN = '<pattern>'

/**
 * Every Redis command that a replica or an operator's command runs, in scripts too, by its name as ACL has it; with
 * arguments that it takes. What the gateway itself does, its BullMQ queues, the adapter of Socket.IO, and ioredis.
 * A user that may run these, on `keysAllowed` and `channelsAllowed`, is all that is needed: `aclOf`.
 */
export const COMMANDS = {
  // the connection
  ping: [],
  info: [],
  hello: [],
  select: ['0'],
  'client|setname': ['x'],
  time: [],
  multi: [],
  exec: [],
  discard: [],
  eval: ['return 1', '1', KEY],
  evalsha: ['e0e1f9fabfc9d4800c877a703b823ac0578ff8db', '1', KEY],
  // channels
  publish: [CHANNEL, ''],
  spublish: [CHANNEL, ''],
  subscribe: [CHANNEL],
  unsubscribe: [CHANNEL],
  psubscribe: [PATTERN],
  punsubscribe: [PATTERN],
  ssubscribe: [CHANNEL],
  sunsubscribe: [CHANNEL],
  // keys of any kind
  del: [KEY],
  exists: [KEY],
  expire: [KEY, '1'],
  pexpire: [KEY, '1'],
  pexpireat: [KEY, '1'],
  pttl: [KEY],
  // strings
  get: [KEY],
  set: [KEY, ''],
  incr: [KEY],
  incrby: [KEY, '1'],
  // hashes
  hdel: [KEY, 'f'],
  hexists: [KEY, 'f'],
  hget: [KEY, 'f'],
  hgetall: [KEY],
  hincrby: [KEY, 'f', '1'],
  hmget: [KEY, 'f'],
  hmset: [KEY, 'f', ''],
  hset: [KEY, 'f', ''],
  hsetnx: [KEY, 'f', ''],
  // lists
  lindex: [KEY, '0'],
  llen: [KEY],
  lpop: [KEY],
  lpos: [KEY, ''],
  lpush: [KEY, ''],
  lrange: [KEY, '0', '0'],
  lrem: [KEY, '0', ''],
  ltrim: [KEY, '0', '0'],
  rpush: [KEY, ''],
  rpoplpush: [KEY, KEY],
  // sets
  sadd: [KEY, 'm'],
  scard: [KEY],
  smembers: [KEY],
  srem: [KEY, 'm'],
  // sorted sets
  bzpopmin: [KEY, '1'],
  zadd: [KEY, '0', 'm'],
  zcard: [KEY],
  zcount: [KEY, '0', '0'],
  zmscore: [KEY, 'm'],
  zpopmin: [KEY],
  zrange: [KEY, '0', '0'],
  zrangebyscore: [KEY, '0', '0'],
  zrank: [KEY, 'm'],
  zrem: [KEY, 'm'],
  zremrangebyrank: [KEY, '0', '0'],
  zremrangebyscore: [KEY, '0', '0'],
  zrevrange: [KEY, '0', '0'],
  zrevrangebyscore: [KEY, '0', '0'],
  zscore: [KEY, 'm'],
  zunionstore: [KEY, '1', KEY],
  // streams
  xack: [KEY, 'g', '0-1'],
  xadd: [KEY, '*', 'f', ''],
  xautoclaim: [KEY, 'g', 'c', '1', '0'],
  'xgroup|create': [KEY, 'g', '0'],
  xrange: [KEY, '-', '+'],
  xreadgroup: ['GROUP', 'g', 'c', 'STREAMS', KEY, '>'],
  xrevrange: [KEY, '+', '-'],
  xtrim: [KEY, 'MAXLEN', '0'],
} as const satisfies Record<string, readonly string[]>

/** Beside them, on the nodes of a Cluster. */
export const CLUSTER_COMMANDS = { 'cluster|slots': [], 'cluster|info': [], readonly: [] } as const

/** Beside them with DURABILITY=safe: by replicas, or (`file`, DURABILITY_REPLICAS=0) by the append-only file. */
export const DURABILITY_COMMANDS = {
  replicas: { wait: ['0', '1'] },
  file: { 'config|get': ['appendonly'] },
} as const

/** On the Sentinels, which have users of their own. */
export const SENTINEL_COMMANDS = [
  'sentinel|get-master-addr-by-name',
  'sentinel|sentinels',
  'sentinel|ckquorum',
] as const

type Names = Pick<Keys, 'prefix' | 'bullmq' | 'sockets'>

/** Patterns of every key of a deployment. */
export const keysAllowed = ({ prefix, bullmq }: Names): string[] => [`${prefix}*`, `${bullmq}:*`]

/** Patterns of every channel. Who subscribes to a pattern must have just that one, so Socket.IO's have lines of their own. */
export const channelsAllowed = ({ prefix, sockets }: Names): string[] => [
  `${prefix}*`,
  ...['/', '/agents'].map((namespace) => `${sockets}#${namespace}#*`),
]

/** What of a deployment decides which commands it needs. */
export interface Needs {
  cluster?: boolean
  /** How DURABILITY=safe is confirmed. */
  safe?: keyof typeof DURABILITY_COMMANDS
}

/** Every command of a deployment, with sample arguments. */
export const commandsOf = ({ cluster = false, safe }: Needs = {}): Record<string, readonly string[]> => ({
  ...COMMANDS,
  ...(cluster && CLUSTER_COMMANDS),
  ...(safe && DURABILITY_COMMANDS[safe]),
})

/**
 * The rules of a Redis user that may do what the gateway does, and nothing else; without its name and password. From
 * Redis 7.2 on a deployment with `safe: 'file'` needs `+waitaof` too, which older ones do not know.
 */
export const aclOf = (names: Names, needs: Needs = {}): string[] => [
  'on',
  'resetkeys',
  'resetchannels',
  '-@all',
  ...keysAllowed(names).map((pattern) => `~${pattern}`),
  ...channelsAllowed(names).map((pattern) => `&${pattern}`),
  ...Object.keys(commandsOf(needs)).map((name) => `+${name}`),
]

/** A command as Redis takes it, on one key of the deployment; queued by MULTI and then discarded it does nothing. */
export function sampleOf(name: string, args: readonly string[], names: Names): [string, ...string[]] {
  const stands: Record<string, string> = {
    [KEY]: `${names.prefix}{doctor}:nothing`,
    [CHANNEL]: `${names.prefix}{doctor}:nothing`,
    [PATTERN]: channelsAllowed(names).at(-1)!,
  }
  const [command = '', ...rest] = [...name.split('|'), ...args.map((arg) => stands[arg] ?? arg)]
  return [command, ...rest]
}
