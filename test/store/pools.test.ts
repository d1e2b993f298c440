import { newSessionId } from '../../src/core/mint.js'
import { eventually } from '../support/eventually.js'
import { openTestStore, type TestStore } from './open.js'

let store: TestStore
beforeEach(async () => void (store = await openTestStore()))
afterEach(() => store[Symbol.asyncDispose]())

const sessions = (count: number) => Array.from({ length: count }, () => newSessionId())
const present = (agent: string, nowMs = Date.now(), pool = 'coder') =>
  store.pools.present(pool, agent, { connection: `c-${agent}` }, nowMs)

test('many who claim at once get each session exactly once, and never more than they asked for', async () => {
  const waiting = sessions(200)
  await Promise.all(waiting.map((session, i) => store.pools.pend('coder', session, i, '')))
  const taken = await Promise.all(
    Array.from({ length: 60 }, (_, i) => store.pools.claim('coder', `a${i}`, 1 + (i % 7))),
  )
  taken.forEach((some, i) => expect(some.length).toBeLessThanOrEqual(1 + (i % 7)))
  const all = taken.flat()
  expect(all).toHaveLength(200)
  expect(new Set(all)).toEqual(new Set(waiting))
  expect(await store.pools.claim('coder', 'late', 10)).toEqual([])
})

test('also when some wait for one agent and are put in line again while others claim', async () => {
  const waiting = sessions(100)
  const own = waiting.slice(0, 50)
  await present('one')
  for (const session of own) await store.pools.pend('coder', session, 1, 'one')
  for (const session of waiting.slice(50)) await store.pools.pend('coder', session, 2, '')
  const taken = await Promise.all([
    ...Array.from({ length: 30 }, () => store.pools.claim('coder', 'one', 2)),
    store.pools.giveBack('coder', 'one'),
    ...Array.from({ length: 30 }, (_, i) => store.pools.claim('coder', `a${i}`, 3)),
  ])
  const all = taken.flatMap((some) => some ?? [])
  expect(all).toHaveLength(new Set(all).size)
  expect(new Set(all)).toEqual(new Set(waiting))
})

test('who came first is served first, whatever was put in line again meanwhile', async () => {
  const [a, b, c] = sessions(3) as [`ses_${string}`, `ses_${string}`, `ses_${string}`]
  await store.pools.pend('coder', b, 2, '')
  await store.pools.pend('coder', c, 3, '')
  await store.pools.pend('coder', a, 1, '')
  await store.pools.pend('coder', a, 9, '')
  expect(await store.pools.claim('coder', 'one', 2)).toEqual([a, b])
  expect(await store.pools.claim('coder', 'one', 2)).toEqual([c])
})

test('a session waits for the agent that has its thread while that one is present, and it takes those first', async () => {
  const [sticky, other] = sessions(2) as [`ses_${string}`, `ses_${string}`]
  await present('one')
  expect(await store.pools.pend('coder', other, 1, 'away')).toBe('')
  expect(await store.pools.pend('coder', sticky, 2, 'one')).toBe('one')
  expect(await store.pools.claim('coder', 'two', 1)).toEqual([other])
  expect(await store.pools.claim('coder', 'two', 1)).toEqual([])
  await store.pools.pend('coder', other, 1, '')
  expect(await store.pools.claim('coder', 'one', 2)).toEqual([sticky, other])
})

test('a session that stands in both lines is given once', async () => {
  const [session] = sessions(1) as [`ses_${string}`]
  await present('one')
  await store.pools.pend('coder', session, 1, 'one')
  await store.pools.pend('coder', session, 2, '')
  expect(await store.pools.claim('coder', 'one', 5)).toEqual([session])
  expect(await store.pools.claim('coder', 'two', 5)).toEqual([])
})

test('the line of an agent that is gone goes back to its pool, in the same order', async () => {
  const [a, b] = sessions(2) as [`ses_${string}`, `ses_${string}`]
  await present('one')
  await store.pools.pend('coder', b, 2, '')
  await store.pools.pend('coder', a, 1, 'one')
  await store.pools.giveBack('coder', 'one')
  await store.pools.giveBack('coder', 'one')
  expect(await store.pools.claim('coder', 'two', 5)).toEqual([a, b])
})

test('what an agent was given is found under its name, until it gives it up', async () => {
  const given = sessions(2)
  for (const session of given) await store.pools.pend('coder', session, 1, '')
  await store.pools.claim('coder', 'one', 5)
  expect((await store.pools.sessionsOf('coder', 'one')).sort()).toEqual([...given].sort())
  await store.pools.gaveUp('coder', 'one', given[0]!)
  expect(await store.pools.sessionsOf('coder', 'one')).toEqual([given[1]])
})

test('putting in line and giving back wake everybody who has agents of the pool', async () => {
  let wakes = 0
  using _ = await store.bus.listen(store.keys.poolWake('coder'), { message: () => wakes++, look: () => {} })
  await store.pools.pend('coder', newSessionId(), 1, '')
  await eventually(() => wakes === 1)
  await store.pools.giveBack('coder', 'one')
  await store.pools.wake('coder')
  await eventually(() => wakes === 3)
})

test('the entry of an agent goes with its own connection, not with an older one', async () => {
  await present('one')
  await store.pools.absent('coder', 'one', 'c-before')
  expect(await store.pools.pend('coder', newSessionId(), 1, 'one')).toBe('one')
  await store.pools.absent('coder', 'one', 'c-one')
  expect(await store.pools.pend('coder', newSessionId(), 1, 'one')).toBe('')
})

test('a pool is known from its first agent on, and forgotten a day after the last one, though other pools live', async () => {
  const now = Date.now()
  const dayMs = 24 * 3600_000
  await present('one', now - 2 * dayMs, 'old')
  await present('one', now - dayMs - 1000, 'tired')
  await present('one', now - dayMs - 1000, 'coder')
  await present('two', now, 'coder')
  expect(await store.pools.known()).toEqual([{ name: 'coder', createdAt: now - dayMs - 1000 }])
  await present('one', now, 'old')
  expect((await store.pools.known()).map((pool) => pool.name).sort()).toEqual(['coder', 'old'])
})

test('every line, entry and set has a TTL', async () => {
  await present('one')
  await store.pools.pend('coder', newSessionId(), 1, '')
  await store.pools.pend('coder', newSessionId(), 1, 'one')
  await store.pools.took('coder', 'one', sessions(2))
  await store.pools.claim('coder', 'two', 1)
  await store.pools.giveBack('coder', 'one')
  expect(await store.immortal()).toEqual([])
})
