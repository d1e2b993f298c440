import OpenAI from 'openai'
import { api, post } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'
import { startHelixAgent } from '../support/helix-agent.js'
import { startRawAgent } from '../support/raw-agent.js'
import { startRedisServer } from '../support/redis-server.js'

const KEYS = { CLIENT_KEYS: 'ann=ann-key-1,ann=ann-key-2,bob=bob-key-1', AGENT_KEYS: '*=agent-key-1' }
const as = (key: string, more: Record<string, string> = {}) => ({
  headers: { authorization: `Bearer ${key}`, ...more },
})

const statuses = async (n: number, ask: (i: number) => Promise<{ status: number }>) =>
  (await Promise.all(Array.from({ length: n }, (_, i) => ask(i)))).map(({ status }) => status)
const count = (all: number[], status: number) => all.filter((it) => it === status).length

const limited = async (net: Network, limit: string) =>
  (await Promise.all(net.replicas.map(async ({ opsUrl }) => (await fetch(`${opsUrl}/metrics`)).text())))
    .flatMap((text) => text.split('\n'))
    .filter((line) => line.startsWith(`throughline_limited_total{limit="${limit}"}`))
    .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)

describe('requests of one owner', () => {
  test('are counted over all replicas and keys; the headers say what is left; others are not concerned', async () => {
    await using net = await startNetwork({ replicas: 2, env: { ...KEYS, MAX_REQUESTS_PER_OWNER: '10' } })
    const first = await api(net.url(0), '/sessions', undefined, as('ann-key-1'))
    expect(first.status).toBe(200)
    expect(first.headers.get('ratelimit-policy')).toBe('"requests";q=10;w=60')
    expect(first.headers.get('ratelimit')).toMatch(/^"requests";r=9;t=(60|59)$/)

    const rest = await statuses(14, (i) => api(net.url(i % 2), '/sessions', undefined, as(`ann-key-${1 + (i % 2)}`)))
    expect([count(rest, 200), count(rest, 429)]).toEqual([9, 5])
    const over = await api(net.url(1), '/sessions', undefined, as('ann-key-2'))
    expect(over).toMatchObject({
      status: 429,
      body: { error: { code: 'rate_limit_exceeded', retry: true, param: null } },
    })
    expect(over.headers.get('ratelimit')).toMatch(/^"requests";r=0;t=\d+$/)
    const after = Number(over.headers.get('retry-after'))
    expect(after).toBeGreaterThan(0)
    expect(after).toBeLessThanOrEqual(60)
    expect(await limited(net, 'requests')).toBe(6)
    expect((await api(net.url(0), '/sessions', undefined, as('bob-key-1'))).status).toBe(200)
  })

  test('are answered again when their window is over', async () => {
    await using net = await startNetwork({ env: { ...KEYS, MAX_REQUESTS_PER_OWNER: '1', RATE_WINDOW_MS: '1000' } })
    const ask = () => api(net.url(0), '/sessions', undefined, as('ann-key-1'))
    await ask()
    expect((await ask()).status).toBe(429)
    await eventually(async () => (await ask()).status === 200)
  })

  test('are counted once where two surfaces look at them', async () => {
    await using net = await startNetwork({
      env: { ...KEYS, HELIX_POOL: 'coder', MAX_REQUESTS_PER_OWNER: '5', MAX_MESSAGES_PER_OWNER: '4' },
    })
    const made = await api<{ id: string }>(net.url(0), '/sessions', { pool: 'coder' }, as('ann-key-1'))
    const sent = await api(net.url(0), `/sessions/${made.body.id}/messages`, { text: 'hi' }, as('ann-key-1'))
    expect(sent.status).toBe(202)
    expect(sent.headers.get('ratelimit')).toMatch(/^"requests";r=3;t=\d+, "messages";r=3;t=\d+$/)
    expect(sent.headers.get('ratelimit-policy')).toBe('"requests";q=5;w=60, "messages";q=4;w=60')
  })

  test('while Redis is away are counted by each replica, up to its share', async () => {
    await using server = await startRedisServer()
    await using net = await startNetwork({
      replicas: 2,
      redisUrl: server.url,
      env: { ...KEYS, MAX_REQUESTS_PER_OWNER: '8', REDIS_DEADLINE_MS: '300', SWEEP_EVERY_MS: '100' },
    })
    await eventually(async () => (await net.redis.zcard(`${net.prefix}replicas`)) === 2)
    const here = Date.now()
    await eventually(async () => {
      // each has beaten since both were there, and so counted two
      const beats = await Promise.all(['r0', 'r1'].map((id) => net.redis.hget(`${net.prefix}replica:${id}`, 'beatAt')))
      return beats.every((at) => Number(at) > here + 300)
    })
    await server.stop()
    const all = await statuses(8, () => api(net.url(0), '/sessions', undefined, as('ann-key-1')))
    expect([count(all, 503), count(all, 429)]).toEqual([4, 4])
  })
})

