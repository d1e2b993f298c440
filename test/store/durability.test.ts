import { ThroughlineError } from '../../src/protocol/errors.js'
import { newInteractionId, newSessionId } from '../../src/core/mint.js'
import { type Confirmation } from '../../src/store/durability.js'
import { connector } from '../../src/store/redis.js'
import { RedisRequired } from '../../src/store/redis-where.js'
import { requireDurability } from '../../src/store/require-durability.js'
import { eventually } from '../support/eventually.js'
import { ask, follows, startRedisServer, type RedisServer } from '../support/redis-server.js'
import { completed, openTestStore, quiet, sessionOf, text, type TestStore } from './open.js'

const LIMIT_MS = 700

let master: RedisServer
let replica: RedisServer
beforeAll(async () => {
  master = await startRedisServer()
  replica = await startRedisServer()
  await ask(replica, (it) => it.call('REPLICAOF', '127.0.0.1', master.port))
  await follows(replica)
}, 60_000)
afterAll(async () => {
  await replica?.stop()
  await master?.stop()
})

/** A store whose acknowledgements wait for replicas of `at`, by default the server that it writes to. */
async function safeStore(at = master, confirmation: Confirmation = { by: 'replicas', replicas: 1 }) {
  const connection = connector(at.url, 'waits', quiet)('durability')
  await eventually(() => connection.status === 'ready')
  const waits: boolean[] = []
  const waiting = { connection, confirmation, waited: (_: number, confirmed: boolean) => void waits.push(confirmed) }
  const store = await openTestStore({ url: master.url, redisDeadlineMs: LIMIT_MS, waiting })
  return {
    store,
    waits,
    async [Symbol.asyncDispose]() {
      connection.disconnect()
      await store[Symbol.asyncDispose]()
    },
  }
}

/** What is acknowledged, one after the other, and how each is answered: `safe`, or the code of the error. */
async function acknowledged(store: TestStore, turn: Awaited<ReturnType<TestStore['running']>>) {
  const of = async (work: Promise<void>) =>
    work.then(
      () => 'safe',
      (err: unknown) => (err instanceof ThroughlineError ? err.code : String(err)),
    )
  const { durability } = store
  const also = { lookAtMs: Date.now() + 60_000, newSession: true, reserved: 'key\nPOST\nk' }
  return {
    session: await of(durability.session('me', turn.session)),
    message: await of(durability.message('me', turn.id, also)),
    events: await of(durability.events(turn.request, 1)),
    end: await of(durability.end(turn.id)),
  }
}
const ALL = (answer: string) => ({ session: answer, message: answer, events: answer, end: answer })

async function aTurn(store: TestStore) {
  const turn = await store.running()
  await store.once.reserve('me', 'key\nPOST\nk', 'body', { session: turn.session, interaction: turn.id }, 60_000)
  await store.append(turn.request, turn.epoch, 1, [text('hi'), completed])
  return turn
}

test('with a replica that follows, everything is safe; while it is away nothing is, within the limit; then all is again', async () => {
  await using safe = await safeStore()
  const turn = await aTurn(safe.store)
  expect(await acknowledged(safe.store, turn)).toEqual(ALL('safe'))
  replica.freeze()
  const started = Date.now()
  expect(await acknowledged(safe.store, turn)).toEqual(ALL('not_durable')) // although nothing is written any more
  expect(Date.now() - started).toBeLessThan(4 * LIMIT_MS + 2000)
  expect(safe.waits).toEqual([...Array(4).fill(true), ...Array(4).fill(false)])
  replica.thaw()
  await eventually(async () => (await acknowledged(safe.store, turn)).end === 'safe', { limitMs: 10_000 })
  expect(await acknowledged(safe.store, turn)).toEqual(ALL('safe'))
})

test('without DURABILITY=safe nothing waits', async () => {
  await using store = await openTestStore({ url: master.url })
  const turn = await aTurn(store)
  replica.freeze()
  try {
    expect(await acknowledged(store, turn)).toEqual(ALL('safe'))
  } finally {
    replica.thaw()
  }
})

