import { readdirSync, readFileSync } from 'node:fs'
import { Redis } from 'ioredis'
import { openAdmin } from '../../src/admin.js'
import { readConfig } from '../../src/config.js'
import { aclOf, COMMANDS, sampleOf } from '../../src/store/commands.js'
import { keysOf } from '../../src/store/keys.js'
import { api, post, watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'
import { secret, startReceiver } from '../support/receiver.js'
import { follows, startRedisServer } from '../support/redis-server.js'
import { revokeKey, storedKey } from '../support/stored-key.js'

test('every command of our scripts is listed', () => {
  const folder = new URL('../../src/store/lua/', import.meta.url)
  const called = readdirSync(folder).flatMap((file) =>
    [...readFileSync(new URL(file, folder), 'utf8').matchAll(/redis\.call\((?:first and )?'([A-Z]+)'/g)].map(
      (it) => it[1]!,
    ),
  )
  expect(called.length).toBeGreaterThan(100)
  expect(
    [...new Set([...called, 'RPUSH'].map((name) => name.toLowerCase()))].filter((name) => !(name in COMMANDS)),
  ).toEqual([])
})

/** A Redis with a replica, a user that has just these rights, and whoever may change them. */
async function restricted(prefix: string) {
  const server = await startRedisServer()
  const replica = await startRedisServer({ args: ['--replicaof', '127.0.0.1', String(server.port)] })
  await follows(replica)
  const root = server.client()
  const keys = keysOf(prefix)
  await root.call('ACL', 'SETUSER', 'gateway', '>hush', ...aclOf(keys, { safe: 'replicas' }))
  return {
    root,
    keys,
    url: server.url.replace('//', '//gateway:hush@'),
    async [Symbol.asyncDispose]() {
      root.disconnect()
      await Promise.all([server.stop(), replica.stop()])
    },
  }
}

test('a Redis user with just these commands carries a deployment, and Redis has refused it nothing', async () => {
  await using receiver = await startReceiver()
  await using redis = await restricted('acl-test:')
  const env = {
    KEY_PREFIX: redis.keys.prefix,
    SWEEP_EVERY_MS: '200',
    AGENT_WAIT_MS: '300',
    PROBE_MS: '100',
    DURABILITY: 'safe',
    KEY_STORE: 'on',
    MAX_REQUESTS_PER_OWNER: '1000',
    MAX_STREAMS_PER_OWNER: '10',
    WEBHOOK_SECRET: secret('a'),
    WEBHOOK_ALLOW_HOSTS: '127.0.0.1',
    POOLS: 'coder,empty',
  }
  await using net = await startNetwork({ replicas: 2, redisUrl: redis.url, env })
  const stored = { redisUrl: redis.url, prefix: redis.keys.prefix }
  const ann = await storedKey(stored, { owner: 'ann' })
  const coder = await storedKey(stored, { pools: ['coder'] })
  const agent = await net.rawAgent({ pool: 'coder', agent: 'anna', key: coder.text })
  const webhook = { url: receiver.url }
  const { interaction, session } = await post(
    net.url(1),
    { pool: 'coder' },
    'hello',
    { webhook },
    { 'idempotency-key': 'k', ...ann.headers },
  )
  const { request } = await agent.turn()
  const seen = watch(net.url(1), interaction, { key: ann.text })
  agent.send(request, 1, text('hi'), completed)
  await seen.done
  const cancelled = await post(net.url(0), { session }, 'never mind', {}, ann.headers)
  const waits = await post(net.url(1), { session }, 'waits', {}, ann.headers)
  await agent.turn(1)
  await api(net.url(1), `/interactions/${cancelled.interaction}/cancel`, {}, ann)
  agent.socket.emit('settled', { request: agent.turns[1]!.request })
  expect((await agent.turn(2)).interaction).toBe(waits.interaction)
  const alone = await post(net.url(0), { pool: 'empty' }, 'nobody', {}, ann.headers)
  const swept = watch(net.url(0), alone.interaction, { key: ann.text })
  await swept.done
  expect(swept.turn.error?.code).toBe('agent_unavailable')
  await api(net.url(0), '/sessions', undefined, ann)
  const moved = await net.rawAgent({ pool: 'coder', agent: 'anna', replica: 1, key: coder.text }) // told by the adapter
  await eventually(() => !agent.socket.connected)
  await api(net.url(0), `/sessions/${session}`, undefined, { method: 'DELETE', ...ann })
  await eventually(() => receiver.got.length > 0)
  await using admin = await openAdmin(readConfig({ REDIS_URL: redis.url, ...env }), 'test')
  await admin.act('key.created', 'key_1', async () => 'done')
  expect(await admin.trail(1)).toHaveLength(1)
  expect(await admin.parts.store.apiKeys.list(0)).toHaveLength(2)
  await revokeKey(stored, coder.id)
  await eventually(() => !moved.socket.connected)
  await net.replicas[0]!.drain()

  const refused = (await redis.root.call('ACL', 'LOG')) as unknown[]
  expect(refused).toEqual([])
  await redis.root.call('ACL', 'SETUSER', 'gateway', '+scan', '+unlink') // for the test's own tidying up
})

test.each([
  ['a command', ['-xautoclaim'], /xautoclaim/],
  ['what DURABILITY=safe needs', ['-wait'], /'wait'/],
  ['keys of BullMQ', ['resetkeys', '~acl-test:*'], /keys/],
  ['a channel', ['resetchannels', '&acl-test:*'], /channels/],
])('a replica does not start without the right to %s, and says so', async (_, change, says) => {
  await using redis = await restricted('acl-test:')
  await redis.root.call('ACL', 'SETUSER', 'gateway', ...change)
  const starting = startNetwork({ redisUrl: redis.url, env: { KEY_PREFIX: 'acl-test:', DURABILITY: 'safe' } })
  await expect(starting).rejects.toThrow(/refuses our user what a deployment needs/)
  await expect(starting).rejects.toThrow(says)
})

test('a user that lacks any one of them is noticed by trying, and trying does nothing', async () => {
  await using server = await startRedisServer()
  const root = new Redis(server.url)
  const keys = keysOf('p:')
  await root.call('ACL', 'SETUSER', 'gateway', '>hush', ...aclOf(keys))
  const user = new Redis(server.url.replace('//', '//gateway:hush@'))
  const tried = async () => {
    await user.call('MULTI')
    const answers: string[] = []
    for (const [name, args] of Object.entries(COMMANDS).filter(
      ([name]) => !['multi', 'exec', 'discard'].includes(name),
    ))
      answers.push(
        await user.call(...sampleOf(name, args, keys)).then(
          () => '',
          (err: Error) => `${name}: ${err.message}`,
        ),
      )
    await user.call('DISCARD')
    return answers.filter(Boolean)
  }
  expect(await tried()).toEqual([])
  await root.call('ACL', 'SETUSER', 'gateway', '-xautoclaim', '-spublish')
  expect(await tried()).toEqual([
    expect.stringMatching(/^spublish: NOPERM/) as string,
    expect.stringMatching(/^xautoclaim: NOPERM/) as string,
  ])
  expect(await root.dbsize()).toBe(0)
  root.disconnect()
  user.disconnect()
})