describe('messages of one owner', () => {
  test('have a limit of their own on every surface, and reading goes on', async () => {
    await using net = await startNetwork({ env: { ...KEYS, HELIX_POOL: 'coder', MAX_MESSAGES_PER_OWNER: '2' } })
    const url = net.url(0)
    const headers = as('ann-key-1').headers
    const { session } = await post(url, { pool: 'coder' }, 'one', {}, headers)
    await post(url, { session }, 'two', {}, headers)
    const over = { status: 429, body: { error: { code: 'rate_limit_exceeded' } } }
    expect(await api(url, '/messages', { pool: 'coder', text: 'three' }, { headers })).toMatchObject(over)
    expect(await api(url, `/sessions/${session}/messages`, { text: 'three' }, { headers })).toMatchObject(over)
    const helix = await fetch(`${url}/api/v1/sessions/chat`, {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json' },
      body: JSON.stringify({ messages: [{ role: 'user', content: { content_type: 'text', parts: ['three'] } }] }),
    })
    expect(helix.status).toBe(429)
    expect(await api(url, `/sessions/${session}`, undefined, { headers })).toMatchObject({
      status: 200,
      body: { queued: 1 },
    })
  })

  test('beyond it are an error that OpenAI’s SDK knows, with the headers it reads, and it tries again by itself', async () => {
    await using net = await startNetwork({ env: { ...KEYS, MAX_MESSAGES_PER_OWNER: '1', RATE_WINDOW_MS: '2000' } })
    await net.rawAgent({ pool: 'coder', key: 'agent-key-1', capacity: 5 })
    const client = new OpenAI({ apiKey: 'ann-key-1', baseURL: `${net.url(0)}/v1`, maxRetries: 0 })
    const ask = (maxRetries: number) =>
      client.responses.create({ model: 'coder', input: 'hi', background: true }, { maxRetries }).withResponse()
    const first = await ask(0)
    expect(first.response.headers.get('x-ratelimit-limit-requests')).toBe('1')
    expect(first.response.headers.get('x-ratelimit-remaining-requests')).toBe('0')
    expect(first.response.headers.get('x-ratelimit-reset-requests')).toMatch(/^[12]s$/)
    const refused = await ask(0).then(
      () => undefined,
      (err: unknown) => err as InstanceType<typeof OpenAI.RateLimitError>,
    )
    expect(refused).toBeInstanceOf(OpenAI.RateLimitError)
    expect(refused).toMatchObject({ status: 429, code: 'rate_limit_exceeded', type: 'rate_limit_error' })
    expect(refused!.headers!.get('x-should-retry')).toBe('true')
    expect((await ask(3)).data.status).toMatch(/queued|in_progress/)
  })
})

