import { newInteractionId, newSessionId } from '../../src/core/mint.js'
import { completed, inFlight, openTestStore, text, type TestStore } from './open.js'

let store: TestStore
beforeAll(async () => {
  store = await openTestStore()
})
afterAll(() => store[Symbol.asyncDispose]())

const message = (session: `ses_${string}`, more: object = {}) => ({
  interaction: newInteractionId(session),
  session,
  input: 'hello',
  metadata: { k: 'v' },
  interrupt: '' as const,
  queueLimit: 10,
  historyLimit: 10,
  ...more,
})
const CONTENT = ['input', 'metadata', 'note', 'output']

/** A turn that has ended and is sealed. */
async function ended(more: object = {}) {
  const session = await store.session()
  const given = message(session, { note: '{"a":1}', ...more })
  await store.sessions.submit(given)
  const epoch = await store.attach(session)
  const turn = await store.dispatch(session, epoch)
  if (turn.word !== 'turn') throw new Error(turn.word)
  await store.append(turn.request, epoch, 1, [text('said'), completed])
  await store.turns.seal(given.interaction, [{ id: 't', kind: 'text', text: 'said' }])
  return { session, id: given.interaction, epoch, given }
}

test('a forgotten turn leaves its session and says nothing any more; its log stays a minute for those who read it', async () => {
  const { session, id, given } = await ended()
  expect(await store.turns.note(id)).toBe('{"a":1}')
  for (const _ of [1, 2]) expect(await store.turns.forget(id)).toBe('completed') // it may run twice
  expect(await store.sessions.interactions(session)).toEqual([])
  const husk = await store.hash(store.keys.interaction(id))
  expect(Object.keys(husk).filter((field) => CONTENT.includes(field))).toEqual([])
  expect((await store.turns.read(id))!.forgottenAt).toBeGreaterThan(0)
  expect(await store.redis.pttl(store.keys.log(id))).toBeLessThanOrEqual(60_000)
  expect((await store.events(id)).at(-1)!.type).toBe('completed')
  expect(await store.sessions.submit(given)).toMatchObject({ word: 'known' }) // the same POST again is not a new turn
  expect(await store.turns.seal(id, [{ id: 't', kind: 'text', text: 'said' }])).toBe('sealed')
  expect(await store.immortal()).toEqual([])
})

test('a running turn that is forgotten is cancelled, and the next one starts; a waiting one leaves the queue', async () => {
  const { session, id } = await store.running()
  const next = await store.submit(session)
  const last = await store.submit(session)
  expect(await store.turns.forget(last.id)).toBe('queued')
  expect(await store.sessions.queue(session)).toEqual([next.id])
  expect(await store.turns.forget(id)).toBe('waiting')
  expect(await inFlight(store, session)).toMatchObject({ waitingInteractionId: next.id })
  for (const gone of [id, last.id]) {
    expect((await store.events(gone)).at(-1)).toMatchObject({ type: 'cancelled', reason: 'deleted' })
    expect(await store.turns.seal(gone, [{ id: 't', kind: 'text', text: 'said' }])).toBe('ok')
    expect(await store.hash(store.keys.interaction(gone))).not.toHaveProperty('output')
  }
  expect(await store.turns.forget(newInteractionId(newSessionId()))).toBe('gone')
})

test('of an ephemeral turn nothing is kept once it is sealed', async () => {
  const { session, id } = await ended({ ephemeral: true })
  expect(await store.sessions.interactions(session)).toEqual([])
  const husk = await store.hash(store.keys.interaction(id))
  expect(Object.keys(husk).filter((field) => CONTENT.includes(field))).toEqual([])
  expect(await store.turns.read(id)).toMatchObject({ ephemeral: true, status: 'completed' })
  expect(await store.redis.pttl(store.keys.log(id))).toBeLessThanOrEqual(60_000)
})

test('a message that must follow a turn is refused once the session has gone on, forgotten turns included', async () => {
  const { session, id } = await ended()
  const second = message(session, { follows: id })
  expect(await store.sessions.submit(second)).toMatchObject({ word: 'ok' })
  expect(await store.sessions.submit(second)).toMatchObject({ word: 'known' }) // also when it is made again
  expect(await store.sessions.submit(message(session, { follows: id }))).toEqual({ word: 'moved' })
  await store.turns.forget(second.interaction)
  expect(await store.sessions.submit(message(session, { follows: id }))).toEqual({ word: 'moved' }) // the agent was told
})

test('a session without a pool gets that of its first message; another pool is refused', async () => {
  const id = newSessionId()
  await store.sessions.create({ id, owner: 'me', pool: '', title: '', metadata: {}, note: 'n', nowMs: Date.now() })
  expect(await store.sessions.submit(message(id))).toEqual({ word: 'other', pool: '' })
  expect(await store.sessions.submit(message(id, { pool: 'coder' }))).toMatchObject({ word: 'ok', pool: 'coder' })
  expect(await store.sessions.submit(message(id, { pool: 'writer' }))).toEqual({ word: 'other', pool: 'coder' })
  expect(await store.sessions.submit(message(id))).toMatchObject({ word: 'ok', pool: 'coder' })
  expect(await store.sessions.read(id)).toMatchObject({ pool: 'coder', note: 'n' })
})

test('a session is described anew, and one that is gone is not made by it', async () => {
  const session = await store.session()
  expect(await store.sessions.describe(session, { a: 'b' })).toBe(true)
  expect((await store.sessions.read(session))!.metadata).toEqual({ a: 'b' })
  const gone = newSessionId()
  expect(await store.sessions.describe(gone, { a: 'b' })).toBe(false)
  expect(await store.redis.exists(store.keys.session(gone))).toBe(0)
})
