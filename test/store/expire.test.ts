import { requestOf } from '../../src/protocol/ids.js'
import type { Deadlines } from '../../src/store/turns.js'
import { completed, FAR, inFlight, openTestStore, text, type TestStore } from './open.js'

let store: TestStore
beforeAll(async () => void (store = await openTestStore()))
afterAll(() => store[Symbol.asyncDispose]())

const past = (more: Partial<Deadlines>): Deadlines => ({ ...FAR, ...more })
const verdict = (id: `int_${string}`, more: Partial<Deadlines> = {}, silentAt?: number) =>
  store.turns.expire(id, past(more), silentAt)
const waiting = async () => {
  const session = await store.session()
  return { session, ...(await store.submit(session)) }
}
const noLease = (session: `ses_${string}`) => store.redis.del(store.keys.lease(session))
const failure = async (id: `int_${string}`) => {
  const { status, error } = (await store.turns.read(id))!
  expect((await store.events(id)).filter((e) => e.type === 'failed')).toHaveLength(1)
  return [status, error?.code]
}

test('an ended turn is unsealed until its output is kept, then sealed', async () => {
  const { id } = await waiting()
  await store.turns.cancel(id, 'user')
  expect(await verdict(id)).toEqual({ word: 'unsealed' })
  await store.turns.seal(id, [])
  expect(await verdict(id)).toEqual({ word: 'sealed' })
})

test('a queued turn waits for as long as it takes', async () => {
  const { session } = await store.running()
  const { id } = await store.submit(session)
  const answer = await verdict(id, { agentWaitMs: 0, staleAfterMs: 0, agentSilentMs: 0 })
  expect(answer).toMatchObject({ word: 'later' })
  if (answer.word === 'later') expect(answer.lookAt).toBeGreaterThan(Date.now())
})

test('a queued turn that Redis left without a turn before it gets the place', async () => {
  const { session, id } = await store.running()
  const next = await store.submit(session)
  await store.redis.hdel(store.keys.session(session), 'waitingInteractionId', 'lastRequestId', 'requestStartedAt')
  expect(await verdict(next.id)).toMatchObject({ word: 'later' })
  expect(await inFlight(store, session)).toMatchObject({ waitingInteractionId: next.id })
  void id
})

test('a lost turn frees the place it held', async () => {
  const { session, id } = await store.running()
  const next = await store.submit(session)
  await store.redis.del(store.keys.interaction(id), store.keys.log(id))
  expect(await verdict(id)).toEqual({ word: 'gone' })
  expect(await inFlight(store, session)).toMatchObject({ waitingInteractionId: next.id })
  expect(await store.redis.exists(store.keys.interaction(id))).toBe(0)
})

test('a turn whose session is gone fails as stale and brings no session back', async () => {
  const { session, id } = await store.running()
  await store.redis.del(store.keys.session(session))
  expect(await verdict(id)).toEqual({ word: 'failed', code: 'stale', next: '' })
  expect(await store.redis.exists(store.keys.session(session))).toBe(0)
  expect(await failure(id)).toEqual(['failed', 'stale'])
})