test('a server that lost the write in a failover confirms nothing, however many replicas it has', async () => {
  // the connection that waits is at another master already, which has a replica and not the data
  await using other = await startRedisServer()
  await using itsReplica = await startRedisServer()
  await ask(itsReplica, (it) => it.call('REPLICAOF', '127.0.0.1', other.port))
  await follows(itsReplica)
  await using safe = await safeStore(other)
  const turn = await aTurn(safe.store)
  const { end, ...rest } = await acknowledged(safe.store, turn)
  expect(rest).toEqual({ session: 'not_durable', message: 'not_durable', events: 'not_durable' })
  expect(end).toBe('safe') // a turn that is not there is no turn that ended otherwise
})

test('what an agent said is safe only as far as the log has it, and for the request that runs', async () => {
  await using safe = await safeStore()
  const { request, id } = await aTurn(safe.store)
  await safe.store.durability.events(request, 2)
  await expect(safe.store.durability.events(request, 3)).rejects.toThrow(ThroughlineError)
  await expect(safe.store.durability.events(`req_${id.slice(4)}_9`, 1)).rejects.toThrow(ThroughlineError)
  const session = await safe.store.session()
  const running = await safe.store.submit(session)
  await expect(safe.store.durability.end(running.id)).rejects.toThrow(ThroughlineError)
  await expect(safe.store.durability.message('me', newInteractionId(newSessionId()), NEW)).rejects.toThrow()
})
const NEW = { lookAtMs: 1, newSession: false, reserved: undefined }

test('a deadline that a failover took is written again', async () => {
  await using safe = await safeStore()
  const { store } = safe
  const { id } = await store.submit(await store.session())
  await store.durability.message('me', id, { ...NEW, lookAtMs: 77 })
  const due = store.keys.deadlines(store.keys.deadlineShard(sessionOf(id)))
  expect(await store.redis.zscore(due, id)).toBe('77')
})

test('many that wait at once share a few WAITs', async () => {
  await using safe = await safeStore()
  const turn = await aTurn(safe.store)
  const waits = () =>
    ask(master, async (it) => Number(/cmdstat_wait:calls=(\d+)/.exec(await it.info('commandstats'))?.[1] ?? 0))
  const before = await waits()
  await Promise.all(Array.from({ length: 300 }, () => safe.store.durability.events(turn.request, 2)))
  expect((await waits()) - before).toBeLessThan(30)
})

test('while one waits in vain, the connection of commands is free', async () => {
  await using safe = await safeStore()
  const turn = await aTurn(safe.store)
  replica.freeze()
  try {
    let over = false
    const waiting = safe.store.durability.end(turn.id).catch(() => (over = true))
    for (let i = 0; i < 50; i++) await safe.store.turns.read(turn.id)
    expect(over).toBe(false)
    await waiting
    expect(over).toBe(true)
  } finally {
    replica.thaw()
  }
})

describe('what must be there for DURABILITY=safe', () => {
  async function asked(server: RedisServer, replicas: number): Promise<unknown> {
    const redis = connector(server.url, 'r', quiet)('commands')
    try {
      await eventually(() => redis.status === 'ready')
      return await requireDurability(redis, server.url, { replicas }, 100)
    } catch (err) {
      expect(err).toBeInstanceOf(RedisRequired)
      return (err as Error).message
    } finally {
      redis.disconnect()
    }
  }

  test('replicas: as many as are asked for', async () => {
    expect(await asked(master, 1)).toEqual({ by: 'replicas', replicas: 1 })
    expect(await asked(master, 2)).toMatch(/has 1 connected replicas and DURABILITY_REPLICAS is 2: add replicas/)
  })

  test('none: an append-only file that is synced before an answer', async () => {
    await using alone = await startRedisServer()
    expect(await asked(alone, 0)).toMatch(/set appendonly yes and appendfsync always/)
    await ask(alone, (it) => it.config('SET', 'appendfsync', 'always'))
    expect(await asked(alone, 0)).toBe('always')
    await ask(alone, (it) => it.config('SET', 'appendonly', 'no'))
    expect(await asked(alone, 0)).toMatch(/set appendonly yes/)
  })
})
