import { newInteractionId, newSessionId } from '../../src/core/mint.js'
import { requestOf } from '../../src/protocol/ids.js'
import { eventually } from '../support/eventually.js'
import { completed, FAR, inFlight, openTestStore, text, type TestStore } from './open.js'

let store: TestStore
beforeAll(async () => void (store = await openTestStore()))
afterAll(() => store[Symbol.asyncDispose]())

describe('dispatch', () => {
  test('stamps the turn with a request id and gives what the agent needs', async () => {
    const session = await store.session()
    const { id } = await store.submit(session)
    await store.redis.hset(store.keys.session(session), 'thread', 'T-1')
    const epoch = await store.attach(session)
    expect(await store.dispatch(session, epoch)).toEqual({
      word: 'turn',
      interaction: id,
      request: requestOf(id, 1),
      attempt: 1,
      thread: 'T-1',
      input: 'hello',
      metadata: { k: 'v' },
      pool: 'coder',
      tip: 2,
      origin: 'client',
      createdAt: (await store.turns.read(id))!.createdAt,
      trail: { requestId: '', traceparent: '', tracestate: '' },
    })
    expect(await inFlight(store, session)).toEqual({
      waitingInteractionId: id,
      lastRequestId: requestOf(id, 1),
      started: true,
    })
    expect((await store.events(id)).at(-1)).toMatchObject({
      type: 'dispatched',
      request: requestOf(id, 1),
      attempt: 1,
      agent: 'one',
    })
  })

  test('of a turn that the agent has in hand says how far it is, and changes nothing', async () => {
    const { session, id, epoch, request } = await store.running()
    await store.append(request, epoch, 1, [text('a'), text('b')])
    const before = await store.events(id)
    expect(await store.dispatch(session, epoch, { holding: request })).toEqual({
      word: 'held',
      interaction: id,
      request,
      after: 2,
      asked: false,
      answers: [],
    })
    expect(await store.events(id)).toEqual(before)
  })

  test('of a session with nothing to do is idle; of one that is gone, or for an older epoch, refused', async () => {
    const session = await store.session()
    const old = await store.attach(session)
    expect(await store.dispatch(session, old)).toEqual({ word: 'idle' })
    const now = await store.attach(session)
    expect(await store.dispatch(session, old)).toEqual({ word: 'superseded', epoch: now })
    expect(await store.dispatch(newSessionId(), 1)).toEqual({ word: 'gone' })
  })

  test('an unanswered turn is a new request each time, as often as allowed, and then fails', async () => {
    const { session, id, epoch, request } = await store.running()
    const second = await store.dispatch(session, epoch, { heard: request, maxAttempts: 2 })
    expect(second).toMatchObject({ word: 'turn', request: requestOf(id, 2), attempt: 2 })
    expect(await store.dispatch(session, epoch, { heard: requestOf(id, 2), maxAttempts: 2 })).toEqual({
      word: 'ended',
      interaction: id,
      code: 'attempts_exhausted',
    })
    expect(await store.turns.read(id)).toMatchObject({ status: 'failed', error: { code: 'attempts_exhausted' } })
    expect(await store.dispatch(session, epoch)).toEqual({ word: 'idle' })
  })

  test('whose answer was lost gives the same request again, however often: no attempt is used up', async () => {
    const session = await store.session()
    const { id } = await store.submit(session)
    const epoch = await store.attach(session)
    const first = await store.dispatch(session, epoch, { heard: '' })
    for (let i = 0; i < 5; i++) expect(await store.dispatch(session, epoch, { heard: '' })).toEqual(first)
    expect((await store.turns.read(id))!.attempt).toBe(1)
    expect((await store.events(id)).filter((e) => e.type === 'dispatched')).toHaveLength(1)
    // the agent got it and gave it up: this is another delivery
    expect(await store.dispatch(session, epoch, { heard: requestOf(id, 1) })).toMatchObject({
      word: 'turn',
      attempt: 2,
    })
    // so is one to another connection
    const next = await store.attach(session, 'one')
    expect(await store.dispatch(session, next, { heard: '' })).toMatchObject({ word: 'turn', attempt: 3 })
  })

  test('to a newer connection of the same run of its agent gives the same request again, once', async () => {
    const session = await store.session()
    const { id } = await store.submit(session)
    const dispatch = async (run: string) =>
      store.dispatch(session, await store.attach(session, 'one'), { heard: '', run })
    expect(await dispatch('p')).toMatchObject({ word: 'turn', attempt: 1 })
    expect(await dispatch('p')).toMatchObject({ word: 'turn', request: requestOf(id, 1), attempt: 1 })
    expect(await dispatch('p')).toMatchObject({ word: 'turn', attempt: 2 })
    expect(await dispatch('p')).toMatchObject({ word: 'turn', attempt: 2 })
    expect((await store.events(id)).filter((e) => e.type === 'dispatched')).toHaveLength(2)
    expect(await dispatch('q')).toMatchObject({ word: 'turn', attempt: 3 }) // a restarted agent may have begun it before
  })

  test('to a newer connection of the same run that has begun it, and has it no more, is another attempt', async () => {
    const session = await store.session()
    const { id } = await store.submit(session)
    const epoch = await store.attach(session)
    await store.dispatch(session, epoch, { run: 'p' })
    await store.append(requestOf(id, 1), epoch, 1, [{ type: 'thread', thread: 't' }])
    const next = await store.attach(session)
    expect(await store.dispatch(session, next, { run: 'p' })).toMatchObject({ word: 'turn', attempt: 2 })
    expect(await store.dispatch(session, next, { run: 'p', heard: requestOf(id, 2) })).toMatchObject({ attempt: 3 })
  })

  test('of a turn whose first words are lost with its agent fails it, and the session goes on', async () => {
    const { session, id, epoch, request } = await store.running()
    const next = await store.submit(session)
    await store.append(request, epoch, 1, [text('half')])
    const again = await store.attach(session)
    expect(await store.dispatch(session, again)).toEqual({ word: 'ended', interaction: id, code: 'agent_disconnected' })
    expect(await store.turns.read(id)).toMatchObject({ status: 'failed', error: { code: 'agent_disconnected' } })
    expect(await store.dispatch(session, again)).toMatchObject({ word: 'turn', interaction: next.id, attempt: 1 })
  })

  test('begins such a turn anew where the pool says so, as often as allowed', async () => {
    const { session, id, epoch, request } = await store.running()
    await store.append(request, epoch, 1, [text('half')])
    const again = await store.attach(session)
    const retry = { onAgentLoss: 'retry', maxAttempts: 2 } as const
    expect(await store.dispatch(session, again, retry)).toMatchObject({
      word: 'turn',
      request: requestOf(id, 2),
      attempt: 2,
    })
    expect((await store.events(id)).slice(-2).map((e) => e.type)).toEqual(['reset', 'dispatched'])
    expect(await store.folded(id)).toMatchObject({ status: 'waiting', entries: [], attempt: 2 })
    expect(await store.append(request, again, 2, [text('late')])).toMatchObject({ word: 'fenced' })
    await store.append(requestOf(id, 2), again, 1, [text('anew')])
    const last = await store.attach(session)
    expect(await store.dispatch(session, last, retry)).toMatchObject({ word: 'ended', code: 'attempts_exhausted' })
    expect((await store.folded(id)).entries[0]!.text).toBe('anew') // what was shown last stays
  })

  test('a dispatch that Redis lost is restored by the word of whoever holds the lease and has the turn in hand', async () => {
    const session = await store.session()
    const { id } = await store.submit(session)
    const epoch = await store.attach(session)
    const request = requestOf(id, 1)
    expect(await store.dispatch(session, epoch, { holding: request })).toEqual({
      word: 'held',
      interaction: id,
      request,
      after: 0,
      asked: false,
      answers: [],
    })
    expect(await inFlight(store, session)).toMatchObject({ lastRequestId: request })
    expect(await store.append(request, epoch, 1, [text('a')])).toMatchObject({ word: 'ok' })
    expect(await store.folded(id)).toMatchObject({ status: 'streaming', attempt: 1 })
    expect((await store.turns.head(id))!.incarnation).not.toBe('')
  })

  test('a place that is held by a turn that is over or lost is freed', async () => {
    const lost = await store.running()
    const next = await store.submit(lost.session)
    await store.redis.del(store.keys.interaction(lost.id), store.keys.log(lost.id))
    expect(await store.dispatch(lost.session, lost.epoch)).toEqual({
      word: 'ended',
      interaction: lost.id,
      code: 'lost',
    })
    expect(await store.dispatch(lost.session, lost.epoch)).toMatchObject({ word: 'turn', interaction: next.id })
    expect(await store.redis.exists(store.keys.interaction(lost.id))).toBe(0)
  })
})

