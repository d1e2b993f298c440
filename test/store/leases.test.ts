import { newSessionId } from '../../src/core/mint.js'
import { requestOf } from '../../src/protocol/ids.js'
import { completed, FAR, inFlight, openTestStore, text, claimant, type TestStore } from './open.js'

let store: TestStore
beforeAll(async () => void (store = await openTestStore()))
afterAll(() => store[Symbol.asyncDispose]())

const lease = (session: `ses_${string}`) => store.hash(store.keys.lease(session))

describe('attach', () => {
  test('takes the lease, and the epoch grows with each one, also over the end of a lease', async () => {
    const session = await store.session()
    const first = await store.attach(session)
    const second = await store.attach(session)
    expect(second).toBe(first + 1)
    await store.leases.release(session, second, 'left')
    expect(await store.attach(session, 'two')).toBeGreaterThan(second)
    expect(await lease(session)).toMatchObject({ agent: 'two', state: 'active' })
    expect(await store.redis.pttl(store.keys.lease(session))).toBeGreaterThan(0)
  })

  test('two in the same millisecond have two epochs, and only the later one may write', async () => {
    const { session, request } = await store.running()
    const holding = { request, acked: 0 }
    const [a, b] = await Promise.all([
      store.attach(session, 'one', { holding }),
      store.attach(session, 'one', { holding }),
    ])
    expect(new Set([a, b]).size).toBe(2)
    const [earlier, later] = [a, b].sort((x, y) => x - y) as [number, number]
    expect(await store.append(request, earlier, 1, [text('old')])).toEqual({ word: 'superseded', epoch: later })
    expect(await store.append(request, later, 1, [text('new')])).toMatchObject({ word: 'ok' })
    expect(Number((await lease(session))['epoch'])).toBe(later)
  })

  test('of two agents at the same time one has it, and the other is told who', async () => {
    const session = await store.session()
    const answers = await Promise.all(
      ['one', 'two'].map((agent) => store.leases.attach(session, claimant(agent), { incarnation: 'x' })),
    )
    expect(answers.map((it) => it.word).sort()).toEqual(['ok', 'taken'])
    const loser = answers.find((it) => it.word === 'taken')
    expect(loser).toEqual({ word: 'taken', agent: (await lease(session))['agent'] })
  })

  test('of one agent’s connections the newest has it, in whatever order they come, for as long as it is there', async () => {
    const session = await store.session()
    const at = (since: number) => store.leases.attach(session, { ...claimant('one'), since }, { incarnation: 'x' })
    expect(await at(2)).toMatchObject({ word: 'ok' })
    expect(await at(1)).toEqual({ word: 'superseded' })
    const newest = await at(3)
    expect(newest).toMatchObject({ word: 'ok' })
    expect(await at(2)).toEqual({ word: 'superseded' })
    await store.leases.release(session, newest.word === 'ok' ? newest.epoch : 0, 'lost')
    expect(await at(2)).toMatchObject({ word: 'ok' })
  })

  test('a lost agent keeps its session for the grace period; then another may have it', async () => {
    await using store = await openTestStore({ agentGraceMs: 60_000 })
    const session = await store.session()
    const epoch = await store.attach(session, 'one')
    await store.leases.release(session, epoch, 'lost')
    expect(await store.leases.holder(session)).toEqual({ agent: 'one', connected: false })
    expect(await store.leases.attach(session, claimant('two'), { incarnation: 'x' })).toEqual({
      word: 'taken',
      agent: 'one',
    })
    await store.redis.pexpire(store.keys.lease(session), 1) // the grace period is over
    await new Promise((resolve) => setTimeout(resolve, 5))
    expect(await store.leases.attach(session, claimant('two'), { incarnation: 'x' })).toMatchObject({ word: 'ok' })
  })

  test('tells the turn in hand and the last event the log has of it', async () => {
    const { session, id, epoch, request } = await store.running()
    await store.append(request, epoch, 1, [text('a'), text('b')])
    expect(
      await store.leases.attach(session, claimant('one'), { holding: { request, acked: 1 }, incarnation: 'x' }),
    ).toEqual({ word: 'ok', epoch: epoch + 1, interaction: id, request, status: 'streaming', after: 2, pool: 'coder' })
    expect(await store.turns.head(id)).toMatchObject({ incarnation: '' })
  })

  test('of a session that is gone brings nothing back', async () => {
    const session = newSessionId()
    expect(await store.leases.attach(session, claimant('one'), { incarnation: 'x' })).toEqual({ word: 'gone' })
    expect(await store.redis.exists(store.keys.session(session), store.keys.lease(session))).toBe(0)
  })

  test('gives at least the epoch that the agent had, when Redis has lost it', async () => {
    const session = await store.session()
    expect(await store.attach(session, 'one', { epochAbove: 41 })).toBe(42)
    expect(await store.attach(session, 'one', { epochAbove: 7 })).toBe(43)
  })

  test('of an agent that had more acknowledged than the log has gives the log a new incarnation', async () => {
    const { session, id, epoch, request } = await store.running()
    await store.append(request, epoch, 1, [text('a')])
    const answer = await store.leases.attach(session, claimant('one'), {
      holding: { request, acked: 3 },
      incarnation: 'lost2',
    })
    expect(answer).toMatchObject({ word: 'ok', request, after: 1 })
    expect(await store.turns.head(id)).toMatchObject({ tip: 3, incarnation: 'lost2' })
  })

  test('a dispatch that Redis lost is restored by the word of the agent that has it in hand', async () => {
    const session = await store.session()
    const { id } = await store.submit(session)
    const request = requestOf(id, 2) // two dispatches are lost, and whatever was written after them
    const answer = await store.leases.attach(session, claimant('one'), {
      holding: { request, acked: 0 },
      incarnation: 'lost3',
    })
    expect(answer).toMatchObject({ word: 'ok', interaction: id, request, status: 'waiting', after: 0 })
    expect(await store.turns.read(id)).toMatchObject({ request, attempt: 2, status: 'waiting' })
    expect(await inFlight(store, session)).toMatchObject({ lastRequestId: request })
    // readers may have seen events that the log does not have: what they know ends here
    expect(await store.turns.head(id)).toMatchObject({ incarnation: 'lost3' })
    expect(await store.folded(id)).toMatchObject({ status: 'waiting', attempt: 2 })
    if (answer.word !== 'ok') return
    expect(await store.append(request, answer.epoch, 1, [text('a'), completed])).toMatchObject({ word: 'ok', after: 2 })
    expect(await store.folded(id)).toMatchObject({ status: 'completed', attempt: 2 })
  })

  test('an agent that has an older attempt, another turn, or one that is over in hand changes nothing', async () => {
    const { session, id, epoch, request } = await store.running()
    const second = await store.dispatch(session, epoch, { heard: request })
    if (second.word !== 'turn') throw new Error(second.word)
    const before = await store.turns.read(id)
    const other = requestOf((await store.running()).id, 9)
    for (const held of [request, other]) {
      const answer = await store.leases.attach(session, claimant('one'), {
        holding: { request: held, acked: 9 },
        incarnation: 'x',
      })
      expect(answer).toMatchObject({ word: 'ok', request: second.request })
      expect(await store.turns.read(id)).toEqual(before)
    }
    await store.turns.cancel(id, 'cancelled')
    expect(
      await store.leases.attach(session, claimant('one'), {
        holding: { request: requestOf(id, 7), acked: 9 },
        incarnation: 'x',
      }),
    ).toMatchObject({ word: 'ok', interaction: '', request: '' })
    expect((await store.turns.read(id))!.attempt).toBe(2)
  })

  test('with a turn in hand whose hash is lost brings no key back', async () => {
    const { session, id, request } = await store.running()
    await store.redis.del(store.keys.interaction(id), store.keys.log(id))
    await store.leases.attach(session, claimant('one'), {
      holding: { request: requestOf(id, 2), acked: 3 },
      incarnation: 'x',
    })
    await store.leases.attach(session, claimant('one'), { holding: { request, acked: 3 }, incarnation: 'x' })
    expect(await store.redis.exists(store.keys.interaction(id), store.keys.log(id))).toBe(0)
  })
})

