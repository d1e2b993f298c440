import { newInteractionId, newSessionId } from '../../src/core/mint.js'
import { DEADLINE_SHARDS } from '../../src/store/keys.js'
import { byNewest, cursorOf } from '../../src/store/newest-first.js'
import { openTestStore, SETTINGS, type TestStore } from './open.js'

let store: TestStore
beforeEach(async () => void (store = await openTestStore()))
afterEach(() => store[Symbol.asyncDispose]())

const ids = () => {
  const session = newSessionId()
  return { session, interaction: newInteractionId(session) }
}

describe('once', () => {
  test('of many POSTs with the same key at the same time one is the first, and all use its ids', async () => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => store.once.reserve('me', 'key', 'body', ids(), 10_000)),
    )
    const [first, ...others] = answers.filter((it) => it.word === 'first')
    expect(others).toEqual([])
    for (const answer of answers) expect(answer).toMatchObject({ ids: (first as { ids: object }).ids })
  })

  test('another body under the same key is told apart; another owner or name is another key', async () => {
    const mine = ids()
    expect(await store.once.reserve('me', 'key', 'body', mine, 10_000)).toEqual({ word: 'first', ids: mine })
    expect(await store.once.reserve('me', 'key', 'other', ids(), 10_000)).toEqual({ word: 'other' })
    expect(await store.once.reserve('me', 'key', 'body', ids(), 10_000)).toEqual({ word: 'again', ids: mine })
    expect(await store.once.reserve('you', 'key', 'body', ids(), 10_000)).toMatchObject({ word: 'first' })
    expect(await store.once.reserve('me', 'key2', 'other', ids(), 10_000)).toMatchObject({ word: 'first' })
  })

  test('a POST that was refused frees its key', async () => {
    await store.once.reserve('me', 'key', 'body', ids(), 10_000)
    await store.once.release('me', 'key')
    expect(await store.once.reserve('me', 'key', 'other', ids(), 10_000)).toMatchObject({ word: 'first' })
  })

  test('what a POST without a key says is remembered, the last one counts, and all of it fades', async () => {
    expect(await store.once.recall('me', 'print')).toBeUndefined()
    const [before, last] = [ids(), ids()]
    await store.once.remember('me', 'print', before, 10_000)
    await store.once.remember('me', 'print', last, 10_000)
    expect(await store.once.recall('me', 'print')).toEqual(last)
    await store.once.reserve('me', 'key', 'body', ids(), 10_000)
    expect(await store.immortal()).toEqual([])
  })

  test('no text of a client stands in a key', async () => {
    await store.once.reserve('alice@example.org', 'key\nsecret', 'body', ids(), 10_000)
    for (const key of await store.redis.keys(`${store.prefix}*`)) expect(key).not.toMatch(/alice|secret/)
  })
})

describe('deadlines', () => {
  const due = async (nowMs: number) =>
    (await Promise.all(store.deadlines.shards.map((shard) => store.deadlines.due(shard, nowMs, 100)))).flat()

  test('what is due is found, the longest overdue first, and no more than asked for', async () => {
    const session = newSessionId()
    const [a, b, c] = [newInteractionId(session), newInteractionId(session), newInteractionId(session)]
    await store.deadlines.look(a, 300)
    await store.deadlines.look(b, 100)
    await store.deadlines.look(c, 900)
    const shard = store.keys.deadlineShard(session)
    expect(await store.deadlines.due(shard, 500, 10)).toEqual([b, a])
    expect(await store.deadlines.due(shard, 500, 1)).toEqual([b])
    await store.deadlines.drop(b)
    expect(await due(1000)).toEqual([a, c])
  })

  test('set moves a deadline either way, sooner only forward, and sooner of an unknown one sets it', async () => {
    const { interaction } = ids()
    await store.deadlines.look(interaction, 500, 'sooner')
    await store.deadlines.look(interaction, 900, 'sooner')
    expect(await due(499)).toEqual([])
    expect(await due(500)).toEqual([interaction])
    await store.deadlines.look(interaction, 900)
    expect(await due(899)).toEqual([])
    await store.deadlines.look(interaction, 100, 'sooner')
    expect(await due(100)).toEqual([interaction])
    expect(await store.immortal()).toEqual([])
  })

  test('all sessions are listed by their last activity, page by page, over all owners and shards', async () => {
    const made = Array.from({ length: 40 }, (_, i) => ({ ...ids(), owner: `o${i % 3}`, at: 1000 + Math.floor(i / 2) }))
    for (const { session, owner, at } of made)
      await store.sessions.create({ id: session, owner, pool: 'coder', title: '', metadata: {}, nowMs: at })
    const page = await store.overview.sessions(7)
    const all = [...page]
    for (let last = page; last.length === 7;) {
      last = await store.overview.sessions(7, cursorOf(last.at(-1)!))
      all.push(...last)
    }
    expect(all).toEqual(made.map(({ session, at }) => ({ id: session, at })).sort(byNewest))

    const active = made[3]!
    await store.deadlines.enlist(active.interaction, 0, 5000)
    expect(await store.overview.sessions(1)).toEqual([{ id: active.session, at: 5000 }])
    await store.deadlines.settle(active.interaction, 4000) // it has heard of something later
    expect(await store.overview.sessions(1)).toEqual([{ id: active.session, at: 5000 }])
    await store.sessions.unlist(active.owner, active.session)
    await store.deadlines.settle(active.interaction, 9000)
    expect((await store.overview.sessions(100)).map(({ id }) => id)).not.toContain(active.session)
    expect(await store.immortal()).toEqual([])
  })

  test('a turn is in flight until it is settled, then among the ended, of which a shard keeps a thousand', async () => {
    const { interaction, session } = ids()
    await store.deadlines.enlist(interaction, 700, 100)
    expect(await store.overview.inFlight()).toEqual({ turns: [{ id: interaction, lookAt: 700 }], all: true })
    expect(await store.overview.lookAt(interaction)).toBe(700)
    await store.deadlines.settle(interaction, 900)
    expect(await store.overview.inFlight()).toEqual({ turns: [], all: true })
    expect(await store.overview.ended(10)).toEqual([{ id: interaction, at: 900 }])
    for (let i = 0; i < 1000; i++) await store.deadlines.settle(newInteractionId(session), 1000 + i)
    expect((await store.overview.ended(2000)).map(({ at }) => at)).toEqual(
      Array.from({ length: 1000 }, (_, i) => 1999 - i),
    )
    expect(await store.immortal()).toEqual([])
  })

  test('sessions that nobody can still have are trimmed as new ones come', async () => {
    const session = newSessionId()
    const key = store.keys.recent(store.keys.deadlineShard(session))
    await store.redis.zadd(key, 1, 'ses_old')
    const nowMs = 1 + 2 * SETTINGS.sessionTtlMs
    await store.sessions.create({ id: session, owner: 'o', pool: '', title: '', metadata: {}, nowMs })
    expect(await store.redis.zrange(key, '0', '-1')).toEqual([session])
  })

  test('sessions spread over all shards, each always to the same', () => {
    const some = Array.from({ length: 2000 }, () => newSessionId())
    const shards = some.map((session) => store.keys.deadlineShard(session))
    expect(new Set(shards).size).toBe(DEADLINE_SHARDS)
    expect(some.map((session) => store.keys.deadlineShard(session))).toEqual(shards)
  })
})

