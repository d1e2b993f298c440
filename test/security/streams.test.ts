import { EventSource } from 'eventsource'
import { memberOf } from '../../src/store/places.js'
import { keysOf } from '../../src/store/keys.js'
import { api, post } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'
import { startRedisServer } from '../support/redis-server.js'
import { json, SseReader, type RawFrame } from '../support/sse.js'

const env = { CLIENT_KEYS: 'ann=ann-key-1,bob=bob-key-1', AGENT_KEYS: '*=agent-key-1', MAX_STREAMS_PER_OWNER: '2' }
const ann = { authorization: 'Bearer ann-key-1' }
const bob = { authorization: 'Bearer bob-key-1' }

const watch = (net: Network, replica: number, interaction: string, headers: Record<string, string> = ann) =>
  SseReader.open(`${net.url(replica)}/api/v1/interactions/${interaction}/events`, { headers })
const opened = (frame: RawFrame) => frame.event === 'submitted'
const chat = (net: Network, headers: Record<string, string> = ann) =>
  SseReader.post(
    `${net.url(0)}/v1/chat/completions`,
    { model: 'coder', stream: true, messages: [{ role: 'user', content: 'hi' }] },
    headers,
  )
const placesOf = (net: Network, owner = 'ann') => net.redis.zcard(keysOf(net.prefix).places(owner))

test('one viewer too many takes the place of the oldest, at whatever replica; that one is told, and when to come again', async () => {
  await using net = await startNetwork({ replicas: 2, env })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'hi', {}, ann)
  await using first = await watch(net, 1, interaction)
  await first.until(opened)
  const openedAt = Date.now()
  await eventually(() => Date.now() - openedAt > 300) // each replica guesses Redis' clock by itself
  await using second = await watch(net, 0, interaction)
  await second.until(opened)
  await using third = await watch(net, 0, interaction)
  expect(third.response.status).toBe(200)
  await third.until(opened)
  const rest = await first.all()
  const problem = rest.at(-1)!
  expect([problem.event, problem.retry! >= 15_000]).toEqual(['problem', true])
  expect(json(problem)).toMatchObject({ error: { code: 'too_many_streams', retry: true } })

  await using other = await SseReader.post(
    `${net.url(0)}/api/v1/messages`,
    { pool: 'coder', text: 'mine', stream: true },
    bob,
  )
  await other.until(opened)
  const agent = await net.rawAgent({ pool: 'coder', key: 'agent-key-1' })
  agent.send((await agent.turn()).request, 1, text('seen by those who stayed'), completed)
  for (const viewer of [second, third]) expect((await viewer.all()).at(-1)!.event).toBe('done')
  await eventually(async () => (await placesOf(net)) === 0)
})

test('EventSource that made room comes back by itself, with its cursor', async () => {
  await using net = await startNetwork({ env: { ...env, MAX_STREAMS_PER_OWNER: '1' } })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'hi', {}, ann)
  const asked: (string | null)[] = []
  const source = new EventSource(`${net.url(0)}/api/v1/interactions/${interaction}/events`, {
    fetch: (input, init) => {
      asked.push(new Headers(init.headers).get('last-event-id'))
      return fetch(input, { ...init, headers: { ...init.headers, ...ann } })
    },
  })
  net.onDispose(() => source.close())
  await new Promise((resolve) => source.addEventListener('submitted', resolve))
  const problem = new Promise<string>((resolve) =>
    source.addEventListener('problem', ({ data }) => resolve(String(data))),
  )
  await using newer = await watch(net, 0, interaction)
  await newer.until(opened)
  expect(await problem).toContain('too_many_streams')
  await eventually(() => source.readyState === EventSource.CONNECTING) // not CLOSED: it means to come again
  expect(asked).toEqual([null])
})

test('a stream that cannot resume is never displaced; one too many of them is 429, before its message is stored', async () => {
  await using net = await startNetwork({ env })
  const agent = await net.rawAgent({ pool: 'coder', key: 'agent-key-1', capacity: 5 })
  await using first = await chat(net)
  await using second = await chat(net)
  expect([first.response.status, second.response.status]).toEqual([200, 200])
  await agent.turn(1)
  await using third = await chat(net)
  expect(third.response.status).toBe(429)
  expect(third.response.headers.get('retry-after')).toBe('10')
  expect(third.response.headers.get('x-should-retry')).toBe('true')
  expect(await third.response.json()).toMatchObject({ error: { code: 'too_many_streams', type: 'rate_limit_error' } })
  const { body } = await api<{ sessions: unknown[] }>(net.url(0), '/sessions', undefined, { headers: ann })
  expect(body.sessions).toHaveLength(2)

  // EventSource would stay away for good after a 429, so it is let in, told, and sent away
  await using viewer = await watch(net, 0, agent.turns[0]!.interaction)
  expect(viewer.response.status).toBe(200)
  const frames = await viewer.all()
  expect(frames).toHaveLength(1)
  expect(frames[0]).toMatchObject({ event: 'problem', retry: expect.any(Number) as number })
  expect(frames[0]!.data).toContain('too_many_streams')

  await first[Symbol.asyncDispose]() // a place is free again
  await eventually(async () => {
    await using next = await chat(net)
    return next.response.status === 200
  })
})

test('places of a replica that was killed fade, those of one that lives are renewed', async () => {
  await using net = await startNetwork({ env: { ...env, MAX_STREAMS_PER_OWNER: '1' } })
  const key = keysOf(net.prefix).places('ann')
  const [seconds, micros] = await net.redis.time()
  const fades = Number(seconds) * 1000 + Math.floor(Number(micros) / 1000) + 1500
  await net.redis.zadd(key, fades, memberOf(false, Date.now(), 'killed', 1))
  expect((await chat(net)).response.status).toBe(429)
  await using _ = await eventually(async () => {
    const next = await chat(net)
    return next.response.status === 200 && next
  })
  const scoreOf = async () => Number((await net.redis.zrange(key, '0', '-1', 'WITHSCORES'))[1])
  const before = await scoreOf()
  await net.redis.spublish(keysOf(net.prefix).placesOf('r0'), '') // what it does by itself every ten seconds
  await eventually(async () => (await scoreOf()) > before)
})

test('while Redis is away a replica lets in its share, and afterwards goes on with all whom it has', async () => {
  await using server = await startRedisServer()
  await using net = await startNetwork({
    redisUrl: server.url,
    env: { ...env, REDIS_DEADLINE_MS: '300', LIVE_OUTAGE_MS: '20000' },
  })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'hi', {}, ann)
  await using first = await watch(net, 0, interaction)
  await first.until(opened)
  process.kill(server.pid, 'SIGSTOP')
  await using refused = await chat(net)
  expect(refused.response.status).toBe(503) // let in, but there is nobody to keep its message
  process.kill(server.pid, 'SIGCONT')
  await using second = await watch(net, 0, interaction)
  await second.until(opened)
  const agent = await net.rawAgent({ pool: 'coder', key: 'agent-key-1' })
  agent.send((await agent.turn()).request, 1, text('on'), completed)
  for (const viewer of [first, second]) expect((await viewer.all()).at(-1)!.event).toBe('done')
})
