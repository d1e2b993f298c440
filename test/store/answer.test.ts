import type { AgentEvent } from '../../src/protocol/events.js'
import { completed, openTestStore, text, type TestStore } from './open.js'

let store: TestStore
beforeAll(async () => void (store = await openTestStore()))
afterAll(() => store[Symbol.asyncDispose]())

const ask = (permission = 'p'): AgentEvent => ({
  type: 'permission',
  permission,
  title: 'May I?',
  options: [
    { id: 'yes', name: 'Yes', kind: 'allow_once' },
    { id: 'no', name: 'No', kind: 'reject_once' },
  ],
})
const settled = (option: string | null, permission = 'p'): AgentEvent => ({
  type: 'permission.settled',
  permission,
  option,
  by: 'client',
})

test('the first answer counts, is written once however often it is given, and waits for the agent until it has settled it', async () => {
  const { session, id, epoch, request } = await store.running()
  await store.append(request, epoch, 1, [ask()])
  expect(await store.turns.answer(id, 'p', 'yes')).toEqual({ word: 'ok' })
  expect(await store.turns.answer(id, 'p', 'yes')).toEqual({ word: 'ok' })
  expect(await store.turns.answer(id, 'p', 'no')).toEqual({ word: 'answered', option: 'yes' })
  const held = { word: 'held', request, answers: [{ permission: 'p', option: 'yes' }] }
  expect(await store.dispatch(session, epoch, { holding: request })).toMatchObject(held)
  expect(await store.dispatch(session, epoch, { holding: request })).toMatchObject(held)
  await store.append(request, epoch, 2, [settled('yes')])
  expect(await store.dispatch(session, epoch, { holding: request })).toMatchObject({ word: 'held', answers: [] })
  expect(await store.turns.answer(id, 'p', 'yes')).toEqual({ word: 'unknown' })
  expect((await store.events(id)).map((event) => event.type)).toEqual([
    'submitted',
    'dispatched',
    'permission',
    'permission.answered',
    'permission.settled',
  ])
})

test('what was not asked, has no such option, is over, or never was, is told apart', async () => {
  const { id, epoch, request } = await store.running()
  expect(await store.turns.answer(id, 'p', 'yes')).toEqual({ word: 'unknown' })
  await store.append(request, epoch, 1, [ask()])
  expect(await store.turns.answer(id, 'p', 'maybe')).toEqual({ word: 'option' })
  await store.append(request, epoch, 2, [completed])
  expect(await store.turns.answer(id, 'p', 'yes')).toEqual({ word: 'ended' })
  expect(await store.turns.answer(`int_${id.slice(4, 31)}0000000000`, 'p', 'yes')).toEqual({ word: 'gone' })
})

test('a batch that is sent again does not open again what is settled', async () => {
  const { id, epoch, request } = await store.running()
  const all = [ask('p'), ask('q'), settled('yes', 'p'), text('go')]
  await store.append(request, epoch, 1, all)
  await store.append(request, epoch, 1, all)
  await store.append(request, epoch, 1, all.slice(0, 1))
  expect(await store.turns.answer(id, 'p', 'no')).toEqual({ word: 'unknown' })
  expect(await store.turns.answer(id, 'q', 'no')).toEqual({ word: 'ok' })
})

test('an agent that is lost takes its questions with it', async () => {
  const { session, id, epoch, request } = await store.running()
  await store.append(request, epoch, 1, [ask()])
  await store.turns.answer(id, 'p', 'yes')
  const again = await store.dispatch(session, epoch, { heard: request, onAgentLoss: 'retry' })
  expect(again).toMatchObject({ word: 'turn', attempt: 2 })
  expect(await store.turns.answer(id, 'p', 'yes')).toEqual({ word: 'unknown' })
  expect(await store.folded(id)).not.toHaveProperty('permissions')
})

test('ids that look like numbers, or like nothing at all, are ids', async () => {
  const { session, id, epoch, request } = await store.running()
  const odd = ['1', '2', '{"}', 'ü 😀', 'a/b']
  await store.append(request, epoch, 1, odd.map(ask))
  for (const permission of odd) expect(await store.turns.answer(id, permission, 'no')).toEqual({ word: 'ok' })
  const held = await store.dispatch(session, epoch, { holding: request })
  expect(held.word === 'held' && held.answers.map((it) => it.permission).sort()).toEqual([...odd].sort())
})
