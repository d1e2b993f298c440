import { Redis } from 'ioredis'
import { openAdmin } from '../../src/admin.js'
import { mintKey } from '../../src/auth/mint-key.js'
import { readConfig } from '../../src/config.js'
import { newInteractionId, newSessionId } from '../../src/core/mint.js'
import { sessionOf, type SessionId } from '../../src/protocol/ids.js'
import { keysOf, type Keys } from '../../src/store/keys.js'
import { api, post, watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startHelixAgent } from '../support/helix-agent.js'
import { keysLike, startNetwork, type Network } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'
import { secret } from '../support/receiver.js'
import { follows, startRedisServer } from '../support/redis-server.js'

const SESSION_TTL_MS = 4000
const env = {
  SESSION_TTL_MS: String(SESSION_TTL_MS),
  RESUME_WINDOW_MS: '1500',
  IDEMPOTENCY_TTL_MS: '2000',
  LEASE_TTL_MS: '900',
  AGENT_GRACE_MS: '300',
  SWEEP_EVERY_MS: '200',
  STALE_AFTER_MS: '60000',
  DRAIN_MS: '2000',
  WEBHOOK_SECRET: secret('a'),
  WEBHOOK_ALLOW_HOSTS: '127.0.0.1',
  WEBHOOK_RETRY_MS: '10',
  WEBHOOK_ATTEMPTS: '2',
  MAX_REQUESTS_PER_OWNER: '100000',
  MAX_STREAMS_PER_OWNER: '1000',
  RATE_WINDOW_MS: '1000',
}

const id = newInteractionId(newSessionId())
const session = sessionOf(id)

/** What each name in `keys.ts` is: a pattern of keys, or something in which nothing is stored. */
const KINDS: Record<keyof Keys, ((keys: Keys) => string) | 'channel' | 'no key'> = {
  prefix: 'no key',
  session: (keys) => keys.session(session),
  queue: (keys) => keys.queue(session),
  lease: (keys) => keys.lease(session),
  interactions: (keys) => keys.interactions(session),
  runs: (keys) => keys.runs(session),
  overheard: (keys) => keys.overheard(session),
  interaction: (keys) => keys.interaction(id),
  log: (keys) => keys.log(id),
  live: 'channel',
  wake: 'channel',
  pending: (keys) => keys.pending('coder'),
  pendingFor: (keys) => keys.pendingFor('coder', 'anna'),
  poolWake: 'channel',
  agent: (keys) => keys.agent('coder', 'anna'),
  agents: (keys) => keys.agents('coder'),
  agentSessions: (keys) => keys.agentSessions('coder', 'anna'),
  pools: (keys) => keys.pools,
  thread: (keys) => keys.thread('coder', 'T'),
  deadlines: (keys) => keys.deadlines(0),
  deadlineShard: 'no key',
  recent: (keys) => keys.recent(0),
  ended: (keys) => keys.ended(0),
  sweep: (keys) => keys.sweep,
  sweepLock: (keys) => keys.sweepLock,
  audit: (keys) => keys.audit,
  auditWake: 'channel',
  bullmq: (keys) => `${keys.bullmq}:sweep:meta`,
  replica: (keys) => keys.replica('r0'),
  replicas: (keys) => keys.replicas,
  probe: 'channel',
  replicaWake: 'channel',
  sockets: 'channel',
  apiKey: (keys) => keys.apiKey('0123456789'),
  apiKeys: (keys) => keys.apiKeys,
  keysRevoked: 'channel',
  places: (keys) => keys.places('me'),
  placesOf: 'channel',
  rate: (keys) => keys.rate('requests', 'me'),
  ownerSessions: (keys) => keys.ownerSessions('me'),
  once: (keys) => keys.once('me', 'x'),
  waited: (keys) => keys.waited(''),
}