test('an event stream over the limit is not refused, which EventSource would never forgive, but told when to come again', async () => {
  await using net = await startNetwork({ env: { ...KEYS, MAX_REQUESTS_PER_OWNER: '1', TOKEN_SECRET: 't'.repeat(32) } })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'hi', {}, as('ann-key-1').headers)
  const res = await fetch(`${net.url(0)}/api/v1/interactions/${interaction}/events`, as('ann-key-1'))
  expect([res.status, res.headers.get('content-type')]).toEqual([200, 'text/event-stream; charset=utf-8'])
  const said = await res.text()
  expect(said).toMatch(/^event: problem\nretry: \d+\ndata: \{"error":\{"code":"rate_limit_exceeded"/)
  expect(Number(/retry: (\d+)/.exec(said)![1])).toBeGreaterThan(1000)
})

describe('failed authentications', () => {
  const wrong = (url: string, i: number, more: Record<string, string> = {}) =>
    api(url, '/sessions', undefined, as(`wrong-key-${i}`, more))

  test('close an address to newcomers, on every door; who was let in before goes on; a line says it', async () => {
    await using net = await startNetwork({ env: { ...KEYS, MAX_AUTH_FAILURES: '5', TOKEN_SECRET: 't'.repeat(32) } })
    const url = net.url(0)
    expect((await api(url, '/sessions', undefined, as('ann-key-1'))).status).toBe(200)
    expect(count(await statuses(6, (i) => wrong(url, i)), 401)).toBe(6)
    const blocked = await wrong(url, 7)
    expect(blocked).toMatchObject({ status: 429, body: { error: { code: 'rate_limit_exceeded' } } })
    expect(Number(blocked.headers.get('retry-after'))).toBeGreaterThan(0)
    expect((await api(url, '/sessions', undefined, as('bob-key-1'))).status).toBe(429) // not even looked at
    expect((await api(url, '/sessions', undefined, as('ann-key-1'))).status).toBe(200)
    const token = await fetch(`${url}/api/v1/sessions/ses_00000000000000000000000000/events?token=guess`)
    expect(token.status).toBe(429)
    const agent = await startRawAgent({ url, pool: 'coder', key: 'agent-key-1' })
    expect(agent.welcome).toMatchObject({ ok: false, code: 'unavailable', retry: true })
    agent.close()
    await expect(startHelixAgent({ url, session: 'zed', key: 'agent-key-1', query: '&pool=coder' })).rejects.toThrow(
      '429 Too many failed attempts',
    )
    expect(net.logged('address_blocked')).toMatchObject([{ address: '127.0.0.1' }])
    expect(await limited(net, 'failures')).toBeGreaterThanOrEqual(4)
  })

  test('of agents count as well', async () => {
    await using net = await startNetwork({ env: { ...KEYS, MAX_AUTH_FAILURES: '1' } })
    for (const code of ['unauthorized', 'unauthorized', 'unavailable']) {
      const agent = await startRawAgent({ url: net.url(0), pool: 'coder', key: 'no-key-at-all' })
      expect(agent.welcome).toMatchObject({ ok: false, code })
      agent.close()
    }
  })

  test('X-Forwarded-For is believed of nobody by default', async () => {
    await using net = await startNetwork({ env: { ...KEYS, MAX_AUTH_FAILURES: '2' } })
    const all = await statuses(3, (i) => wrong(net.url(0), i, { 'x-forwarded-for': `198.51.100.${i}` }))
    expect(count(all, 401)).toBe(3)
    expect((await wrong(net.url(0), 9, { 'x-forwarded-for': '198.51.100.9' })).status).toBe(429)
  })

  test('behind one trusted proxy the address is what that proxy saw, not what the caller made up', async () => {
    await using net = await startNetwork({ env: { ...KEYS, MAX_AUTH_FAILURES: '2', TRUST_PROXY: '1' } })
    const from = (i: number, address: string) => wrong(net.url(0), i, { 'x-forwarded-for': `10.9.9.${i}, ${address}` })
    for (let i = 0; i < 3; i++) expect((await from(i, '198.51.100.7')).status).toBe(401)
    expect((await from(4, '198.51.100.7')).status).toBe(429)
    expect((await from(5, '198.51.100.8')).status).toBe(401)
  })
})