describe('renew', () => {
  test('keeps the lease alive and tells what is in flight', async () => {
    const { session, id, epoch, request } = await store.running()
    await store.redis.pexpire(store.keys.lease(session), 500)
    expect(await store.leases.renew(session, epoch, claimant('one'))).toEqual({ word: 'ok', interaction: id, request })
    expect(await store.redis.pttl(store.keys.lease(session))).toBeGreaterThan(10_000)
  })

  test('takes up a lease that expired unclaimed', async () => {
    const session = await store.session()
    const epoch = await store.attach(session)
    await store.redis.del(store.keys.lease(session))
    expect(await store.leases.renew(session, epoch, claimant('one'))).toMatchObject({ word: 'ok' })
    expect(await lease(session)).toMatchObject({ agent: 'one', epoch: String(epoch), state: 'active' })
    expect(await store.immortal()).toEqual([])
  })

  test('that crosses the loss of its connection does not make the agent look connected', async () => {
    const session = await store.session()
    const epoch = await store.attach(session)
    await store.leases.release(session, epoch, 'lost')
    expect(await store.leases.renew(session, epoch, claimant('one'))).toMatchObject({ word: 'superseded' })
    expect(await store.leases.holder(session)).toEqual({ agent: 'one', connected: false })
    expect(await store.redis.pttl(store.keys.lease(session))).toBeLessThanOrEqual(10_000)
  })

  test('by an older epoch is refused', async () => {
    const session = await store.session()
    const old = await store.attach(session, 'one')
    await store.leases.release(session, old, 'left')
    const now = await store.attach(session, 'two')
    expect(await store.leases.renew(session, old, claimant('one'))).toEqual({ word: 'superseded', epoch: now })
    expect(await store.leases.holder(session)).toEqual({ agent: 'two', connected: true })
  })

  test.each(['done', 'left'] as const)('that crosses a release as %s does not bring the lease back', async (how) => {
    const session = await store.session()
    const epoch = await store.attach(session, 'one')
    await Promise.all([store.leases.release(session, epoch, how), store.leases.renew(session, epoch, claimant('one'))])
    expect(await store.leases.holder(session)).toBeNull()
    expect(await store.attach(session, 'two')).toBeGreaterThan(epoch)
  })

  test('keeps a session alive whose turn runs longer than a session lives', async () => {
    await using store = await openTestStore({ sessionTtlMs: 20_000 })
    const { session, id, epoch } = await store.running()
    await store.redis.pexpire(store.keys.session(session), 1000)
    await store.redis.pexpire(store.keys.interaction(id), 1000)
    await store.leases.renew(session, epoch, claimant('one'))
    expect(await store.redis.pttl(store.keys.session(session))).toBeGreaterThan(15_000)
    expect(await store.redis.pttl(store.keys.interaction(id))).toBeGreaterThan(15_000)
  })

  test('does not keep a session alive in which nothing runs', async () => {
    const session = await store.session()
    const epoch = await store.attach(session)
    await store.redis.pexpire(store.keys.session(session), 1000)
    await store.leases.renew(session, epoch, claimant('one'))
    expect(await store.redis.pttl(store.keys.session(session))).toBeLessThanOrEqual(1000)
  })

  test('of a session that is gone brings nothing back', async () => {
    const session = newSessionId()
    expect(await store.leases.renew(session, 1, claimant('one'))).toEqual({ word: 'gone' })
    expect(await store.redis.exists(store.keys.lease(session))).toBe(0)
  })
})