describe('cancel', () => {
  test('ends a running turn at once, whoever waits for it, and starts the next', async () => {
    const { session, id, epoch, request } = await store.running()
    const next = await store.submit(session)
    await store.append(request, epoch, 1, [text('half')])
    let wakes = 0
    using _ = await store.bus.listen(store.keys.wake(session), { message: () => wakes++, look: () => {} })
    expect(await store.turns.cancel(id, 'user')).toBe('cancelled')
    expect((await store.events(id)).at(-1)).toMatchObject({ type: 'cancelled', reason: 'user' })
    expect(await inFlight(store, session)).toEqual({ waitingInteractionId: next.id, lastRequestId: '', started: true })
    expect((await store.folded(id)).entries[0]!.text).toBe('half')
    await eventually(() => wakes > 0)
  })

  test('of a queued turn takes it out of the line and leaves the running one alone', async () => {
    const { session, id } = await store.running()
    const [b, c] = [await store.submit(session), await store.submit(session)]
    expect(await store.turns.cancel(b.id, 'user')).toBe('cancelled')
    expect(await store.sessions.queue(session)).toEqual([c.id])
    expect(await inFlight(store, session)).toMatchObject({ waitingInteractionId: id })
    expect(await store.folded(b.id)).toMatchObject({ status: 'cancelled' })
  })

  test('of an ended turn changes nothing, and of an unknown one brings nothing back', async () => {
    const { id, epoch, request } = await store.running()
    await store.append(request, epoch, 1, [completed])
    const before = await store.events(id)
    expect(await store.turns.cancel(id, 'user')).toBe('ended')
    expect(await store.turns.cancel(id, 'user')).toBe('ended')
    expect(await store.events(id)).toEqual(before)
    const session = newSessionId()
    expect(await store.turns.cancel(newInteractionId(session), 'user')).toBe('gone')
    expect(await store.redis.keys(`${store.prefix}{${session}}*`)).toEqual([])
  })
})

