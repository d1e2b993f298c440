import { EventSource } from 'eventsource'
import type { LogEvent } from '../../../src/protocol/events.js'
import { emptyTurn, fold, outputText } from '../../../src/protocol/fold.js'
import { api, post } from '../../support/client.js'
import { eventually } from '../../support/eventually.js'
import { startNetwork, type Network } from '../../support/network.js'
import { completed, text } from '../../support/raw-agent.js'
import { startRedisServer } from '../../support/redis-server.js'
import { json, SseReader, type RawFrame } from '../../support/sse.js'

const eventsOf = (net: Network, replica: number, id: string) => `${net.url(replica)}/api/v1/interactions/${id}/events`
const isDone = (frame: RawFrame) => frame.event === 'done'
const fromLog = (frames: RawFrame[]) => frames.filter(({ id }) => id !== undefined)
const read = (frames: RawFrame[]) =>
  outputText(
    fromLog(frames)
      .map((frame) => json<LogEvent>(frame))
      .reduce(fold, emptyTurn()),
  )

test('a message asked for as a stream shows its turn from the first event to the end', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
  await using viewer = await SseReader.post(`${net.url(0)}/api/v1/messages`, { pool: 'coder', text: 'x', stream: true })
  const interaction = viewer.response.headers.get('throughline-interaction-id')
  const { request } = await agent.turn()
  agent.send(request, 1, text('one '))
  agent.send(request, 2, text('two'), completed)
  const frames = await viewer.all()
  expect(frames[0]!.retry).toBeGreaterThanOrEqual(1000)
  expect(fromLog(frames).map(({ id }) => id)).toEqual(fromLog(frames).map((_, i) => String(i + 1)))
  expect(fromLog(frames).map(({ event }) => event)).toEqual([
    'submitted',
    'dispatched',
    'entry.append',
    'entry.append',
    'completed',
  ])
  expect(json(frames[1]!)).toMatchObject({ n: 1, type: 'submitted', interaction, at: expect.any(Number) as unknown })
  expect(read(frames)).toBe('one two')
  expect(frames.at(-1)).toMatchObject({ event: 'done', data: JSON.stringify({ interaction, status: 'completed' }) })
  expect(frames.at(-1)!.id).toBeUndefined()
})

test('a viewer goes on after its cursor at another replica; the header wins over the query', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder' })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'x')
  const { request } = await agent.turn()
  agent.send(request, 1, text('a'), text('b'), text('c'))
  const cut = await SseReader.open(eventsOf(net, 0, interaction))
  const seen = await cut.until(({ data }) => data?.includes('"b"') === true)
  cut.close()
  agent.send(request, 4, completed)
  const init = { headers: { 'last-event-id': seen.at(-1)!.id! } }
  await using viewer = await SseReader.open(`${eventsOf(net, 1, interaction)}?after=1`, init)
  expect(read([...seen, ...(await viewer.all())])).toBe('abc')
})

test('a turn that has ended is shown from any cursor, and to who has all of it there is nothing: 204', async () => {
  await using net = await startNetwork()
  const agent = await net.rawAgent({ pool: 'coder' })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'x')
  const { request } = await agent.turn()
  agent.send(request, 1, text('a'), completed)
  await using all = await SseReader.open(eventsOf(net, 0, interaction))
  const frames = await all.all()
  const last = fromLog(frames).at(-1)!.id!
  await using tail = await SseReader.open(`${eventsOf(net, 0, interaction)}?after=${Number(last) - 1}`)
  expect((await tail.all()).map(({ event }) => event)).toEqual([undefined, 'completed', 'done'])
  await using nothing = await SseReader.open(`${eventsOf(net, 0, interaction)}?after=${last}`)
  expect(nothing.response.status).toBe(204)
})

test('a live turn whose viewer has everything so far is no reason for a 204', async () => {
  await using net = await startNetwork()
  const agent = await net.rawAgent({ pool: 'coder' })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'x')
  const { request } = await agent.turn()
  await using viewer = await SseReader.open(`${eventsOf(net, 0, interaction)}?after=2`)
  expect(viewer.response.status).toBe(200)
  agent.send(request, 1, text('a'), completed)
  expect((await viewer.all()).map(({ event }) => event)).toEqual([undefined, 'entry.append', 'completed', 'done'])
})

