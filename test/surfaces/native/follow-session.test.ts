import { EventSource } from 'eventsource'
import type { LogEvent } from '../../../src/protocol/events.js'
import { api, post, type Posted } from '../../support/client.js'
import { eventually } from '../../support/eventually.js'
import { startNetwork, type Network } from '../../support/network.js'
import { completed, text, type RawAgent } from '../../support/raw-agent.js'
import { json, SseReader, type RawFrame } from '../../support/sse.js'

const eventsOf = (net: Network, replica: number, session: string, query = '') =>
  `${net.url(replica)}/api/v1/sessions/${session}/events${query}`
type Event = LogEvent & { interaction: string }
const logged = (frames: RawFrame[]) => frames.filter(({ data, event }) => data !== undefined && event !== 'ping')
const told = (frames: RawFrame[]) =>
  logged(frames).map((frame) => {
    const { interaction, n, type } = json<Event>(frame)
    expect(frame.id).toBe(`${interaction}/${n}`)
    return `${interaction}/${n} ${type}`
  })
/** What one turn of `answer` looks like. */
const whole = (turn: Posted, types: string[]) => types.map((type, i) => `${turn.interaction}/${i + 1} ${type}`)
const AT_ONCE = ['submitted', 'dispatched', 'entry.append', 'completed']
const QUEUED = ['submitted', 'started', 'dispatched', 'entry.append', 'completed']

const ends = (turn: Posted) => (frame: RawFrame) =>
  ['completed', 'failed', 'cancelled'].includes(frame.event!) && frame.id!.startsWith(turn.interaction)

async function answer(agent: RawAgent, turn: number, says = 'ok'): Promise<void> {
  const { request } = await agent.turn(turn)
  agent.send(request, 1, text(says), completed)
}

test('one stream shows the turns of a session, one after the other, those that waited too', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
  const first = await post(net.url(0), { pool: 'coder' }, 'A')
  await using viewer = await SseReader.open(eventsOf(net, 0, first.session))
  const second = await post(net.url(1), first, 'B')
  await answer(agent, 0)
  await answer(agent, 1)
  const seen = await viewer.until(ends(second))
  expect(seen[0]!.retry).toBeGreaterThanOrEqual(1000)
  const third = await post(net.url(1), first, 'C') // nothing was running
  await answer(agent, 2)
  seen.push(...(await viewer.until(ends(third))))
  expect(told(seen)).toEqual([...whole(first, AT_ONCE), ...whole(second, QUEUED), ...whole(third, AT_ONCE)])
})

test('it begins with the turn that runs, or the next one; with 0 at the oldest; with a cursor after that', async () => {
  await using net = await startNetwork()
  const agent = await net.rawAgent({ pool: 'coder' })
  const first = await post(net.url(0), { pool: 'coder' }, 'A')
  await answer(agent, 0)
  await eventually(async () => (await api(net.url(0), `/sessions/${first.session}`)).body['current'] === null)
  await using idle = await SseReader.open(eventsOf(net, 0, first.session))
  await idle.next()
  expect(await idle.next()).toEqual({ id: `${first.interaction}/4`, lines: [`id: ${first.interaction}/4`] })

  const second = await post(net.url(0), first, 'B')
  await agent.turn(1)
  await using late = await SseReader.open(eventsOf(net, 0, first.session))
  await using all = await SseReader.open(eventsOf(net, 0, first.session, '?after=0'))
  const after = { headers: { 'last-event-id': `${first.interaction}/3` } }
  await using resumed = await SseReader.open(eventsOf(net, 0, first.session, '?after=0'), after)
  await answer(agent, 1)
  const [one, two] = [whole(first, AT_ONCE), whole(second, AT_ONCE)]
  expect(told(await idle.until(ends(second)))).toEqual(two)
  expect(told(await late.until(ends(second)))).toEqual(two)
  expect(told(await all.until(ends(second)))).toEqual([...one, ...two])
  expect(told(await resumed.until(ends(second)))).toEqual([...one.slice(3), ...two])
})

test('who comes back to a session that had no turn yet has missed none', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder' })
  const { body } = await api<{ id: `ses_${string}` }>(net.url(0), '/sessions', { pool: 'coder' })
  const viewer = await SseReader.open(eventsOf(net, 0, body.id))
  const [{ id: cursor }] = (await viewer.until(({ id }) => id !== undefined)).slice(-1) as [RawFrame]
  expect(cursor).toBe('0')
  viewer.close()
  const first = await post(net.url(0), { session: body.id }, 'A')
  await answer(agent, 0)
  await eventually(() => agent.acks.length > 0)
  await using back = await SseReader.open(eventsOf(net, 1, body.id), { headers: { 'last-event-id': cursor! } })
  expect(told(await back.until(ends(first)))).toEqual(whole(first, AT_ONCE))
})

