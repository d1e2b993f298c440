import { request, type IncomingMessage } from 'node:http'
import { gzipSync } from 'node:zlib'
import { api, post, type Posted } from '../../support/client.js'
import { startNetwork, type Network } from '../../support/network.js'
import { completed } from '../../support/raw-agent.js'

/*
 * What a developer with curl runs into first. Each refusal must say what to do.
 */

let net: Network
let turn: Posted
beforeAll(async () => {
  net = await startNetwork()
  turn = await post(net.url(0), { pool: 'coder' }, 'x')
})
afterAll(() => net[Symbol.asyncDispose]())

/** A request of raw headers, doubled ones too. */
const raw = (method: string, path: string, headers: Record<string, string | string[]> = {}, body?: string | Buffer) =>
  new Promise<{ status: number; headers: IncomingMessage['headers']; body: string }>((resolve, reject) => {
    const asked = request(`${net.url(0)}/api/v1${path}`, { method, headers }, (res) => {
      let said = ''
      res.setEncoding('utf8').on('data', (text: string) => (said += text))
      res.on('end', () => resolve({ status: res.statusCode!, headers: res.headers, body: said }))
    })
    asked.on('error', reject).end(body)
  })
const errorOf = ({ body }: { body: string }) =>
  (JSON.parse(body) as { error: { code: string; message: string; param: string | null } }).error
const JSON_TYPE = { 'content-type': 'application/json' }

test('HEAD answers as GET would, without a body, on every kind of route', async () => {
  for (const path of [
    '/sessions',
    `/sessions/${turn.session}`,
    `/sessions/${turn.session}/interactions`,
    `/sessions/${turn.session}/export`,
    `/sessions/${turn.session}/events`,
    `/interactions/${turn.interaction}/events`,
  ]) {
    const { status, body, headers } = await raw('HEAD', path)
    expect([path, status, body]).toEqual([path, 200, ''])
    expect(headers['content-type']).toMatch(/json|event-stream/)
  }
  expect((await raw('HEAD', '/sessions/ses_x')).status).toBe(404)
})

test('OPTIONS says what a route can do, without asking for a key', async () => {
  const { status, headers } = await raw('OPTIONS', `/sessions/${turn.session}`)
  expect([status, headers.allow]).toEqual([204, 'GET, HEAD, DELETE, OPTIONS'])
  expect((await raw('OPTIONS', '/nothing')).status).toBe(404)
})

test.each(['PUT', 'PATCH', 'DELETE', 'TRACE', 'PROPFIND'])('%s is refused with what would be right', async (method) => {
  const reply = await raw(method, '/sessions')
  expect([reply.status, reply.headers.allow]).toEqual([405, 'GET, HEAD, POST, OPTIONS'])
  expect(errorOf(reply).message).toBe(`${method} is not offered here, but GET, HEAD, POST, OPTIONS.`)
})

test.each<[string, string | Buffer | undefined, Record<string, string>, number, RegExp]>([
  ['no body', undefined, {}, 400, /^The body is missing: send a JSON object\.$/],
  ['an empty body', '', JSON_TYPE, 400, /^pool: is missing$/],
  ['a comma too many', '{"pool":"coder",}', JSON_TYPE, 400, /not a JSON object: .*JSON/],
  ['a list', '[]', JSON_TYPE, 400, /expected object/],
  [
    'curl -d without a type',
    '{"pool":"coder"}',
    { 'content-type': 'application/x-www-form-urlencoded' },
    415,
    /Content-Type: application\/json/,
  ],
  ['another charset', '{"pool":"coder"}', { 'content-type': 'application/json; charset=latin1' }, 415, /UTF-8/],
  [
    'no gzip, though it says so',
    '{"pool":"coder"}',
    { ...JSON_TYPE, 'content-encoding': 'gzip' },
    400,
    /could not be read/,
  ],
  ['no pool', '{}', JSON_TYPE, 400, /^pool: is missing$/],
  ['a field that is not known', '{"pool":"coder","titel":"x"}', JSON_TYPE, 400, /titel/],
])('a body that is %s is refused in words that help', async (_what, body, headers, status, message) => {
  const reply = await raw('POST', '/sessions', headers, body)
  expect(reply.status).toBe(status)
  expect(errorOf(reply).message).toMatch(message)
})