describe('threads', () => {
  test('a thread leads to its session, within its pool, until it is cleared', async () => {
    const session = newSessionId()
    await store.threads.bind('coder', 'T-1', session)
    expect(await store.threads.session('coder', 'T-1')).toBe(session)
    expect(await store.threads.session('other', 'T-1')).toBeUndefined()
    expect(await store.immortal()).toEqual([])
    const other = newSessionId()
    await store.threads.bind('coder', 'T-1', other) // the agent of another session names it, and forgets it
    await store.threads.clear('coder', 'T-1', other)
    expect(await store.threads.session('coder', 'T-1')).toBe(session)
    await store.threads.clear('coder', 'T-1', session)
    expect(await store.threads.session('coder', 'T-1')).toBeUndefined()
  })
})

describe('sessions', () => {
  test('an owner finds its own, newest first, page by page', async () => {
    const mine = Array.from({ length: 5 }, () => newSessionId())
    for (const [i, id] of mine.entries())
      await store.sessions.create({ id, owner: 'me', pool: 'coder', title: '', metadata: {}, nowMs: 1000 + i })
    await store.session().then(() => {})
    const first = await store.sessions.list('me', 3, '(2000')
    expect(first.map((it) => it.id)).toEqual([mine[4], mine[3], mine[2]])
    expect((await store.sessions.list('me', 3, `(${first[2]!.createdAt}`)).map((it) => it.id)).toEqual([
      mine[1],
      mine[0],
    ])
    expect(await store.sessions.list('you', 3, '+inf')).toEqual([])
    await store.sessions.unlist('me', mine[4]!)
    expect((await store.sessions.list('me', 1, '(2000')).map((it) => it.id)).toEqual([mine[3]])
  })

  test('one that is created by many at once is as the first one made it', async () => {
    const id = newSessionId()
    await Promise.all(
      Array.from({ length: 10 }, (_, i) =>
        store.sessions.create({ id, owner: 'me', pool: 'coder', title: `t${i}`, metadata: { i: String(i) }, nowMs: i }),
      ),
    )
    const { title, metadata, createdAt } = (await store.sessions.read(id))!
    expect([`t${createdAt}`, { i: String(createdAt) }]).toEqual([title, metadata])
  })
})

describe('replicas', () => {
  const report = {
    id: 'r1',
    version: '1',
    startedAt: 1,
    draining: false,
    agents: 0,
    sessions: 0,
    viewers: 0,
    clockAheadMs: 0,
  }

  test('one that stopped beating is removed, one that left is gone at once', async () => {
    const now = Date.now()
    await store.replicas.beat(report, now - 60_000)
    await store.replicas.beat({ ...report, id: 'r2' }, now)
    expect(await store.replicas.removeDead(now)).toEqual(['r1'])
    expect(await store.replicas.removeDead(now)).toEqual([])
    await store.replicas.leave('r2')
    expect(await store.redis.exists(store.keys.replica('r2'), store.keys.replicas)).toBe(0)
  })

  test('one at a time may sweep, and the notes of the last sweep are found by all', async () => {
    const tries = await Promise.all(Array.from({ length: 10 }, () => store.replicas.lockSweep(5000)))
    expect(tries.filter(Boolean)).toHaveLength(1)
    await store.replicas.noteSweep({ last: 7, awayUntil: 5, awayForMs: 3 }, 10_000)
    expect(await store.replicas.sweepNotes()).toEqual({ last: 7, awayUntil: 5, awayForMs: 3 })
    await store.replicas.noteSweep({ last: 9 }, 10_000)
    expect(await store.replicas.sweepNotes()).toEqual({ last: 9, awayUntil: 5, awayForMs: 3 })
    expect(await store.immortal()).toEqual([])
    await store.replicas.unlockSweep()
    expect(await store.replicas.lockSweep(5000)).toBe(true)
  })

  test('their clock is that of Redis', async () => {
    const [seconds] = await store.redis.time()
    expect(Math.abs((await store.replicas.now()) - Number(seconds) * 1000)).toBeLessThan(2000)
  })
})