describe('without a lease', () => {
  test('a turn that no agent took needs one, the agent that had the session last first', async () => {
    const { session, id } = await waiting()
    expect(await verdict(id)).toMatchObject({ word: 'pend', pool: 'coder', sticky: '' })
    const epoch = await store.attach(session, 'one')
    await store.leases.release(session, epoch, 'left')
    expect(await verdict(id)).toMatchObject({ word: 'pend', pool: 'coder', sticky: 'one' })
    expect((await store.events(id)).map((e) => e.type)).toEqual(['submitted'])
  })

  test('it fails as agent_unavailable at the limit, and is looked at again no later than that', async () => {
    const { id } = await waiting()
    const soon = await verdict(id, { agentWaitMs: 300 })
    if (soon.word !== 'pend') throw new Error(soon.word)
    expect(soon.lookAt).toBeLessThanOrEqual((await store.turns.read(id))!.startedAt + 300)
    expect(await verdict(id, { agentWaitMs: 0 })).toEqual({ word: 'failed', code: 'agent_unavailable', next: '' })
    expect(await failure(id)).toEqual(['failed', 'agent_unavailable'])
    expect(await verdict(id, { agentWaitMs: 0 })).toEqual({ word: 'unsealed' })
  })

  test('a turn that an agent had taken needs another one, up to the most attempts', async () => {
    const { session, id } = await store.running()
    await noLease(session)
    expect(await verdict(id, { agentWaitMs: 0 })).toMatchObject({ word: 'pend', sticky: 'one' })
    expect(await verdict(id, { maxAttempts: 1 })).toEqual({ word: 'failed', code: 'attempts_exhausted', next: '' })
    expect(await failure(id)).toEqual(['failed', 'attempts_exhausted'])
  })

  test('it fails as stale when it started too long ago', async () => {
    const { session, id } = await store.running()
    await noLease(session)
    expect(await verdict(id, { staleAfterMs: 0 })).toEqual({ word: 'failed', code: 'stale', next: '' })
    expect(await failure(id)).toEqual(['failed', 'stale'])
  })

  test('a turn with output fails as agent_disconnected, and the next one starts', async () => {
    const { session, id, epoch, request } = await store.running()
    const next = await store.submit(session)
    await store.append(request, epoch, 1, [text('half')])
    await noLease(session)
    expect(await verdict(id, { staleAfterMs: 0 })).toEqual({
      word: 'failed',
      code: 'agent_disconnected',
      next: next.id,
    })
    expect(await failure(id)).toEqual(['failed', 'agent_disconnected'])
    expect(await inFlight(store, session)).toEqual({ waitingInteractionId: next.id, lastRequestId: '', started: true })
  })

  test('or begins anew where the pool says so, as often as allowed; what the lost agent still says is fenced off', async () => {
    const { session, id, epoch, request } = await store.running()
    await store.append(request, epoch, 1, [text('half')])
    await noLease(session)
    expect(await verdict(id, { onAgentLoss: 'retry', maxAttempts: 2 })).toMatchObject({ word: 'reset', pool: 'coder' })
    expect(await store.folded(id)).toMatchObject({ status: 'waiting', entries: [] })
    expect(await store.turns.read(id)).toMatchObject({ status: 'waiting', request: '' })
    expect(await inFlight(store, session)).toEqual({ waitingInteractionId: id, lastRequestId: '', started: true })
    expect(await store.append(request, epoch, 2, [text('late')])).toMatchObject({ word: 'fenced' })
    const two = await store.attach(session, 'two')
    expect(await store.dispatch(session, two)).toMatchObject({ word: 'turn', request: requestOf(id, 2) })
    await store.append(requestOf(id, 2), two, 1, [text('again')])
    await noLease(session)
    expect(await verdict(id, { onAgentLoss: 'retry', maxAttempts: 2 })).toMatchObject({
      word: 'failed',
      code: 'agent_disconnected',
    })
  })

  test('no lease counts as lost before the time at which agents can have come back after an outage', async () => {
    const { session, id, epoch, request } = await store.running()
    await store.append(request, epoch, 1, [text('half')])
    await noLease(session)
    const until = Date.now() + 60_000
    expect(await verdict(id, { leasesCountFrom: until })).toEqual({ word: 'later', lookAt: until })
  })
})

describe('with a lease', () => {
  test('an agent that may have missed its turn is woken; one that talks is left alone', async () => {
    const { id, epoch, request } = await store.running()
    expect(await verdict(id)).toMatchObject({ word: 'wake' })
    await store.append(request, epoch, 1, [text('a')])
    expect(await verdict(id)).toMatchObject({ word: 'later' })
  })

  test('it is looked at again by its next deadline', async () => {
    const { id } = await store.running()
    const answer = await verdict(id, { agentSilentMs: 700 })
    if (answer.word !== 'wake') throw new Error(answer.word)
    expect(answer.lookAt).toBeLessThanOrEqual((await store.turns.read(id))!.lastActivityAt + 700)
  })

  test('a silent agent is told of first, and fails its turn when the silence is confirmed', async () => {
    const { id, epoch, request } = await store.running()
    await store.append(request, epoch, 1, [text('a')])
    expect(await verdict(id, { agentSilentMs: 0 })).toEqual({ word: 'silent', tip: 3 })
    expect((await store.turns.read(id))!.status).toBe('streaming')
    expect(await verdict(id, { agentSilentMs: 0 }, 3)).toEqual({ word: 'failed', code: 'agent_silent', next: '' })
    expect(await failure(id)).toEqual(['failed', 'agent_silent'])
  })

  test('one that spoke between the question and the verdict is not silent', async () => {
    const { id, epoch, request } = await store.running()
    await store.append(request, epoch, 1, [text('a')])
    const asked = await verdict(id, { agentSilentMs: 0 })
    if (asked.word !== 'silent') throw new Error(asked.word)
    await store.append(request, epoch, 2, [text('b')])
    expect(await verdict(id, { agentSilentMs: 0 }, asked.tip)).toEqual({ word: 'silent', tip: 4 })
    expect((await store.turns.read(id))!.status).toBe('streaming')
  })

  test('a turn that waits for its first word is stale at its limit, however lively its agent', async () => {
    const { id, epoch, request } = await store.running()
    await store.append(request, epoch, 1, [])
    expect(await verdict(id, { staleAfterMs: 0 })).toEqual({ word: 'failed', code: 'stale', next: '' })
  })

  test('a lost agent has its grace period, whatever the other deadlines say', async () => {
    const { session, id, epoch, request } = await store.running()
    await store.append(request, epoch, 1, [text('a')])
    await store.leases.release(session, epoch, 'lost')
    const answer = await verdict(id, { agentSilentMs: 0, staleAfterMs: 0 })
    if (answer.word !== 'later') throw new Error(answer.word)
    expect(answer.lookAt).toBeGreaterThan(Date.now() + 5000)
    expect(answer.lookAt).toBeLessThanOrEqual(Date.now() + 11_000)
  })
})