describe('release', () => {
  test('as done is refused while a turn is in flight', async () => {
    const { session, id, epoch, request } = await store.running()
    expect(await store.leases.release(session, epoch, 'done')).toEqual({ word: 'busy', interaction: id })
    expect(await store.leases.holder(session)).toEqual({ agent: 'one', connected: true })
    await store.append(request, epoch, 1, [completed])
    expect(await store.leases.release(session, epoch, 'done')).toEqual({ word: 'ok', interaction: '' })
    expect(await store.leases.holder(session)).toBeNull()
  })

  test('as lost keeps the lease for the grace period, as left frees it at once; both tell the turn in flight', async () => {
    const lost = await store.running()
    expect(await store.leases.release(lost.session, lost.epoch, 'lost')).toEqual({ word: 'ok', interaction: lost.id })
    const left = await store.redis.pttl(store.keys.lease(lost.session))
    expect(left).toBeGreaterThan(5000)
    expect(left).toBeLessThanOrEqual(10_000)
    const gone = await store.running()
    expect(await store.leases.release(gone.session, gone.epoch, 'left')).toEqual({ word: 'ok', interaction: gone.id })
    expect(await store.leases.holder(gone.session)).toBeNull()
  })

  test('by an older epoch, or a second time, is refused and takes nothing from the new holder', async () => {
    const session = await store.session()
    const old = await store.attach(session, 'one')
    const now = await store.attach(session, 'one')
    for (const how of ['done', 'lost', 'left'] as const)
      expect(await store.leases.release(session, old, how)).toMatchObject({ word: 'superseded' })
    expect(await store.leases.holder(session)).toEqual({ agent: 'one', connected: true })
    await store.leases.release(session, now, 'left')
    expect(await store.leases.release(session, now, 'left')).toMatchObject({ word: 'superseded' })
  })

  test('of an agent that left does not lose its turn: the next one gets it', async () => {
    const { session, id, epoch } = await store.running()
    await store.leases.release(session, epoch, 'left')
    const next = await store.attach(session, 'two')
    expect(await store.dispatch(session, next)).toMatchObject({ word: 'turn', interaction: id, attempt: 2 })
    expect(await store.turns.expire(id, FAR)).toMatchObject({ word: 'wake' })
  })
})