describe('seal', () => {
  const output = [{ id: 't', kind: 'text' as const, text: 'done' }]

  test('keeps the output beyond the life of the log, once', async () => {
    const { session, id, epoch, request } = await store.running()
    expect(await store.turns.seal(id, output)).toBe('running')
    await store.append(request, epoch, 1, [text('done'), completed])
    expect(await store.turns.seal(id, output)).toBe('ok')
    expect(await store.turns.seal(id, [])).toBe('sealed')
    expect(await store.turns.read(id)).toMatchObject({ output })
    const [ofTurn, ofSession] = [
      await store.redis.pttl(store.keys.interaction(id)),
      await store.redis.pttl(store.keys.session(session)),
    ]
    expect(Math.abs(ofTurn - ofSession)).toBeLessThan(1000)
    const ofLog = await store.redis.pttl(store.keys.log(id))
    expect(ofLog).toBeGreaterThan(0)
    expect(ofLog).toBeLessThanOrEqual(30_000)
  })

  test('comes before the end of the log: what nobody has sealed lives as long as the session', async () => {
    await using store = await openTestStore({ sessionTtlMs: 60_000, resumeWindowMs: 1000 })
    const { id, epoch, request } = await store.running()
    await store.append(request, epoch, 1, [text('done'), completed])
    expect(await store.redis.pttl(store.keys.log(id))).toBeGreaterThan(30_000)
    await store.turns.seal(id, output)
    expect(await store.redis.pttl(store.keys.log(id))).toBeLessThanOrEqual(1000)
  })

  test('of an unknown turn brings nothing back', async () => {
    const session = newSessionId()
    expect(await store.turns.seal(newInteractionId(session), output)).toBe('gone')
    expect(await store.redis.keys(`${store.prefix}{${session}}*`)).toEqual([])
  })
})

describe('forget_thread', () => {
  async function withThread() {
    const it = await store.running()
    await store.redis.hset(store.keys.session(it.session), 'thread', 'T-1')
    return it
  }
  const threadOf = async (session: `ses_${string}`) => (await store.sessions.read(session))!.thread

  test('forgets the thread and has a turn without output delivered again, once', async () => {
    const { session, id, epoch, request } = await withThread()
    expect(await store.turns.forgetThread(id, request, epoch)).toEqual({ word: 'again', thread: 'T-1' })
    expect(await threadOf(session)).toBe('')
    const again = await store.dispatch(session, epoch, { heard: request })
    expect(again).toMatchObject({ word: 'turn', attempt: 2, thread: null })
    await store.redis.hset(store.keys.session(session), 'thread', 'T-2')
    expect(await store.turns.forgetThread(id, requestOf(id, 2), epoch)).toEqual({ word: 'fail', thread: 'T-2' })
    expect(await threadOf(session)).toBe('')
  })

  test('has the turn handed out once more, also past the most attempts', async () => {
    const { session, id, epoch, request } = await withThread()
    await store.turns.forgetThread(id, request, epoch)
    const again = await store.dispatch(session, epoch, { heard: request, maxAttempts: 1 })
    expect(again).toMatchObject({ word: 'turn', attempt: 2, thread: null })
    const third = await store.dispatch(session, epoch, { heard: requestOf(id, 2), maxAttempts: 1 })
    expect(third).toMatchObject({ word: 'ended', code: 'attempts_exhausted' })
  })

  test('asked again for the same request, because the answer was lost, gives the same answer', async () => {
    const { id, epoch, request } = await withThread()
    await store.turns.forgetThread(id, request, epoch)
    expect(await store.turns.forgetThread(id, request, epoch)).toEqual({ word: 'again', thread: 'T-1' })
  })

  test('of a turn with output, or that never had a thread, is a failure', async () => {
    const spoke = await withThread()
    await store.append(spoke.request, spoke.epoch, 1, [text('a')])
    expect(await store.turns.forgetThread(spoke.id, spoke.request, spoke.epoch)).toEqual({
      word: 'fail',
      thread: 'T-1',
    })
    expect(await threadOf(spoke.session)).toBe('')
    const fresh = await store.running()
    expect(await store.turns.forgetThread(fresh.id, fresh.request, fresh.epoch)).toEqual({ word: 'fail', thread: '' })
  })

  test('by an older request or epoch, or of an ended turn, is ignored: the thread stays', async () => {
    const { session, id, epoch, request } = await withThread()
    expect(await store.turns.forgetThread(id, requestOf(id, 9), epoch)).toEqual({ word: 'stale' })
    expect(await store.turns.forgetThread(id, request, epoch + 1)).toEqual({ word: 'stale' })
    await store.turns.cancel(id, 'user')
    expect(await store.turns.forgetThread(id, request, epoch)).toEqual({ word: 'stale' })
    expect(await threadOf(session)).toBe('T-1')
  })
})