/** A key without what differs from one of its kind to the next. */
const kindOf = (key: string, prefix: string): string =>
  key
    .replaceAll(prefix, '')
    .replaceAll(/{pool:-}:agent(?=:|s$)/g, '{pool:coder}:agent') // agents of named sessions
    .replaceAll(/(ses|int)_[0-9a-z_]+/g, '$1')
    .replaceAll(/(?<={keys}:key:)[0-9a-z]{10}/g, '<id>')
    .replaceAll(/[0-9a-f]{32}/g, '<hash>')
    .replaceAll(/deadlines:\d+/g, 'deadlines')
    .replaceAll(/\d{10,}/g, '<time>')
    .replaceAll(/replica:r\d/g, 'replica')
    .replace('{pool:-}:agent:ses', '{pool:coder}:agent:anna') // agents of named sessions
    .replace('{pool:-}', '{pool:coder}')
    .replaceAll(/evt_[0-9a-z_]+/g, 'evt_int')

/**
 * BullMQ's keys have no TTL by nature: its queue is to outlive any pause. They are one schedule and its next job, the
 * lists in which that job is for a moment, at most 20 failed jobs, and a stream of events that BullMQ caps.
 */
const BULLMQ = [
  ...['meta', 'id', 'marker', 'events', 'repeat', 'repeat:sweep', 'repeat:sweep:<time>'],
  ...['delayed', 'wait', 'active', 'stalled', 'failed'],
]
  .map((key) => `{bullmq}:sweep:${key}`)
  // and of webhooks: those to be posted, and the last ones that were, at most 10,000 and at most an hour old
  .concat(
    ['meta', 'id', 'marker', 'events', 'wait', 'active', 'delayed', 'stalled', 'completed', 'failed', 'evt_int'].map(
      (key) => `{bullmq}:webhooks:${key}`,
    ),
  )

/** What stays longer than a session, by constants in the code, ms. All else is gone when the longest of the TTLs above is. */
const DAY_MS = 24 * 3600_000
const LONGER: Record<string, number> = {
  sweep: 7 * DAY_MS, // when the last sweep was: to know how long nobody could
  '{audit}:trail': 90 * DAY_MS, // what operators did
  pools: DAY_MS, // a pool is known for a day after its last agent
  replicas: 150_000,
  '{owner:<hash>}:places': 30_000, // of streams that a killed replica had open
  waited: 10_000,
  '{owner:<hash>}:once:<hash>': 600_000, // fingerprints of POSTs without a key
  '{ses}:interaction:int': 60_000, // of a session that is gone: its streams may still end in order
  '{ses}:log:int': 60_000,
  '{bullmq}:sweep:repeat:sweep:<time>:lock': 10_000, // of a tick that a worker fetched as it closed
  '{bullmq}:sweep:stalled-check': 5000,
  '{bullmq}:webhooks:stalled-check': 10_000,
  '{bullmq}:webhooks:evt_int:lock': 20_000,
}

/** Keeps an eye on all keys of a server: every name ever written, and every key that was seen to have no TTL. */
async function observe(url: string) {
  const [redis, ear] = [new Redis(url), new Redis(url)]
  const written = new Set<string>()
  const immortal = new Set<string>()
  await redis.config('SET', 'notify-keyspace-events', 'EA')
  ear.on('pmessage', (_pattern: string, _channel: string, key: string) => void written.add(key))
  await ear.psubscribe('__keyevent@0__:*')
  const look = async () => {
    for (const key of (await redis.eval(IMMORTAL, 0)) as string[]) immortal.add(key)
  }
  const timer = setInterval(() => void look().catch(() => {}), 20)
  return {
    written,
    immortal,
    async stop() {
      clearInterval(timer)
      await look()
      redis.disconnect()
      ear.disconnect()
    },
  }
}
const IMMORTAL = `
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  if redis.call('PTTL', key) == -1 then found[#found + 1] = key end
end
return found`

