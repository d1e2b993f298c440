import { newInteractionId, newSessionId } from '../../src/core/mint.js'
import type { InteractionId } from '../../src/protocol/ids.js'
import { eventually } from '../support/eventually.js'
import { completed, inFlight, openTestStore, text, type TestStore } from './open.js'

let store: TestStore
beforeAll(async () => void (store = await openTestStore()))
afterAll(() => store[Symbol.asyncDispose]())

test('the first message has its turn at once, the next ones wait in the order in which they came', async () => {
  const session = await store.session()
  const [a, b, c] = [await store.submit(session), await store.submit(session), await store.submit(session)]
  expect([a, b, c].map((it) => it.position)).toEqual([0, 1, 2])
  expect(await store.sessions.queue(session)).toEqual([b.id, c.id])
  expect(await store.sessions.interactions(session)).toEqual([a.id, b.id, c.id])
  expect(await inFlight(store, session)).toEqual({ waitingInteractionId: a.id, lastRequestId: '', started: true })
  expect((await store.turns.readMany([a.id, b.id, c.id])).map((it) => it.status)).toEqual([
    'waiting',
    'queued',
    'queued',
  ])
  expect((await store.events(c.id))[0]).toMatchObject({ type: 'submitted', queued: 2 })
})

test('the same message again changes nothing, and says where it stands now', async () => {
  const session = await store.session()
  const a = await store.submit(session)
  const b = await store.submit(session)
  const c = await store.submit(session)
  const before = await store.turns.readMany([a.id, b.id, c.id])
  expect(await store.submit(session, { interaction: c.id })).toMatchObject({ word: 'known', position: 2 })
  expect(await store.submit(session, { interaction: a.id })).toMatchObject({ word: 'known', position: 0 })
  expect(await store.turns.readMany([a.id, b.id, c.id])).toEqual(before)
  await store.turns.cancel(b.id, 'cancelled')
  expect(await store.submit(session, { interaction: c.id })).toMatchObject({ word: 'known', position: 1 })
  await store.turns.cancel(a.id, 'cancelled')
  expect(await store.submit(session, { interaction: a.id })).toMatchObject({ word: 'known', position: 0 })
  expect(await store.turns.read(a.id)).toMatchObject({ status: 'cancelled' })
})

test('ten of the same message at the same time are one message', async () => {
  const session = await store.session()
  const interaction = newInteractionId(session)
  const answers = await Promise.all(Array.from({ length: 10 }, () => store.submit(session, { interaction })))
  expect(answers.map((it) => it.word).sort()).toEqual([...Array(9).fill('known'), 'ok'])
  expect(await store.sessions.interactions(session)).toEqual([interaction])
  expect(await store.events(interaction)).toHaveLength(1)
})

test('a turn that ends gives its place to the next in line, whose log says that it has started', async () => {
  const { session, id, epoch, request } = await store.running()
  const b = await store.submit(session)
  const c = await store.submit(session)
  expect((await store.folded(b.id)).status).toBe('queued')
  await store.append(request, epoch, 1, [text('to a'), completed])
  expect(await inFlight(store, session)).toEqual({ waitingInteractionId: b.id, lastRequestId: '', started: true })
  expect(await store.sessions.queue(session)).toEqual([c.id])
  for (const turn of [id, b.id, c.id])
    expect((await store.folded(turn)).status).toBe((await store.turns.read(turn))!.status)
  expect((await store.events(b.id)).map((e) => e.type)).toEqual(['submitted', 'started'])
})

test('one message more than may wait is refused and leaves no trace', async () => {
  const session = await store.session()
  await store.submit(session, { queueLimit: 1 })
  await store.submit(session, { queueLimit: 1 })
  const refused = await store.submit(session, { queueLimit: 1 })
  expect(refused.word).toBe('full')
  expect(await store.turns.read(refused.id)).toBeUndefined()
  expect(await store.redis.exists(store.keys.log(refused.id))).toBe(0)
  expect(await store.sessions.interactions(session)).toHaveLength(2)
  const alone = await store.session()
  expect(await store.submit(alone, { queueLimit: 0 })).toMatchObject({ word: 'ok', position: 0 })
  expect(await store.submit(alone, { queueLimit: 0 })).toMatchObject({ word: 'full' })
})

test('a known message is answered even when the queue is full', async () => {
  const session = await store.session()
  await store.submit(session)
  const b = await store.submit(session, { queueLimit: 1 })
  expect(await store.submit(session, { interaction: b.id, queueLimit: 1 })).toMatchObject({
    word: 'known',
    position: 1,
  })
})

test('an interrupt ends the turn in flight and goes before all that wait, even when the queue is full', async () => {
  const { session, id, epoch, request } = await store.running()
  const waiting = await store.submit(session)
  await store.append(request, epoch, 1, [text('half')])
  const urgent = await store.submit(session, { interrupt: true, queueLimit: 1 })
  expect(urgent).toMatchObject({ word: 'ok', position: 0, interrupted: id })
  expect(await inFlight(store, session)).toEqual({ waitingInteractionId: urgent.id, lastRequestId: '', started: true })
  expect(await store.sessions.queue(session)).toEqual([waiting.id])
  expect(await store.turns.read(id)).toMatchObject({ status: 'cancelled' })
  expect((await store.events(id)).at(-1)).toMatchObject({ type: 'cancelled', reason: 'interrupted' })
  expect(await store.append(request, epoch, 2, [text('late')])).toMatchObject({ word: 'ended' })
  expect((await store.folded(urgent.id)).status).toBe('waiting')
})

