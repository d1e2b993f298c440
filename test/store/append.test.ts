import { requestOf } from '../../src/protocol/ids.js'
import { newInteractionId } from '../../src/core/mint.js'
import { eventually } from '../support/eventually.js'
import { completed, failed, FAR, inFlight, openTestStore, text, type TestStore } from './open.js'
import type { LiveBatch } from '../../src/store/log.js'

let store: TestStore
beforeAll(async () => void (store = await openTestStore()))
afterAll(() => store[Symbol.asyncDispose]())

const said = async (id: `int_${string}`) =>
  (await store.events(id)).filter((e) => e.type === 'entry.append').map((e) => 'text' in e && e.text)

test('a batch is written in order behind what the log has, and the answer is the acknowledgement', async () => {
  const { id, epoch, request } = await store.running()
  expect(await store.append(request, epoch, 1, [text('a'), text('b')])).toEqual({
    word: 'ok',
    tip: 4,
    after: 2,
    next: '',
  })
  expect(await store.append(request, epoch, 3, [text('c')], { expectedTip: 4 })).toEqual({
    word: 'ok',
    tip: 5,
    after: 3,
    next: '',
  })
  expect((await store.events(id)).map((e) => e.type)).toEqual([
    'submitted',
    'dispatched',
    ...Array(3).fill('entry.append'),
  ])
  expect(await said(id)).toEqual(['a', 'b', 'c'])
})

test('the same batch again, whole or in part, before or behind others, is written once', async () => {
  const { id, epoch, request } = await store.running()
  await store.append(request, epoch, 1, [text('a'), text('b')])
  expect(await store.append(request, epoch, 1, [text('a'), text('b')])).toMatchObject({ word: 'ok', after: 2 })
  expect(await store.append(request, epoch, 2, [text('b'), text('c')])).toMatchObject({ word: 'ok', after: 3 })
  expect(await store.append(request, epoch, 1, [text('a')])).toMatchObject({ word: 'ok', after: 3 })
  expect(await store.append(request, epoch, 1, [text('a'), text('b'), text('c'), text('d')])).toMatchObject({
    word: 'ok',
    after: 4,
  })
  expect(await said(id)).toEqual(['a', 'b', 'c', 'd'])
})

test('an end that is sent again ends once', async () => {
  const { session, id, epoch, request } = await store.running()
  const next = (await store.submit(session)).id
  expect(await store.append(request, epoch, 1, [text('a'), completed])).toMatchObject({ word: 'ok', after: 2, next })
  expect(await store.append(request, epoch, 1, [text('a'), completed])).toEqual({
    word: 'ended',
    status: 'completed',
    after: 2,
  })
  expect((await store.events(id)).filter((e) => e.type === 'completed')).toHaveLength(1)
  expect(await inFlight(store, session)).toMatchObject({ waitingInteractionId: next })
})

test('a batch past a hole is not written; the answer says from where to send again', async () => {
  const { id, epoch, request } = await store.running()
  await store.append(request, epoch, 1, [text('a')])
  expect(await store.append(request, epoch, 3, [text('c')])).toEqual({ word: 'hole', tip: 3, after: 1 })
  expect(await said(id)).toEqual(['a'])
})

test('a log shorter than its writer knows it gets a new incarnation, nothing is written, and viewers are told', async () => {
  const { session, id, epoch, request } = await store.running()
  await store.append(request, epoch, 1, [text('a')])
  const heard: LiveBatch[] = []
  using _ = await store.bus.listen(store.keys.live(session), { message: (m) => heard.push(m.json()), look: () => {} })
  expect(await store.append(request, epoch, 4, [text('d')], { expectedTip: 6, incarnation: 'lost1' })).toEqual({
    word: 'rewound',
    tip: 3,
    after: 1,
  })
  expect(await store.turns.head(id)).toMatchObject({ status: 'streaming', tip: 3, incarnation: 'lost1' })
  await eventually(() => heard.length > 0)
  expect(heard[0]).toMatchObject({ interaction: id, incarnation: 'lost1', first: 4, count: 0 })
  expect(await store.append(request, epoch, 2, [text('b')], { expectedTip: 3 })).toMatchObject({ word: 'ok', tip: 4 })
  expect(await said(id)).toEqual(['a', 'b'])
})

test('another request than the current one is fenced off, and told which is current', async () => {
  const { session, id, epoch, request } = await store.running()
  const later = await store.dispatch(session, epoch, { heard: request })
  if (later.word !== 'turn') throw new Error(later.word)
  expect(later.request).toBe(requestOf(id, 2))
  expect(await store.append(request, epoch, 1, [text('late')])).toEqual({ word: 'fenced', request: later.request })
  expect(await said(id)).toEqual([])
})

test('an older connection is fenced off by its epoch, and told the current one', async () => {
  const { session, id, epoch, request } = await store.running()
  const now = await store.attach(session, 'one', { holding: { request, acked: 0 } })
  expect(now).toBeGreaterThan(epoch)
  expect(await store.append(request, epoch, 1, [text('old')])).toEqual({ word: 'superseded', epoch: now })
  expect(await store.append(request, now, 1, [text('new')])).toMatchObject({ word: 'ok' })
  expect(await said(id)).toEqual(['new'])
})

