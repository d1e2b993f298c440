import type { AgentEvent } from '../../src/protocol/events.js'
import { Permissions } from '../../src/sdk/agent-permission.js'
import type { Ask } from '../../src/sdk/agent.js'

const how: Ask = { title: 'May I?', options: [{ id: 'yes', name: 'Yes', kind: 'allow_once' }] }

function asking(attempt: number, ask: Partial<Ask> = {}) {
  const said: AgentEvent[] = []
  const over = new AbortController()
  const permissions = new Permissions(attempt)
  const put = (event: AgentEvent) => Promise.resolve(void said.push(event))
  const decision = permissions.ask({ ...how, ...ask }, put, over.signal)
  const [asked] = said
  if (asked?.type !== 'permission') throw new Error('nothing was asked')
  return { permissions, decision, said, over, id: asked.permission }
}

test('the first answer counts; it is said once that it is settled', async () => {
  const { permissions, decision, said, id } = asking(1)
  permissions.answer('another', 'no')
  permissions.answer(id, 'yes')
  permissions.answer(id, 'no')
  expect(await decision).toEqual({ option: 'yes', by: 'client' })
  permissions.answer(id, 'no')
  expect(said.slice(1)).toEqual([{ type: 'permission.settled', permission: id, option: 'yes', by: 'client' }])
})

test('a question of another attempt has another name, so that a late answer cannot meet it', async () => {
  const [first, second] = [asking(1), asking(2, { timeoutMs: 20 })]
  second.permissions.answer(first.id, 'yes')
  expect(await second.decision).toEqual({ option: null, by: 'timeout' })
  first.over.abort()
  expect(await first.decision).toEqual({ option: null, by: 'cancel' })
  expect(first.said).toHaveLength(1) // nobody listens any more
})

test('what cannot be said is thrown, and nothing waits', async () => {
  const refused = new Permissions(1).ask(
    how,
    () => Promise.reject(new TypeError('too long')),
    new AbortController().signal,
  )
  await expect(refused).rejects.toThrow('too long')
})