describe('remove', () => {
  test('ends what runs and waits as cancelled, starts nothing, and the session is gone', async () => {
    const { session, id, epoch, request } = await store.running()
    const waiting = await store.submit(session)
    expect(await store.sessions.remove(session)).toEqual({ interactions: [id, waiting.id] })
    for (const turn of [id, waiting.id]) {
      expect(await store.turns.read(turn)).toMatchObject({ status: 'cancelled' })
      expect((await store.events(turn)).at(-1)).toMatchObject({ type: 'cancelled', reason: 'session_deleted' })
    }
    expect(await store.sessions.read(session)).toBeUndefined()
    const { keys } = store
    expect(
      await store.redis.exists(
        keys.session(session),
        keys.queue(session),
        keys.lease(session),
        keys.interactions(session),
      ),
    ).toBe(0)
    expect(await store.append(request, epoch, 1, [text('late')])).toMatchObject({ word: 'ended' })
    expect(await store.dispatch(session, epoch)).toEqual({ word: 'gone' })
    expect(await store.sessions.remove(session)).toBeUndefined()
  })

  test('leaves its logs for a minute, sealed or not', async () => {
    const { session, id, epoch, request } = await store.running()
    await store.append(request, epoch, 1, [text('a'), completed])
    await store.sessions.remove(session)
    const life = async () => [
      await store.redis.pttl(store.keys.interaction(id)),
      await store.redis.pttl(store.keys.log(id)),
    ]
    for (const left of await life()) expect(left > 50_000 && left <= 60_000).toBe(true)
    await store.turns.seal(id, [])
    for (const left of await life()) expect(left > 50_000 && left <= 60_000).toBe(true)
    expect(await store.immortal()).toEqual([])
  })
})

test('what reading tells of a turn that expired is nothing', async () => {
  const never = newInteractionId(newSessionId())
  expect(await store.turns.read(never)).toBeUndefined()
  expect(await store.turns.head(never)).toBeUndefined()
  expect(await store.turns.readMany([never])).toEqual([])
  expect(await store.turns.expire(never, FAR)).toEqual({ word: 'gone' })
})

describe('pending', () => {
  test('a place in the line is told once, and again when it changes or when the wait begins anew', async () => {
    const session = await store.session()
    const { id } = await store.submit(session)
    expect(await store.turns.pending(id, 2)).toBe('ok')
    expect(await store.turns.pending(id, 2)).toBe('same')
    expect(await store.turns.pending(id, 1)).toBe('ok')
    const epoch = await store.attach(session)
    await store.dispatch(session, epoch)
    expect(await store.turns.pending(id, 3)).toBe('taken')
    await store.redis.del(store.keys.lease(session))
    expect(await store.turns.pending(id, 1)).toBe('ok')
    const places = (await store.events(id)).flatMap((e) => (e.type === 'pending' ? [e.position] : []))
    expect(places).toEqual([2, 1, 1])
  })

  test('a turn that is queued, leased or over stands in no line', async () => {
    const { session, id } = await store.running()
    const queued = await store.submit(session)
    expect(await store.turns.pending(queued.id, 1)).toBe('taken')
    expect(await store.turns.pending(id, 1)).toBe('taken')
    const over = await store.submit(await store.session())
    await store.turns.cancel(over.id, 'user')
    expect(await store.turns.pending(over.id, 1)).toBe('taken')
  })
})