test('a cursor that the log cannot be continued from gets the state as a whole, with a cursor of its own', async () => {
  await using net = await startNetwork()
  const agent = await net.rawAgent({ pool: 'coder' })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'x')
  const { request } = await agent.turn()
  agent.send(request, 1, text('a'))
  await agent.acked(request, 1)
  await using viewer = await SseReader.open(`${eventsOf(net, 0, interaction)}?after=2.lost`)
  const [snapshot] = (await viewer.until(({ event }) => event === 'snapshot')).slice(-1)
  expect(json(snapshot!)).toMatchObject({
    interaction,
    turn: { n: 3, status: 'streaming', entries: [{ text: 'a' }] },
    cursor: snapshot!.id,
  })
  agent.send(request, 2, text('b'), completed)
  expect(fromLog(await viewer.all()).map(({ id }) => id)).toEqual(['4', '5'])
})

test.each(['-1', 'x', '1.', '1e3', '1&after=2'])('the cursor %s is refused', async (cursor) => {
  await using net = await startNetwork()
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'x')
  const reply = await api(net.url(0), `/interactions/${interaction}/events?after=${cursor}`)
  expect(reply).toMatchObject({ status: 400, body: { error: { code: 'invalid_cursor' } } })
})

test('a leaving replica tells its viewers to come again, and they go on elsewhere', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'x')
  const { request } = await agent.turn()
  agent.send(request, 1, text('a'))
  await using viewer = await SseReader.open(eventsOf(net, 0, interaction))
  const seen = await viewer.until(({ event }) => event === 'entry.append')
  const drained = net.replicas[0]!.drain()
  const [goodbye, ...more] = await viewer.all()
  expect(goodbye!.lines).toEqual([`retry: ${goodbye!.retry}`])
  expect(goodbye!.retry).toBeLessThan(3000)
  expect(more).toEqual([])
  await drained
  agent.send(request, 2, text('b'), completed)
  await using next = await SseReader.open(`${eventsOf(net, 1, interaction)}?after=${seen.at(-1)!.id}`)
  expect(read([...seen, ...(await next.until(isDone))])).toBe('ab')
})

test('a cancel ends every stream of the turn', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'x')
  await using a = await SseReader.open(eventsOf(net, 0, interaction))
  await using b = await SseReader.open(eventsOf(net, 1, interaction))
  await api(net.url(0), `/interactions/${interaction}/cancel`, {})
  for (const viewer of [a, b])
    expect((await viewer.all()).slice(-2).map(({ event }) => event)).toEqual(['cancelled', 'done'])
})

test("the standard's EventSource follows over the loss of a replica without a gap or a repeat", async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'x')
  const { request } = await agent.turn()
  const numbers: number[] = []
  let done = false
  let asked = 0
  const source = new EventSource(eventsOf(net, 0, interaction), {
    // a balancer that knows replica 0 first, then 1
    fetch: (url, init) => fetch(String(url).replace(net.url(0), net.url(Math.min(asked++, 1))), init),
  })
  net.onDispose(() => source.close())
  for (const name of ['submitted', 'dispatched', 'entry.append', 'completed'])
    source.addEventListener(name, (event) => void numbers.push(Number(event.lastEventId)))
  source.addEventListener('done', () => {
    done = true
    source.close()
  })
  agent.send(request, 1, text('a'))
  await eventually(() => numbers.length === 3)
  await net.replicas[0]!.drain()
  agent.send(request, 2, text('b'), completed)
  await eventually(() => done, { limitMs: 10_000 })
  expect(numbers).toEqual([1, 2, 3, 4, 5])
})

test('while Redis is away viewers are never answered 503: they are told, end cleanly and come again', async () => {
  await using redis = await startRedisServer()
  const env = { REDIS_DEADLINE_MS: '300', LIVE_OUTAGE_MS: '300', PROBE_MS: '500', SWEEP_EVERY_MS: '300' }
  await using net = await startNetwork({ redisUrl: redis.url, env })
  const agent = await net.rawAgent({ pool: 'coder' })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'x')
  const { request } = await agent.turn()
  agent.send(request, 1, text('a'))
  await using viewer = await SseReader.open(eventsOf(net, 0, interaction))
  const seen = await viewer.until(({ event }) => event === 'entry.append')
  await redis.kill9()
  await using late = await SseReader.open(eventsOf(net, 0, interaction))
  expect(late.response.status).toBe(200)
  for (const told of [await viewer.all(), await late.all()]) {
    expect(told.at(-1)).toMatchObject({ event: 'problem', retry: expect.any(Number) as unknown })
    expect(json(told.at(-1)!)).toMatchObject({ error: { code: 'store_unavailable', retry: true } })
    expect(told.at(-1)!.id).toBeUndefined()
  }
  await redis.restart()
  await eventually(() => net.replicas[0]!.well(), { limitMs: 10_000 })
  await using again = await SseReader.open(`${eventsOf(net, 0, interaction)}?after=${seen.at(-1)!.id}`)
  agent.send(request, 2, text('b'), completed)
  expect(read([...seen, ...(await again.until(isDone))])).toBe('ab')
})