test('an interrupt of a session where nothing runs is a message like any other', async () => {
  const session = await store.session()
  expect(await store.submit(session, { interrupt: true })).toMatchObject({ word: 'ok', position: 0, interrupted: '' })
})

test('an interrupt that is sent again interrupts nothing more', async () => {
  const session = await store.session()
  await store.submit(session)
  const urgent = await store.submit(session, { interrupt: true })
  expect(await store.submit(session, { interrupt: true, interaction: urgent.id })).toMatchObject({
    word: 'known',
    interrupted: '',
  })
  expect(await store.turns.read(urgent.id)).toMatchObject({ status: 'waiting' })
})

test('of more turns than are kept the oldest ended ones go, log and all, and never one that runs or waits', async () => {
  const session = await store.session()
  const done: InteractionId[] = []
  for (let i = 0; i < 3; i++) {
    const { id } = await store.submit(session, { historyLimit: 3 })
    await store.turns.cancel(id, 'cancelled')
    done.push(id)
  }
  const running = await store.submit(session, { historyLimit: 3 })
  expect(await store.sessions.interactions(session)).toEqual([...done.slice(1), running.id])
  expect(await store.redis.exists(store.keys.interaction(done[0]!), store.keys.log(done[0]!))).toBe(0)
  const waiting: InteractionId[] = []
  for (let i = 0; i < 4; i++) waiting.push((await store.submit(session, { historyLimit: 3 })).id)
  expect(await store.sessions.interactions(session)).toEqual([running.id, ...waiting])
  for (const id of [running.id, ...waiting]) expect(await store.events(id)).not.toEqual([])
})

test('a session that is not there takes no message and does not come back by one', async () => {
  const session = newSessionId()
  expect(await store.submit(session)).toMatchObject({ word: 'gone' })
  expect(await store.redis.keys(`${store.prefix}{${session}}*`)).toEqual([])
})

test('whoever holds the session is named and woken', async () => {
  const session = await store.session()
  await store.attach(session, 'one')
  let wakes = 0
  using _ = await store.bus.listen(store.keys.wake(session), { message: () => wakes++, look: () => {} })
  expect(
    await store.sessions.submit({
      interaction: newInteractionId(session),
      session,
      input: 'x',
      metadata: {},
      interrupt: '',
      queueLimit: 1,
      historyLimit: 1,
    }),
  ).toMatchObject({ word: 'ok', holder: 'one', pool: 'coder' })
  await eventually(() => wakes === 1)
})

test('a turn whose hash is lost blocks nobody: the next message has the place', async () => {
  const { session, id } = await store.running()
  await store.redis.del(store.keys.interaction(id), store.keys.log(id))
  const next = await store.submit(session)
  expect(next).toMatchObject({ word: 'ok', position: 0 })
  expect(await inFlight(store, session)).toMatchObject({ waitingInteractionId: next.id })
  const urgent = await store.running()
  await store.redis.del(store.keys.interaction(urgent.id), store.keys.log(urgent.id))
  expect(await store.submit(urgent.session, { interrupt: true })).toMatchObject({
    word: 'ok',
    position: 0,
    interrupted: '',
  })
  expect(await store.turns.read(urgent.id)).toBeUndefined()
  expect(await store.immortal()).toEqual([])
})

describe('what is kept slides with the session', () => {
  test('a new message keeps every earlier turn, and the log of one that still waits, as long as the session', async () => {
    await using short = await openTestStore({ sessionTtlMs: 20_000, resumeWindowMs: 5000 })
    const session = await short.session()
    const running = await short.submit(session)
    const waiting = await short.submit(session)
    const kept = [
      short.keys.session(session),
      short.keys.interactions(session),
      short.keys.queue(session),
      short.keys.interaction(running.id),
      short.keys.interaction(waiting.id),
      short.keys.log(waiting.id),
    ]
    for (const key of kept) await short.redis.pexpire(key, 1000) // most of its time has passed
    await short.submit(session)
    for (const key of kept) expect([key, (await short.redis.pttl(key)) > 15_000]).toEqual([key, true])
  })

  test('creating a session once more changes nothing of it', async () => {
    const session = await store.session()
    await store.redis.pexpire(store.keys.session(session), 1000)
    await store.sessions.create({
      id: session,
      owner: 'thief',
      pool: 'other',
      title: 'x',
      metadata: { a: 'b' },
      nowMs: 1,
    })
    expect(await store.sessions.read(session)).toMatchObject({ owner: 'me', pool: 'coder', title: '', metadata: {} })
    expect(await store.redis.pttl(store.keys.session(session))).toBeLessThanOrEqual(1000)
  })
})