test.each([
  ['completed by the agent', async (it: Running) => void (await store.append(it.request, it.epoch, 1, [completed]))],
  ['failed by the agent', async (it: Running) => void (await store.append(it.request, it.epoch, 1, [failed()]))],
  ['cancelled', async (it: Running) => void (await store.turns.cancel(it.id, 'cancelled'))],
  ['failed by the sweep', async (it: Running) => void (await store.turns.expire(it.id, { ...FAR, staleAfterMs: 0 }))],
])('nothing is written after the turn was %s', async (_, end) => {
  const it = await store.running()
  await end(it)
  const before = await store.events(it.id)
  expect(await store.append(it.request, it.epoch, 2, [text('late')])).toMatchObject({ word: 'ended' })
  expect(await store.events(it.id)).toEqual(before)
})
type Running = Awaited<ReturnType<TestStore['running']>>

test('a turn that is gone stays gone: a late batch brings no key back', async () => {
  const { session, id, epoch, request } = await store.running()
  const { keys } = store
  await store.redis.del(
    keys.session(session),
    keys.interaction(id),
    keys.log(id),
    keys.lease(session),
    keys.interactions(session),
    keys.runs(session),
  )
  expect(await store.append(request, epoch, 1, [text('late')])).toEqual({ word: 'gone' })
  expect(await store.append(request, epoch, 2, [text('late')], { expectedTip: 9 })).toEqual({ word: 'gone' })
  const never = newInteractionId(session)
  expect(await store.append(requestOf(never, 1), 1, 1, [text('x')])).toEqual({ word: 'gone' })
  expect(await store.redis.keys(`${store.prefix}{${session}}*`)).toEqual([])
})

test('a log that would grow past its events or bytes fails the turn, and the last event says so', async () => {
  await using small = await openTestStore({ maxLogEvents: 5 })
  const few = await small.running()
  await small.append(few.request, few.epoch, 1, [text('a'), text('b'), text('c')])
  expect(await small.append(few.request, few.epoch, 4, [text('d')])).toEqual({ word: 'full' })
  expect(await small.turns.read(few.id)).toMatchObject({ status: 'failed', error: { code: 'log_full' } })
  expect((await small.events(few.id)).at(-1)).toMatchObject({ type: 'failed', code: 'log_full' })
  expect(await inFlight(small, few.session)).toMatchObject({ waitingInteractionId: '' })

  await using short = await openTestStore({ maxLogBytes: 2000 })
  const many = await short.running()
  await short.append(many.request, many.epoch, 1, [text('x'.repeat(1000))])
  expect(await short.append(many.request, many.epoch, 1, [text('x'.repeat(1000))])).toMatchObject({ word: 'ok' })
  expect(await short.append(many.request, many.epoch, 2, [text('x'.repeat(1000))])).toEqual({ word: 'full' })
})

test('an empty batch writes nothing and moves the silence deadline', async () => {
  const { id, epoch, request } = await store.running()
  await store.redis.hset(store.keys.interaction(id), 'lastActivityAt', 5)
  expect(await store.append(request, epoch, 1, [])).toEqual({ word: 'ok', tip: 2, after: 0, next: '' })
  const { lastActivityAt, tip, status } = (await store.turns.read(id))!
  expect(lastActivityAt).toBeGreaterThan(Date.now() - 60_000)
  expect([tip, status]).toEqual([2, 'waiting'])
})

test('a repetition of what is known is a sign of life too', async () => {
  const { id, epoch, request } = await store.running()
  await store.append(request, epoch, 1, [text('a')])
  await store.redis.hset(store.keys.interaction(id), 'lastActivityAt', 5)
  await store.append(request, epoch, 1, [text('a')])
  expect((await store.turns.read(id))!.lastActivityAt).toBeGreaterThan(5)
})

test('only output makes a turn streaming; thread, title and usage go where they belong', async () => {
  const { session, id, epoch, request } = await store.running()
  const usage = { inputTokens: 1, outputTokens: 2 }
  await store.append(request, epoch, 1, [
    { type: 'thread', thread: 'T-1' },
    { type: 'title', title: 'A title' },
    { type: 'usage', usage },
  ])
  expect(await store.turns.read(id)).toMatchObject({ status: 'waiting', usage, firstOutputAt: 0 })
  expect(await store.sessions.read(session)).toMatchObject({ thread: 'T-1', title: 'A title' })
  await store.append(request, epoch, 4, [{ type: 'entry.set', entry: 't', kind: 'tool_call', status: 'pending' }])
  const { status, firstOutputAt } = (await store.turns.read(id))!
  expect(status).toBe('streaming')
  expect(firstOutputAt).toBeGreaterThan(0)
  expect(await store.folded(id)).toMatchObject({ status: 'streaming', thread: 'T-1', title: 'A title', usage })
})