test('a body may be compressed, up to the same size when unpacked', async () => {
  const packed = { ...JSON_TYPE, 'content-encoding': 'gzip' }
  expect((await raw('POST', '/sessions', packed, gzipSync('{"pool":"coder"}'))).status).toBe(201)
  const bomb = gzipSync(JSON.stringify({ pool: 'coder', title: 'x'.repeat(20_000_000) }))
  const reply = await raw('POST', '/sessions', packed, bomb)
  expect([reply.status, errorOf(reply).code]).toEqual([413, 'body_too_large'])
})

test.each([
  ['/sessions/ses_%F0%9F%98%80', 404],
  ['/sessions/%00', 404],
  [`/sessions/ses_${'0'.repeat(8000)}`, 404],
  ['/sessions/..%2F..%2Fetc', 404],
  ['/interactions/int_', 404],
  ['/interactions/%E0%A4%A', 400],
  ['/sessions?limit=99999999999999999999', 400],
  ['/sessions?limit=%E2%82%AC', 400],
  ['/sessions?before=%F0%9F%98%80', 400],
  ['/sessions?pool=%00', 400],
])('GET %s is %i, never a 5xx', async (path, status) => {
  expect((await raw('GET', path)).status).toBe(status)
})

test('doubled headers are refused where they contradict each other, and harm nothing elsewhere', async () => {
  const events = `/interactions/${turn.interaction}/events`
  const cursor = await raw('GET', events, { 'last-event-id': ['1', '2'] })
  expect([cursor.status, errorOf(cursor).code]).toEqual([400, 'invalid_cursor'])
  const keys = await raw('POST', '/sessions', { ...JSON_TYPE, 'idempotency-key': ['a', 'b'] }, '{"pool":"coder"}')
  expect([keys.status, errorOf(keys).param]).toEqual([400, 'Idempotency-Key'])
  const { headers } = await raw('GET', '/sessions', { 'x-request-id': ['a', 'b'] })
  expect(headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/)
})

test('any text comes back as it was sent: emoji, right to left, control characters, a mere NUL', async () => {
  const agent = await net.rawAgent({ pool: 'coder', capacity: 5 })
  const said = 'naïve 👩‍👩‍👧 العربية \u0000\u0001\u2028 </script> \r\n\t"\\'
  const { interaction } = await post(net.url(0), { pool: 'coder' }, said, { metadata: { '🔑': '✓' } })
  const found = () => agent.turns.find((each) => each.interaction === interaction)
  while (!found()) await agent.turn(agent.turns.length)
  expect(found()!.input).toBe(said)
  agent.send(found()!.request, 1, { type: 'entry.append', entry: '🧩', text: said }, completed)
  await agent.acked(found()!.request, 2)
  const { body } = await api(net.url(0), `/interactions/${interaction}`)
  expect(body).toMatchObject({ input: said, text: said, metadata: { '🔑': '✓' } })
})

test('what is nowhere says where to look', async () => {
  const reply = await raw('GET', '/sesions')
  expect([reply.status, errorOf(reply).code]).toEqual([404, 'unknown_url'])
  expect(errorOf(reply).message).toContain('/docs')
})

test('routes that other clients have too refuse in native words what is nobody’s yet', async () => {
  await using keyed = await startNetwork({ env: { CLIENT_KEYS: 'alice=key-of-alice' } })
  const path = `/sessions/${turn.session}`
  for (const init of [{}, { method: 'POST', body: '{' }])
    for (const url of [keyed.url(0), net.url(0)]) {
      const reply = await api<{ error: { code: string } }>(
        url,
        `${path}/${init.method ? 'messages' : 'interactions?limit=0'}`,
        undefined,
        init,
      )
      expect([400, 401]).toContain(reply.status)
      expect(reply.body.error.code).toMatch(/unauthorized|invalid_request/)
    }
})
