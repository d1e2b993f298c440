import type { Interaction } from '../../../src/core/core.js'
import { api, post, type Posted } from '../../support/client.js'
import { eventually } from '../../support/eventually.js'
import { startNetwork } from '../../support/network.js'
import { completed, text } from '../../support/raw-agent.js'

test('a message is taken at once, with links to go on by', async () => {
  await using net = await startNetwork()
  const reply = await api<Posted & { links: Record<string, string> }>(net.url(0), '/messages', {
    pool: 'coder',
    session: { title: 'A talk', metadata: { a: '1' } },
    text: 'hello',
    metadata: { b: '2' },
  })
  const { session, interaction, links } = reply.body
  const self = `/api/v1/interactions/${interaction}`
  expect(reply.status).toBe(202)
  expect(reply.headers.get('location')).toBe(self)
  expect(reply.headers.get('throughline-session-id')).toBe(session)
  expect(reply.headers.get('throughline-interaction-id')).toBe(interaction)
  expect(links).toEqual({ interaction: self, events: `${self}/events`, cancel: `${self}/cancel` })
  expect((await api(net.url(0), `/sessions/${session}`)).body).toMatchObject({ title: 'A talk', metadata: { a: '1' } })
  const turn = await api<Interaction>(net.url(0), `/interactions/${interaction}`)
  expect(turn.body).toMatchObject({ input: 'hello', metadata: { b: '2' }, status: 'waiting' })
})

test('a message sent twice with one key is one message, however it is asked for', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder' })
  const headers = { 'idempotency-key': 'once' }
  const message = { pool: 'coder', text: 'hello' }
  const first = await api<Posted>(net.url(0), '/messages', message, { headers })
  const waited = api<Interaction>(net.url(1), '/messages', { ...message, wait: true }, { headers })
  const { request } = await agent.turn()
  agent.send(request, 1, text('hi'), completed)
  expect((await waited).body).toMatchObject({ id: first.body.interaction, status: 'completed', text: 'hi' })
  expect((await waited).headers.get('idempotent-replayed')).toBe('true')
  expect(agent.turns).toHaveLength(1)
  const other = await api(net.url(1), '/messages', { ...message, text: 'other' }, { headers })
  expect(other.status).toBe(422)
})

test('a blocking message answers with the turn when it has ended, even when that is a failure', async () => {
  await using net = await startNetwork()
  const agent = await net.rawAgent({ pool: 'coder' })
  const waited = api<Interaction>(net.url(0), '/messages', { pool: 'coder', text: 'x', wait: true })
  const { request } = await agent.turn()
  agent.send(request, 1, text('half'), { type: 'failed', code: 'out_of_luck', message: 'No luck.' })
  expect(await waited).toMatchObject({
    status: 200,
    body: { status: 'failed', text: 'half', error: { code: 'out_of_luck', message: 'No luck.' } },
  })
})

test('at the wait limit a blocking message answers with the turn as it is', async () => {
  await using net = await startNetwork({ env: { WAIT_LIMIT_MS: '200' } })
  const { status, body } = await api<Interaction>(net.url(0), '/messages', { pool: 'coder', text: 'x', wait: true })
  expect([status, body.status]).toEqual([200, 'waiting'])
})

test('a blocking message is answered with the turn as it is when the replica leaves', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
  const waited = api<Interaction>(net.url(0), '/messages', { pool: 'coder', text: 'x', wait: true })
  const { request } = await agent.turn()
  agent.send(request, 1, text('half'))
  await agent.acked(request, 1)
  await net.replicas[0]!.drain()
  expect((await waited).body).toMatchObject({ status: 'streaming', text: 'half' })
})

test('a cancel ends the turn at once, and is told to the agent', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder', replica: 0 })
  const { session, interaction } = await post(net.url(0), { pool: 'coder' }, 'x')
  const { request } = await agent.turn()
  const cancelled = await api<Interaction>(net.url(1), `/interactions/${interaction}/cancel`, {})
  expect(cancelled).toMatchObject({ status: 200, body: { id: interaction, status: 'cancelled' } })
  await eventually(() => agent.cancels.some((cancel) => cancel.request === request))
  const again = await api<Interaction>(net.url(0), `/interactions/${interaction}/cancel`, undefined, { method: 'POST' })
  expect(again).toMatchObject({ status: 200, body: { status: 'cancelled' } })
  const idle = await api(net.url(0), `/sessions/${session}/cancel`, {})
  expect(idle).toMatchObject({ status: 200, body: { interaction: null } })
})

test('a session can be cancelled without knowing its turn', async () => {
  await using net = await startNetwork()
  const { session, interaction } = await post(net.url(0), { pool: 'coder' }, 'x')
  const reply = await api(net.url(0), `/sessions/${session}/cancel`, {})
  expect(reply.body).toMatchObject({ interaction: { id: interaction, status: 'cancelled' } })
  expect(reply.headers.get('throughline-interaction-id')).toBe(interaction)
})

test('a full queue says when to come again', async () => {
  await using net = await startNetwork({ env: { QUEUE_LIMIT: '1' } })
  const { session } = await post(net.url(0), { pool: 'coder' }, 'A')
  await post(net.url(0), { session }, 'B')
  const reply = await api(net.url(0), `/sessions/${session}/messages`, { text: 'C' })
  expect(reply).toMatchObject({ status: 429, body: { error: { code: 'queue_full', retry: true } } })
  expect(reply.headers.get('retry-after')).toBe('5')
})