describe('a lease that ran out although nobody gave it up', () => {
  const gone = async () => {
    const turn = await store.running()
    await store.append(turn.request, turn.epoch, 1, [text('a')])
    await store.redis.del(store.keys.lease(turn.session)) // as when it was not renewed
    return turn
  }

  test('leaves its agent the grace period, counted from when that is seen', async () => {
    const { id } = await gone()
    const answer = await verdict(id, { agentGraceMs: 60_000 })
    if (answer.word !== 'later') throw new Error(answer.word)
    expect(answer.lookAt).toBeGreaterThan(Date.now() + 50_000)
    expect(await verdict(id, { agentGraceMs: 60_000 })).toEqual(answer)
    expect(await verdict(id, { agentGraceMs: 0 })).toMatchObject({ word: 'failed', code: 'agent_disconnected' })
  })

  test('and anew when it has come back and is missed again', async () => {
    const { session, id, request } = await gone()
    await verdict(id, { agentGraceMs: 1 })
    await store.attach(session, 'one', { holding: { request, acked: 1 } })
    await store.redis.del(store.keys.lease(session))
    expect(await verdict(id, { agentGraceMs: 60_000 })).toMatchObject({ word: 'later' })
  })
})

describe('after a time in which nobody could act', () => {
  // the outage ended just now and was an hour long
  const away = () => ({ awayUntil: Date.now() + 60_000, awayForMs: 3600_000 })

  test('every deadline that was running moves out by its length', async () => {
    const untaken = await waiting()
    expect(await verdict(untaken.id, { agentWaitMs: 0, ...away() })).toMatchObject({ word: 'pend' })
    const untold = await store.running()
    expect(await verdict(untold.id, { staleAfterMs: 0, agentSilentMs: 0, ...away() })).toMatchObject({ word: 'wake' })
    const talking = await store.running()
    await store.append(talking.request, talking.epoch, 1, [text('a')])
    expect(await verdict(talking.id, { agentSilentMs: 0, ...away() })).toMatchObject({ word: 'later' })
  })

  test('a deadline that began after it is not moved', async () => {
    const { id } = await waiting()
    expect(await verdict(id, { agentWaitMs: 0, awayUntil: 5, awayForMs: 3600_000 })).toMatchObject({ word: 'failed' })
  })
})

test('two sweeps with the same verdict at the same time fail the turn once', async () => {
  const { session, id } = await waiting()
  const next = await store.submit(session)
  const answers = await Promise.all(Array.from({ length: 8 }, () => verdict(id, { agentWaitMs: 0 })))
  expect(answers.map((it) => it.word).sort()).toEqual(['failed', ...Array(7).fill('unsealed')])
  expect(await failure(id)).toEqual(['failed', 'agent_unavailable'])
  expect(await inFlight(store, session)).toMatchObject({ waitingInteractionId: next.id })
})

test('a turn that ends while it is judged is not judged', async () => {
  const { id, epoch, request } = await store.running()
  const [, answer] = await Promise.all([
    store.append(request, epoch, 1, [completed]),
    verdict(id, { staleAfterMs: 0, agentSilentMs: 0, agentWaitMs: 0 }),
  ])
  expect(answer).toEqual({ word: 'unsealed' })
  expect((await store.turns.read(id))!.status).toBe('completed')
})