test('turns come in the order in which they begin: an interruption goes first, and a cancel in the queue is told', async () => {
  await using net = await startNetwork()
  const agent = await net.rawAgent({ pool: 'coder', capacity: 3 })
  const first = await post(net.url(0), { pool: 'coder' }, 'A')
  await agent.turn(0)
  await using viewer = await SseReader.open(eventsOf(net, 0, first.session))
  const waits = await post(net.url(0), first, 'B')
  const dropped = await post(net.url(0), first, 'C')
  await api(net.url(0), `/interactions/${dropped.interaction}/cancel`, {})
  const urgent = await post(net.url(0), first, 'D', { interrupt: true })
  await answer(agent, 1)
  await answer(agent, 2)
  const seen = told(await viewer.until(ends(waits)))
  expect([...new Set(seen.map((line) => line.split('/')[0]))]).toEqual(
    [first, dropped, urgent, waits].map(({ interaction }) => interaction),
  )
  expect(seen).toContain(`${dropped.interaction}/2 cancelled`)
  expect(new Set(seen).size).toBe(seen.length)
})

test("a browser's EventSource sees every event of five turns once, though each replica it is on is killed", async () => {
  await using net = await startNetwork({ replicas: 3, processes: true })
  const agent = await net.rawAgent({ pool: 'coder', replica: 2 })
  const { body: session } = await api<{ id: `ses_${string}` }>(net.url(2), '/sessions', { pool: 'coder' })
  let on = 0
  let opened = 0
  const source = new EventSource(eventsOf(net, 0, session.id, '?after=0'), {
    fetch: (url, init) => fetch(String(url).replace(net.url(0), net.url(on)), init), // a balancer
  })
  net.onDispose(() => source.close())
  source.addEventListener('open', () => opened++)
  const seen: string[] = []
  for (const type of QUEUED)
    source.addEventListener(type, (event) => void seen.push(`${event.lastEventId} ${event.type}`))
  const expected: string[] = []
  for (let turn = 0; turn < 5; turn++) {
    const posted = await post(net.url(2), { session: session.id }, `message ${turn}`)
    const { request } = await agent.turn(turn)
    agent.send(request, 1, text('half'))
    const streams = opened
    if (turn === 1 || turn === 3) {
      await eventually(() => streams > 0 && seen.length > expected.length)
      on = 1 - on
      await net.replicas[1 - on]!.kill9() // in mid-answer
    }
    agent.send(request, 2, completed)
    expected.push(...whole(posted, AT_ONCE))
    if (turn === 1) await net.replicas[0]!.restart()
  }
  await eventually(() => seen.length >= expected.length, { limitMs: 20_000 })
  expect(seen).toEqual(expected)
  expect(opened).toBeGreaterThanOrEqual(3)
})

test('a leaving replica sends the viewer elsewhere; it goes on there', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
  const first = await post(net.url(0), { pool: 'coder' }, 'A')
  await using viewer = await SseReader.open(eventsOf(net, 0, first.session))
  await answer(agent, 0)
  const seen = await viewer.until(ends(first))
  const drained = net.replicas[0]!.drain()
  expect(await viewer.all()).toMatchObject([{ retry: expect.any(Number) as unknown }])
  await drained
  const second = await post(net.url(1), first, 'B')
  await answer(agent, 1)
  const init = { headers: { 'last-event-id': seen.at(-1)!.id! } }
  await using next = await SseReader.open(eventsOf(net, 1, first.session), init)
  expect(told(await next.until(ends(second)))).toEqual(whole(second, AT_ONCE))
})

test('when the session is deleted the stream says so and ends; it cannot be had again', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const { session } = await post(net.url(0), { pool: 'coder' }, 'A')
  await using viewer = await SseReader.open(eventsOf(net, 1, session))
  await viewer.until(({ event }) => event === 'submitted')
  await api(net.url(0), `/sessions/${session}`, undefined, { method: 'DELETE' })
  expect((await viewer.all()).slice(-2)).toMatchObject([{ event: 'cancelled' }, { event: 'done' }])
  expect((await api(net.url(1), `/sessions/${session}/events`)).status).toBe(404)
})

test('a turn that is not kept any more is said to be lost, and what is kept follows', async () => {
  await using net = await startNetwork({ env: { HISTORY_LIMIT: '2' } })
  const agent = await net.rawAgent({ pool: 'coder' })
  const turns = [await post(net.url(0), { pool: 'coder' }, 'A')]
  for (let turn = 0; turn < 4; turn++) {
    await answer(agent, turn)
    await agent.acked((await agent.turn(turn)).request, 2)
    if (turn < 3) turns.push(await post(net.url(0), turns[0]!, `turn ${turn}`))
  }
  const session = turns[0]!.session
  await using viewer = await SseReader.open(eventsOf(net, 0, session, `?after=${turns[0]!.interaction}/4`))
  const seen = logged(await viewer.until(ends(turns[3]!)))
  expect(seen[0]).toMatchObject({ id: '0', event: 'lost' })
  expect(told(seen.slice(1))).toEqual([...whole(turns[2]!, AT_ONCE), ...whole(turns[3]!, AT_ONCE)])
})

test.each(['x', '1', 'int_x/1', 'int_01jd0000000000000000000000_0000000000/1', '0/0'])(
  'the cursor %s is refused',
  async (cursor) => {
    await using net = await startNetwork()
    const { session } = await post(net.url(0), { pool: 'coder' }, 'A')
    const reply = await api(net.url(0), `/sessions/${session}/events?after=${cursor}`)
    expect(reply).toMatchObject({ status: 400, body: { error: { code: 'invalid_cursor' } } })
  },
)
