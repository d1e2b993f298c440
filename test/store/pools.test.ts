import { newSessionId } from '../../src/core/mint.js'
import type { SessionId } from '../../src/protocol/ids.js'
import { eventually } from '../support/eventually.js'
import { openTestStore, type TestStore } from './open.js'

let store: TestStore
beforeEach(async () => void (store = await openTestStore()))
afterEach(() => store[Symbol.asyncDispose]())

const sessions = (count: number) => Array.from({ length: count }, () => newSessionId())
const present = (agent: string, nowMs = Date.now(), pool = 'coder', capacity = 1) =>
  store.pools.present(pool, { agent, connection: `c-${agent}`, since: nowMs, how: 'arrives' }, { capacity }, nowMs)
const claim = (agent: string, most: number) => store.pools.claim('coder', agent, `c-${agent}`, most)
const pend = (session: SessionId, since: number, sticky = '') =>
  store.pools.pend('coder', session, since, { agent: sticky, wait: sticky !== '' })
const lineOf = async (session: SessionId, since: number, sticky: string) => (await pend(session, since, sticky)).line

test('many who claim at once get each session exactly once, and never more than they asked for', async () => {
  const waiting = sessions(200)
  await Promise.all(waiting.map((session, i) => pend(session, i)))
  const taken = await Promise.all(Array.from({ length: 60 }, (_, i) => claim(`a${i}`, 1 + (i % 7))))
  taken.forEach((some, i) => expect(some.length).toBeLessThanOrEqual(1 + (i % 7)))
  const all = taken.flat()
  expect(all).toHaveLength(200)
  expect(new Set(all)).toEqual(new Set(waiting))
  expect(await claim('late', 10)).toEqual([])
})

test('also when some wait for one agent and are put in line again while others claim', async () => {
  const waiting = sessions(100)
  const own = waiting.slice(0, 50)
  await present('one')
  for (const session of own) await pend(session, 1, 'one')
  for (const session of waiting.slice(50)) await pend(session, 2)
  const taken = await Promise.all([
    ...Array.from({ length: 30 }, () => claim('one', 2)),
    store.pools.giveBack('coder', 'one'),
    ...Array.from({ length: 30 }, (_, i) => claim(`a${i}`, 3)),
  ])
  const all = taken.flatMap((some) => some ?? [])
  expect(all).toHaveLength(new Set(all).size)
  expect(new Set(all)).toEqual(new Set(waiting))
})

test('who came first is served first, whatever was put in line again meanwhile', async () => {
  const [a, b, c] = sessions(3) as [`ses_${string}`, `ses_${string}`, `ses_${string}`]
  await pend(b, 2)
  await pend(c, 3)
  await pend(a, 1)
  await pend(a, 9)
  expect(await claim('one', 2)).toEqual([a, b])
  expect(await claim('one', 2)).toEqual([c])
})

test('a session waits for the agent that has its thread while that one is present', async () => {
  const [sticky, other] = sessions(2) as [`ses_${string}`, `ses_${string}`]
  await present('one')
  expect(await lineOf(other, 1, 'away')).toBe('pool')
  expect(await lineOf(sticky, 2, 'one')).toBe('own')
  expect(await claim('two', 1)).toEqual([other])
  expect(await claim('two', 1)).toEqual([])
  expect(await claim('one', 2)).toEqual([sticky])
})

test('neither line starves the other: an agent takes whoever waits longest, for it or for any', async () => {
  const [a, b, c, d] = sessions(4) as [SessionId, SessionId, SessionId, SessionId]
  await present('one')
  await pend(b, 2)
  await pend(d, 4)
  await pend(c, 3, 'one')
  await pend(a, 1, 'one')
  expect(await claim('one', 3)).toEqual([a, b, c])
  expect(await claim('one', 3)).toEqual([d])
})

test('who has waited long enough for one agent waits for any, in the place of its first time', async () => {
  const [mine, later] = sessions(2) as [SessionId, SessionId]
  await present('one')
  await pend(mine, 1, 'one')
  await pend(later, 2)
  const over = { agent: 'one', wait: false }
  expect(await store.pools.pend('coder', mine, 1, over)).toMatchObject({ line: 'pool', position: 1, waiting: 2 })
  expect(await lineOf(mine, 1, 'one')).toBe('pool') // and not back again
  expect(await claim('two', 1)).toEqual([mine])
  expect(await claim('one', 5)).toEqual([later]) // its own line does not give what another has
})

test('an agent that takes nothing new is not waited for', async () => {
  await present('one', Date.now(), 'coder', 0)
  expect(await lineOf(newSessionId(), 1, 'one')).toBe('pool')
})

