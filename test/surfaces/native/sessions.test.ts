import type { Interaction, Session } from '../../../src/core/core.js'
import { sessionId } from '../../../src/protocol/ids.js'
import { api, post } from '../../support/client.js'
import { startNetwork } from '../../support/network.js'
import { completed, text } from '../../support/raw-agent.js'

const NOBODYS = sessionId(0, new Uint8Array(16))

test('a session is made, listed, read and forgotten, on any replica', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const given = { pool: 'coder', title: 'Fix it', metadata: { ticket: '7' } }
  const made = await api<Session>(net.url(0), '/sessions', given)
  expect(made.status).toBe(201)
  expect(made.headers.get('location')).toBe(`/api/v1/sessions/${made.body.id}`)
  expect(made.body).toMatchObject({ ...given, turns: 0, current: null, queued: 0 })

  const { body: second } = await api<Session>(net.url(1), '/sessions', { pool: 'coder' })
  const { body: list } = await api<{ sessions: Session[]; next: string }>(net.url(1), '/sessions?limit=1')
  expect(list.sessions.map(({ id }) => id)).toEqual([second.id])
  const rest = await api<{ sessions: Session[] }>(net.url(0), `/sessions?before=${list.next}`)
  expect(rest.body.sessions.map(({ id }) => id)).toEqual([made.body.id])

  const gone = await api(net.url(1), `/sessions/${made.body.id}`, undefined, { method: 'DELETE' })
  expect(gone.status).toBe(204)
  expect((await api(net.url(0), `/sessions/${made.body.id}`)).status).toBe(404)
})

test('the same Idempotency-Key makes the same session, another body is refused', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const headers = { 'idempotency-key': '"a-key"' }
  const first = await api<Session>(net.url(0), '/sessions', { pool: 'coder', title: 'A' }, { headers })
  const again = await api<Session>(net.url(1), '/sessions', { title: 'A', pool: 'coder' }, { headers })
  expect(again.body.id).toBe(first.body.id)
  expect(first.headers.get('idempotent-replayed')).toBeNull()
  expect(again.headers.get('idempotent-replayed')).toBe('true')
  const other = await api(net.url(1), '/sessions', { pool: 'coder', title: 'B' }, { headers })
  expect(other).toMatchObject({ status: 422, body: { error: { code: 'idempotency_key_reused' } } })
})

test('what was said and what waits can be read', async () => {
  await using net = await startNetwork()
  const agent = await net.rawAgent({ pool: 'coder' })
  const first = await post(net.url(0), { pool: 'coder' }, 'A')
  const { request } = await agent.turn(0)
  agent.send(request, 1, text('to A'), completed)
  const second = await post(net.url(0), { session: first.session }, 'B')
  await agent.turn(1)
  const third = await post(net.url(0), { session: first.session }, 'C')

  const path = `/sessions/${first.session}`
  const page = await api<{ interactions: Interaction[]; next: string }>(net.url(0), `${path}/interactions?limit=2`)
  expect(page.body.interactions.map(({ input, text }) => [input, text])).toEqual([
    ['A', 'to A'],
    ['B', ''],
  ])
  const rest = await api<{ interactions: Interaction[] }>(net.url(0), `${path}/interactions?after=${page.body.next}`)
  expect(rest.body).toMatchObject({ interactions: [{ id: third.interaction, status: 'queued' }], next: null })
  const queue = await api<{ current: Interaction; waiting: Interaction[] }>(net.url(0), `${path}/queue`)
  expect(queue.body.current.id).toBe(second.interaction)
  expect(queue.body.waiting.map(({ id }) => id)).toEqual([third.interaction])
})

test.each([
  ['/sessions', {}, 400, 'invalid_request', 'pool'],
  ['/sessions', { pool: 'not a pool!' }, 400, 'invalid_request', 'pool'],
  ['/sessions', { pool: 'nobody-has-it' }, 404, 'model_not_found', undefined],
  ['/sessions', { pool: 'coder', metadata: { a: 1 } }, 400, 'invalid_request', 'metadata.a'],
  ['/sessions', { pool: 'coder', metadata: { a: 'x'.repeat(513) } }, 400, 'invalid_request', 'metadata.a'],
  ['/messages', { pool: 'coder', text: ' \n ' }, 400, 'invalid_request', 'text'],
  ['/messages', { pool: 'coder', text: 'x', wait: true, stream: true }, 400, 'invalid_request', 'wait'],
  [`/sessions/${NOBODYS}/messages`, { text: 'x' }, 404, 'not_found', undefined],
  ['/sessions/ses_whatever/messages', { text: 'x' }, 404, 'not_found', undefined],
])('POST %s with %j is refused', async (path, body, status, code, param) => {
  await using net = await startNetwork()
  const reply = await api<{ error: { param: string | null } }>(net.url(0), path, body)
  expect(reply).toMatchObject({ status, body: { error: { code } } })
  if (param !== undefined) expect(reply.body.error.param).toBe(param)
})

test.each(['', 'two words', 'ü', 'x'.repeat(256)])('the Idempotency-Key %j is refused', async (key) => {
  await using net = await startNetwork()
  const headers = { 'idempotency-key': key }
  const reply = await api(net.url(0), '/messages', { pool: 'coder', text: 'x' }, { headers })
  expect(reply).toMatchObject({ status: 400, body: { error: { code: 'invalid_request', param: 'Idempotency-Key' } } })
})

test("a stranger's session and turn do not exist", async () => {
  await using net = await startNetwork({ env: { CLIENT_KEYS: 'alice=key-of-alice,bob=key-of-bob' } })
  const as = (key: string) => ({ headers: { authorization: `Bearer ${key}` } })
  const { body } = await api<{ session: string; interaction: string }>(
    net.url(0),
    '/messages',
    { pool: 'coder', text: 'secret' },
    as('key-of-alice'),
  )
  for (const path of [
    `/sessions/${body.session}`,
    `/sessions/${body.session}/interactions`,
    `/sessions/${body.session}/queue`,
    `/interactions/${body.interaction}`,
    `/interactions/${body.interaction}/events`,
  ]) {
    expect((await api(net.url(0), path, undefined, as('key-of-bob'))).status).toBe(404)
    expect((await api(net.url(0), path)).status).toBe(401)
  }
  for (const path of [`/sessions/${body.session}/cancel`, `/interactions/${body.interaction}/cancel`])
    expect((await api(net.url(0), path, {}, as('key-of-bob'))).status).toBe(404)
  const post = await api(net.url(0), `/sessions/${body.session}/messages`, { text: 'x' }, as('key-of-bob'))
  expect(post.status).toBe(404)
})
