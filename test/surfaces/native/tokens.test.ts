import { tokens } from '../../../src/auth/token.js'
import { api, post, type Posted } from '../../support/client.js'
import { eventually } from '../../support/eventually.js'
import { startNetwork } from '../../support/network.js'
import { completed, text } from '../../support/raw-agent.js'
import { startRedisServer } from '../../support/redis-server.js'
import { SseReader } from '../../support/sse.js'

const TOKEN_SECRET = 'a secret of more than 32 characters'
const env = { CLIENT_KEYS: 'alice=key-of-alice,bob=key-of-bob', TOKEN_SECRET }
const alice = { headers: { authorization: 'Bearer key-of-alice' } }
const bob = { headers: { authorization: 'Bearer key-of-bob' } }
const signer = tokens([TOKEN_SECRET])!

const newTurn = async (url: string) => (await api<Posted>(url, '/messages', { pool: 'coder', text: 'x' }, alice)).body
const tokenFor = (url: string, session: string, body?: unknown, as = alice) =>
  api<{ token: string; expiresAt: number }>(url, `/sessions/${session}/token`, body, { method: 'POST', ...as })

test('a token made at one replica reads both kinds of streams at another, and expires when it was said', async () => {
  await using net = await startNetwork({ replicas: 2, env })
  const agent = await net.rawAgent({ pool: 'coder' })
  const { session, interaction } = await newTurn(net.url(0))
  const before = Date.now()
  const { status, body } = await tokenFor(net.url(0), session, { ttlSeconds: 60 })
  expect(status).toBe(201)
  expect(Math.abs(body.expiresAt - before - 60_000)).toBeLessThan(30_000)
  const { request } = await agent.turn()
  agent.send(request, 1, text('hi'), completed)
  for (const path of [`interactions/${interaction}`, `sessions/${session}`]) {
    await using viewer = await SseReader.open(`${net.url(1)}/api/v1/${path}/events?token=${body.token}&after=`)
    expect(viewer.response.status).toBe(200)
  }
  await using turn = await SseReader.open(`${net.url(1)}/api/v1/interactions/${interaction}/events?token=${body.token}`)
  expect((await turn.all()).at(-1)!.event).toBe('done')
})

test('it opens nothing but the streams of its session', async () => {
  await using net = await startNetwork({ env })
  const mine = await newTurn(net.url(0))
  const other = await newTurn(net.url(0))
  const { token } = (await tokenFor(net.url(0), mine.session)).body
  const get = async (path: string, method = 'GET') =>
    (await api(net.url(0), `${path}?token=${token}`, undefined, { method })).status
  expect(await get(`/sessions/${other.session}/events`)).toBe(404)
  expect(await get(`/interactions/${other.interaction}/events`)).toBe(404)
  expect(await get(`/sessions/ses_x/events`)).toBe(404)
  for (const path of ['', '/interactions', '/queue', '/export'])
    expect(await get(`/sessions/${mine.session}${path}`)).toBe(401)
  expect(await get(`/interactions/${mine.interaction}`)).toBe(401)
  expect(await get(`/interactions/${mine.interaction}/cancel`, 'POST')).toBe(401)
  expect(await get(`/sessions/${mine.session}/token`, 'POST')).toBe(401)
  expect(await get(`/sessions/${mine.session}`, 'DELETE')).toBe(401)
})

test('expired, forged, of another use: 401, which says what to do', async () => {
  await using net = await startNetwork({ env })
  const { session, interaction } = await newTurn(net.url(0))
  const good = await signer.mint('stream', session, 60_000)
  for (const token of [
    await signer.mint('stream', session, -1000),
    await tokens(['another secret of more than 32 chars'])!.mint('stream', session, 60_000),
    await signer.mint('agent', session, 60_000),
    `${good.slice(0, -2)}xx`,
    'x',
    '',
    `${good}&token=${good}`,
  ]) {
    const reply = await api<{ error: { message: string } }>(
      net.url(0),
      `/interactions/${interaction}/events?token=${token}`,
      undefined,
      alice, // a wrong token is wrong, whatever else is there
    )
    expect(reply).toMatchObject({ status: 401, body: { error: { code: 'unauthorized', param: 'token' } } })
  }
})

test('a stream ends when its token expires; without a new one it is not had again', async () => {
  await using net = await startNetwork({ env })
  const { session } = await newTurn(net.url(0))
  const { token } = (await tokenFor(net.url(0), session, { ttlSeconds: 3 })).body // a JWT's end is a whole second
  const url = `${net.url(0)}/api/v1/sessions/${session}/events?token=${token}`
  await using viewer = await SseReader.open(url)
  expect(viewer.response.status).toBe(200)
  const frames = await viewer.all()
  expect(frames.at(-1)!.lines).toEqual([`retry: ${frames.at(-1)!.retry}`])
  await eventually(async () => (await fetch(url)).status === 401)
})

test('only the owner is given one, for as long as is allowed', async () => {
  await using net = await startNetwork({ env })
  const { session } = await newTurn(net.url(0))
  expect((await tokenFor(net.url(0), session, {}, bob)).status).toBe(404)
  for (const ttlSeconds of [0, -1, 1.5, 86_401, '60'])
    expect(await tokenFor(net.url(0), session, { ttlSeconds })).toMatchObject({
      status: 400,
      body: { error: { param: 'ttlSeconds' } },
    })
  expect((await tokenFor(net.url(0), session)).status).toBe(201) // no body, no content type
})

test('without TOKEN_SECRET there are none, and the reply says what is missing', async () => {
  await using net = await startNetwork()
  const { session, interaction } = await post(net.url(0), { pool: 'coder' }, 'x')
  const refused = await tokenFor(net.url(0), session, {}, { headers: { authorization: '' } })
  expect(refused).toMatchObject({ status: 501, body: { error: { code: 'tokens_disabled', retry: false } } })
  expect((await api(net.url(0), `/interactions/${interaction}/events?token=x`)).status).toBe(401)
})

test('no token is in any line of the log', async () => {
  await using net = await startNetwork({ env })
  const { session, interaction } = await newTurn(net.url(0))
  const { token } = (await tokenFor(net.url(0), session)).body
  for (const path of [
    `/interactions/${interaction}/events`,
    `/interactions/int_x/events`,
    `/sessions/${session}/events`,
    `/sessions/${session}`,
    '/nowhere',
  ]) {
    const viewer = await SseReader.open(`${net.url(0)}/api/v1${path}?token=${token}`)
    viewer.close()
  }
  const lines = () => net.replicas[0]!.logs.filter((line) => line['msg'] === 'request')
  await eventually(() => lines().length >= 7)
  expect(JSON.stringify(net.replicas[0]!.logs)).not.toContain(token.slice(0, 40))
})

test('while Redis is away a viewer with a token is not sent away for good', async () => {
  await using redis = await startRedisServer()
  const outage = { REDIS_DEADLINE_MS: '300', LIVE_OUTAGE_MS: '300', PROBE_MS: '500', SWEEP_EVERY_MS: '300' }
  await using net = await startNetwork({ redisUrl: redis.url, env: { ...env, ...outage } })
  const { session } = await newTurn(net.url(0))
  const { token } = (await tokenFor(net.url(0), session)).body
  await redis.kill9()
  await using viewer = await SseReader.open(`${net.url(0)}/api/v1/sessions/${session}/events?token=${token}`)
  expect(viewer.response.status).toBe(200)
  expect((await viewer.all()).at(-1)).toMatchObject({ event: 'problem', retry: expect.any(Number) as unknown })
  await redis.restart()
  await eventually(() => net.replicas[0]!.well(), { limitMs: 10_000 })
})