async function everything(net: Network): Promise<void> {
  const waits = await post(net.url(0), { pool: 'coder' }, 'nobody is here yet')
  const anna = await net.rawAgent({ pool: 'coder', agent: 'anna' })
  const first = await anna.turn(0)
  const waiting = await post(net.url(1), { session: waits.session }, 'in the queue')
  anna.send(first.request, 1, { type: 'thread', thread: 'T-1' }, text('hello'), completed)
  const second = await anna.turn(1)
  anna.send(second.request, 1, text('hello again'), completed)
  await watch(net.url(1), waiting.interaction).done
  await released(net, waits.session)

  const keyed = { 'idempotency-key': 'k-1' }
  const other = await post(net.url(1), { pool: 'coder' }, 'keeps anna busy', {}, keyed)
  await post(net.url(0), { pool: 'coder' }, 'keeps anna busy', {}, keyed)
  await anna.turn(2)
  await post(net.url(0), { session: waits.session }, 'waits for anna, who has the thread')
  await api(net.url(1), `/interactions/${other.interaction}/cancel`, {})
  anna.socket.emit('settled', { request: anna.turns[2]!.request })
  const third = await anna.turn(3)
  anna.send(third.request, 1, text('half'))
  await anna.acked(third.request, 1)
  const lost = watch(net.url(0), third.interaction)
  anna.close()
  await lost.done // the sweep has failed it
  expect(lost.turn.error?.code).toBe('agent_disconnected')

  const webhook = { url: 'http://127.0.0.1:1/nobody-listens' }
  const abandoned = await post(net.url(0), { pool: 'coder' }, 'never answered', { webhook })
  await api(net.url(0), `/sessions/${abandoned.session}`, undefined, { method: 'DELETE' })
  const chat = await fetch(`${net.url(1)}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'coder', stream: true, messages: [{ role: 'user', content: 'hi' }] }),
  })
  const bea = await net.rawAgent({ pool: 'coder', agent: 'bea', replica: 1 })
  const last = await bea.turn(0)
  bea.send(last.request, 1, text('hi'), completed)
  await chat.text()

  {
    await using admin = await openAdmin(readConfig({ ...env, REDIS_URL: net.redisUrl, KEY_PREFIX: net.prefix }), 'test')
    await admin.act('key.created', 'key_1', async () => 'done')
    const createdAt = await admin.parts.store.replicas.now()
    const { id, hash } = mintKey()
    const key = { id, hash, kind: 'client' as const, owner: 'ann', pools: [], name: '', createdAt, usedOn: '' }
    await admin.parts.store.apiKeys.add({ ...key, expiresAt: createdAt + 2000 })
  }

  const { body: named } = await api<{ id: SessionId }>(net.url(0), '/sessions', { pool: 'coder' })
  await using zed = await startHelixAgent({ url: net.url(0), session: named.id })
  zed.say('agent_ready', { agent_name: 'zed-connection', thread_id: null })
  const stopped = await post(net.url(0), { session: named.id }, 'stopped in the middle')
  const prompt = await zed.command('chat_message')
  zed.text('Z-1', '1', 'half of', prompt['request_id'])
  await eventually(async () => (await net.redis.xlen(keysOf(net.prefix).log(stopped.interaction))) > 2)
  await api(net.url(0), `/interactions/${stopped.interaction}/cancel`, {})
  await zed.command('cancel_current_turn')
  await post(net.url(0), { session: named.id }, 'the next one')
  zed.say('turn_cancelled', { request_id: prompt['request_id'], status: 'cancelled' })
  const next = await zed.command('chat_message', 1)
  zed.text('Z-1', '1', 'half of an answer', prompt['request_id'])
  zed.text('Z-1', '4', 'done', next['request_id'])
  zed.completed('Z-1', next['request_id'])
  await eventually(async () => (await net.redis.exists(keysOf(net.prefix).overheard(named.id))) === 1)
}

const released = (net: Network, session: string) =>
  eventually(async () => (await api<{ agent: unknown }>(net.url(0), `/sessions/${session}`)).body.agent === null)

test('a name that is new in keys.ts is told here what it is', () => {
  expect(Object.keys(KINDS).sort()).toEqual(Object.keys(keysOf('p:')).sort())
})

test('every key of a session, of a pool, of an owner and of a shard shares its slot; no name holds text from outside', () => {
  const keys = keysOf('p:')
  const tag = (key: string) => /\{([^}]+)\}/.exec(key)?.[1]
  const ofSession = [
    keys.session(session),
    keys.queue(session),
    keys.lease(session),
    keys.interactions(session),
    keys.overheard(session),
    keys.interaction(id),
    keys.log(id),
    keys.live(session),
    keys.wake(session),
  ]
  expect(new Set(ofSession.map(tag))).toEqual(new Set([session]))
  const ofPool = [
    keys.pending('a'),
    keys.pendingFor('a', 'x'),
    keys.poolWake('a'),
    keys.agent('a', 'x'),
    keys.agents('a'),
    keys.agentSessions('a', 'x'),
  ]
  expect(new Set(ofPool.map(tag))).toEqual(new Set(['pool:a']))
  expect(tag(keys.ownerSessions('me'))).toBe(tag(keys.once('me', 'x')))
  expect(tag(keys.ownerSessions('you'))).not.toBe(tag(keys.ownerSessions('me')))
  for (const outside of ['}', '{x}', 'a b', '*', '\n'])
    expect(keys.ownerSessions(outside) + keys.once(outside, outside) + keys.thread('a', outside)).toMatch(/^[\w:{}]+$/)
})

test('Redis is left clean: every key has a TTL at any moment, and after the last TTL nothing is left', async () => {
  await using server = await startRedisServer()
  await using follower = await startRedisServer({ args: ['--replicaof', '127.0.0.1', String(server.port)] })
  await follows(follower)
  const seen = await observe(server.url)
  await using net = await startNetwork({ replicas: 2, redisUrl: server.url, env: { ...env, DURABILITY: 'safe' } })
  await everything(net)
  for (const replica of net.replicas) await replica.drain()
  await seen.stop()

  const kinds = (all: Iterable<string>) => new Set([...all].map((key) => kindOf(key, net.prefix)))
  const keys = keysOf(net.prefix)
  const named = Object.entries(KINDS).flatMap(([name, kind]) =>
    typeof kind === 'string' ? [] : [{ name, kind: kindOf(kind(keys), net.prefix) }],
  )
  const written = kinds(seen.written)
  expect(named.filter(({ kind }) => !written.has(kind))).toEqual([]) // the story above has made a key of every kind
  const known = new Set(named.map(({ kind }) => kind))
  const stranger = (kind: string) =>
    !known.has(kind.replace(/bea$|(?<=:agent:)ses$/, 'anna')) && !kind.startsWith('{bullmq}:')
  expect([...written].filter(stranger)).toEqual([]) // and keys.ts names every key there is
  expect([...kinds(seen.immortal)].filter((kind) => !BULLMQ.includes(kind))).toEqual([])

  const left = async () => (await keysLike(net.redis, '*')).filter((key) => !BULLMQ.includes(kindOf(key, net.prefix)))
  await eventually(
    async () => {
      for (const key of await left()) expect(Object.keys(LONGER)).toContain(kindOf(key, net.prefix))
    },
    { limitMs: SESSION_TTL_MS + 3000 },
  )
  for (const key of await left()) {
    const life = await net.redis.pttl(key)
    if (life === -2) continue // just now
    expect(life).toBeGreaterThan(0)
    expect([key, life <= LONGER[kindOf(key, net.prefix)]!]).toEqual([key, true])
  }
})

test('a replica that is killed leaves nothing that stays', async () => {
  await using server = await startRedisServer()
  await using net = await startNetwork({ replicas: 1, processes: true, redisUrl: server.url, env })
  const anna = await net.rawAgent({ pool: 'coder', agent: 'anna' })
  const running = await post(net.url(0), { pool: 'coder' }, 'hello')
  await post(net.url(0), { session: running.session }, 'waits')
  const { request } = await anna.turn()
  anna.send(request, 1, text('half'))
  await anna.acked(request, 1)
  await net.replicas[0]!.kill9()
  const left = async () => (await keysLike(net.redis, '*')).filter((key) => !BULLMQ.includes(kindOf(key, net.prefix)))
  const shorter = async () =>
    (await left()).filter((key) => !(kindOf(key, net.prefix) in LONGER) && kindOf(key, net.prefix) !== 'replica')
  await eventually(async () => expect(await shorter()).toEqual([]), { limitMs: SESSION_TTL_MS + 4000 })
  for (const key of await left()) expect(await net.redis.pttl(key)).not.toBe(-1) // 0 or -2: it ends just now
})
