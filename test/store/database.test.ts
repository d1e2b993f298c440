import { ThroughlineError } from '../../src/protocol/errors.js'
import { newSessionId } from '../../src/core/mint.js'
import { connector, isUnavailable } from '../../src/store/redis.js'
import { requireRedis } from '../../src/store/require-redis.js'
import { eventually } from '../support/eventually.js'
import { startRedisServer } from '../support/redis-server.js'
import { openTestStore, quiet, type TestStore } from './open.js'

/** What a single command, a transaction and a script are answered. */
async function answers(store: TestStore) {
  const id = newSessionId()
  const work = {
    command: () => store.once.remember('me', 'x', { session: id, interaction: 'i' }, 1000),
    transaction: () => store.sessions.create({ id, owner: 'me', pool: 'p', title: '', metadata: {}, nowMs: 1 }),
    script: async () => store.submit(await existing),
  }
  const of = async (run: () => Promise<unknown>) =>
    run().then(
      () => 'done',
      (err: unknown) => (isUnavailable(err) ? 'unavailable' : `bug: ${String(err)}`),
    )
  return { command: await of(work.command), transaction: await of(work.transaction), script: await of(work.script) }
}
let existing: Promise<`ses_${string}`>

const ALL_UNAVAILABLE = { command: 'unavailable', transaction: 'unavailable', script: 'unavailable' }
const ALL_DONE = { command: 'done', transaction: 'done', script: 'done' }

test.each([
  ['a server that became a replica in a failover', ['REPLICAOF', '127.0.0.1', '1'], ['REPLICAOF', 'NO', 'ONE']],
  [
    'a replica that lost its master and serves nothing',
    ['CONFIG', 'SET', 'replica-serve-stale-data', 'no'],
    ['REPLICAOF', 'NO', 'ONE'],
  ],
  ['a server without memory', ['CONFIG', 'SET', 'maxmemory', '1'], ['CONFIG', 'SET', 'maxmemory', '0']],
  [
    'a master without its replicas',
    ['CONFIG', 'SET', 'min-replicas-to-write', '1'],
    ['CONFIG', 'SET', 'min-replicas-to-write', '0'],
  ],
])('%s is an outage for a command, a transaction and a script alike, and passes', async (what, cause, cure) => {
  await using server = await startRedisServer()
  await using store = await openTestStore({ url: server.url })
  existing = store.session()
  await existing
  expect(await answers(store)).toEqual(ALL_DONE)
  if (what.includes('serves nothing')) await store.redis.call('REPLICAOF', '127.0.0.1', '1')
  await store.redis.call(...(cause as [string, ...string[]]))
  expect(await answers(store)).toEqual(ALL_UNAVAILABLE)
  await store.redis.call(...(cure as [string, ...string[]]))
  expect(await answers(store)).toEqual(ALL_DONE)
})

test('while Redis is gone a call is answered in time, and when it is back the next one works', async () => {
  await using server = await startRedisServer()
  await using store = await openTestStore({ url: server.url, redisDeadlineMs: 300 })
  existing = store.session()
  await existing
  await server.kill9()
  const started = Date.now()
  await expect(store.sessions.read(await existing)).rejects.toThrow(ThroughlineError)
  expect(Date.now() - started).toBeLessThan(2000)
  expect(await answers(store)).toEqual(ALL_UNAVAILABLE)
  await server.restart()
  await eventually(async () => (await answers(store)).script === 'done', { limitMs: 10_000 })
  expect(await answers(store)).toEqual(ALL_DONE)
})

test('while Redis hangs a call is answered in time', async () => {
  await using server = await startRedisServer()
  await using store = await openTestStore({ url: server.url, redisDeadlineMs: 200 })
  existing = store.session()
  await existing
  process.kill(server.pid, 'SIGSTOP')
  try {
    expect(await answers(store)).toEqual(ALL_UNAVAILABLE)
  } finally {
    process.kill(server.pid, 'SIGCONT')
  }
  await eventually(async () => (await answers(store)).command === 'done')
})

test('a mistake of ours is no outage', async () => {
  await using store = await openTestStore()
  const wrong = store.db.run((redis) => redis.call('HSET', `${store.prefix}x`) as Promise<unknown>)
  await expect(wrong).rejects.toThrow(/wrong number of arguments/)
  await expect(wrong).rejects.not.toThrow(ThroughlineError)
  const inTransaction = store.db.run(
    (redis) => redis.multi().call('HSET', `${store.prefix}x`).exec() as Promise<unknown>,
  )
  await expect(inTransaction).rejects.toThrow(/EXECABORT/)
  await expect(inTransaction).rejects.not.toThrow(ThroughlineError)
})

test('scripts work again after Redis has forgotten them', async () => {
  await using server = await startRedisServer()
  await using store = await openTestStore({ url: server.url })
  const session = await store.session()
  await store.submit(session)
  await store.redis.script('FLUSH')
  expect(await store.submit(session)).toMatchObject({ word: 'ok', position: 1 })
})

describe('what a replica requires of its Redis', () => {
  test('one that evicts keys is warned about, not refused', async () => {
    await using server = await startRedisServer({ args: ['--maxmemory-policy', 'allkeys-lru'] })
    const warnings: object[] = []
    const redis = connector(server.url, 'r', quiet)('commands')
    await requireRedis(redis, server.url, { info: () => {}, warn: (fields) => void warnings.push(fields) })
    expect(warnings).toEqual([{ node: `127.0.0.1:${server.port}`, policy: 'allkeys-lru' }])
    redis.disconnect()
  })

  test.each(['http://127.0.0.1', 'redis://', '', 'redis+x://127.0.0.1:1'])('%j is no address of a Redis', (url) => {
    expect(() => connector(url, 'r', quiet)('commands')).toThrow(/REDIS_URL must look like/)
  })
})