test('the end of a turn is kept with its reason or its error, and clears the three waiting fields', async () => {
  const done = await store.running()
  await store.append(done.request, done.epoch, 1, [{ type: 'completed', reason: 'refusal' }])
  expect(await store.turns.read(done.id)).toMatchObject({ status: 'completed', stopReason: 'refusal', error: null })
  const broken = await store.running()
  await store.append(broken.request, broken.epoch, 1, [text('a'), failed('model_down', 'no model')])
  expect(await store.turns.read(broken.id)).toMatchObject({
    status: 'failed',
    stopReason: null,
    error: { code: 'model_down', message: 'no model' },
  })
  for (const { session } of [done, broken])
    expect(await inFlight(store, session)).toEqual({ waitingInteractionId: '', lastRequestId: '', started: false })
})

test('any text comes back as it was said: quotes, line ends, halves of pairs, 200 KiB of it', async () => {
  const { id, epoch, request } = await store.running()
  const texts = ['"\\\n\u0000', '😀', '\ud83d', '', 'x'.repeat(200 * 1024)]
  await store.append(
    request,
    epoch,
    1,
    texts.map((said) => text(said)),
  )
  expect(await said(id)).toEqual(texts)
})

test('what is appended goes over the live channel in full; a large batch is only announced', async () => {
  const { session, id, epoch, request } = await store.running()
  const heard: LiveBatch[] = []
  using _ = await store.bus.listen(store.keys.live(session), { message: (m) => heard.push(m.json()), look: () => {} })
  await store.append(request, epoch, 1, [text('ä"\n'), text('b')])
  await store.append(request, epoch, 3, [text('x'.repeat(40_000)), completed])
  await eventually(() => heard.length === 2)
  const events = await store.events(id)
  expect(heard[0]).toEqual({
    interaction: id,
    incarnation: '',
    first: 3,
    count: 2,
    at: events[2]!.at,
    heard: 1000,
    events: [text('ä"\n'), text('b')],
  })
  expect(heard[1]).toMatchObject({ first: 5, count: 2, events: null })
})

test('every key of a turn has a TTL from beginning to end', async () => {
  const { session, epoch, request } = await store.running()
  await store.submit(session)
  expect(await store.immortal()).toEqual([])
  await store.append(request, epoch, 1, [text('a'), completed])
  expect(await store.immortal()).toEqual([])
})

test('a dispatch that Redis lost while its agent was writing is restored by what it writes next', async () => {
  const session = await store.session()
  const { id } = await store.submit(session)
  const epoch = await store.attach(session)
  const request = requestOf(id, 1) // it had been dispatched, and three events written, when Redis failed over
  expect(await store.append(request, epoch, 4, [text('d')], { expectedTip: 5, incarnation: 'lost4' })).toMatchObject({
    word: 'rewound',
    after: 0,
  })
  expect(await store.append(request, epoch, 1, [text('a'), text('b')])).toMatchObject({ word: 'ok', after: 2 })
  expect(await store.turns.read(id)).toMatchObject({ status: 'streaming', request, attempt: 1, incarnation: 'lost4' })
  expect(await inFlight(store, session)).toMatchObject({ lastRequestId: request })
  expect(await said(id)).toEqual(['a', 'b'])
})

test('a second attempt that Redis lost makes void what the first one had said', async () => {
  const { session, id, epoch, request } = await store.running()
  await store.append(request, epoch, 1, [text('from the first')])
  expect(await store.append(requestOf(id, 2), epoch, 1, [text('from the second')])).toMatchObject({ word: 'ok' })
  expect((await store.folded(id)).entries.map((e) => e.text)).toEqual(['from the second'])
  expect(await store.folded(id)).toMatchObject({ status: 'streaming', attempt: 2 })
  void session
})

test('no older connection, and no turn that is queued or over, is restored that way', async () => {
  const { session, id, epoch, request } = await store.running()
  const queued = await store.submit(session)
  expect(await store.append(requestOf(id, 2), epoch + 1, 1, [text('x')])).toEqual({ word: 'fenced', request })
  expect(await store.append(requestOf(queued.id, 1), epoch, 1, [text('x')])).toEqual({ word: 'fenced', request: '' })
  await store.turns.cancel(id, 'user')
  expect(await store.append(requestOf(id, 2), epoch, 1, [text('x')])).toEqual({ word: 'fenced', request })
  expect(await said(id)).toEqual([])
})

test('a thread that was forgotten does not come back with the repetition of what named it', async () => {
  const { session, id, epoch, request } = await store.running()
  const named = { type: 'thread', thread: 'T-1' } as const
  await store.append(request, epoch, 1, [named])
  await store.turns.forgetThread(id, request, epoch)
  expect(await store.append(request, epoch, 1, [named, text('a')])).toMatchObject({ word: 'ok', after: 2 })
  expect((await store.sessions.read(session))!.thread).toBe('')
  await store.append(request, epoch, 2, [text('a'), { type: 'thread', thread: 'T-2' }])
  expect((await store.sessions.read(session))!.thread).toBe('T-2')
})