test('who puts in line learns the place, how many places are free for it, and how many agents are here', async () => {
  const [a, b, c] = sessions(3) as [SessionId, SessionId, SessionId]
  expect(await pend(a, 1)).toEqual({ line: 'pool', position: 1, free: 0, agents: 0, waiting: 1 })
  await present('one', Date.now(), 'coder', 2)
  expect(await pend(b, 2)).toEqual({ line: 'pool', position: 2, free: 2, agents: 1, waiting: 2 })
  await claim('one', 1)
  expect(await pend(b, 2)).toMatchObject({ position: 1, free: 1 })
  expect(await pend(c, 3, 'one')).toEqual({ line: 'own', position: 1, free: 1, agents: 1, waiting: 1 })
  await claim('one', 1)
  expect(await pend(c, 3, 'one')).toMatchObject({ position: 1, free: 0 })
})

test('who needs no agent any more stands in no line', async () => {
  const [a, b] = sessions(2) as [SessionId, SessionId]
  await present('one')
  await pend(a, 1)
  await pend(b, 2, 'one')
  await store.pools.withdraw('coder', a, '')
  await store.pools.withdraw('coder', b, 'one')
  expect(await claim('one', 5)).toEqual([])
})

test('an agent that has come again by a newer connection gets nothing by the older one', async () => {
  const here = (connection: string, since: number, how: 'arrives' | 'stays') =>
    store.pools.present('coder', { agent: 'one', connection, since, how }, { capacity: 1 }, Date.now())
  await here('old', 2, 'arrives')
  await here('new', 3, 'arrives')
  await here('old', 2, 'stays')
  await here('oldest', 1, 'arrives') // its welcome took longer
  const session = newSessionId()
  await pend(session, 1)
  expect(await store.pools.claim('coder', 'one', 'old', 1)).toEqual([])
  expect(await store.pools.claim('coder', 'one', 'new', 1)).toEqual([session])
  expect(await store.pools.absent('coder', 'one', 'old')).toBe(false)
  expect(await store.pools.absent('coder', 'one', 'new')).toBe(true)
})

test('a session that stands in both lines is given once', async () => {
  const [session] = sessions(1) as [`ses_${string}`]
  await present('one')
  await pend(session, 1, 'one')
  await pend(session, 2)
  expect(await claim('one', 5)).toEqual([session])
  expect(await claim('two', 5)).toEqual([])
})

test('the line of an agent that is gone goes back to its pool, in the same order', async () => {
  const [a, b] = sessions(2) as [`ses_${string}`, `ses_${string}`]
  await present('one')
  await pend(b, 2)
  await pend(a, 1, 'one')
  await store.pools.giveBack('coder', 'one')
  await store.pools.giveBack('coder', 'one')
  expect(await claim('two', 5)).toEqual([a, b])
})

test('what an agent was given is found under its name, until it gives it up', async () => {
  const given = sessions(2)
  for (const session of given) await pend(session, 1)
  await claim('one', 5)
  expect((await store.pools.sessionsOf('coder', 'one')).sort()).toEqual([...given].sort())
  await store.pools.gaveUp('coder', 'one', given[0]!)
  expect(await store.pools.sessionsOf('coder', 'one')).toEqual([given[1]])
})

test('putting in line and giving back wake everybody who has agents of the pool', async () => {
  let wakes = 0
  using _ = await store.bus.listen(store.keys.poolWake('coder'), { message: () => wakes++, look: () => {} })
  await pend(newSessionId(), 1)
  await eventually(() => wakes === 1)
  await store.pools.giveBack('coder', 'one')
  await store.pools.wake('coder')
  await eventually(() => wakes === 3)
})

test('the entry of an agent goes with its own connection, not with an older one', async () => {
  await present('one')
  await store.pools.absent('coder', 'one', 'c-before')
  expect(await lineOf(newSessionId(), 1, 'one')).toBe('own')
  await store.pools.absent('coder', 'one', 'c-one')
  expect(await lineOf(newSessionId(), 1, 'one')).toBe('pool')
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
  await pend(newSessionId(), 1)
  await pend(newSessionId(), 1, 'one')
  await store.pools.took('coder', 'one', sessions(2))
  await claim('two', 1)
  await store.pools.giveBack('coder', 'one')
  expect(await store.immortal()).toEqual([])
})

test('an agent that has come by a newer connection stays here when its old one goes at the same moment', async () => {
  await present('one')
  const gone = store.pools.absent('coder', 'one', 'c-one')
  const came = store.pools.present(
    'coder',
    { agent: 'one', connection: 'c-newer', since: Date.now() + 1, how: 'arrives' },
    { capacity: 1 },
    Date.now(),
  )
  expect(await gone).toBe(true)
  await came
  expect(await store.pools.agent('coder', 'one')).toMatchObject({ connection: 'c-newer' })
  expect(await store.pools.agentCount('coder', Date.now())).toBe(1)
  expect(await store.pools.absent('coder', 'one', 'c-one')).toBe(false)
  expect(await store.pools.agentCount('coder', Date.now())).toBe(1)
})

test('who wakes the holder of a session hears whether any replica that holds it is alive', async () => {
  const session = newSessionId()
  expect(await store.sessions.wake(session)).toBe(0)
  using _ = await store.bus.listen(store.keys.wake(session), { message: () => {}, look: () => {} })
  expect(await store.sessions.wake(session)).toBe(1)
})
