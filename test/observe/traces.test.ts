import { traceIdOf } from '../../src/protocol/trail.js'
import { api, post, watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type NetworkOptions } from '../support/network.js'
import { startCollector, type CollectedSpan, type Collector } from '../support/otlp-collector.js'
import { completed, text } from '../support/raw-agent.js'
import { SseReader } from '../support/sse.js'

/*
 * Traces as a collector gets them, from replicas that are processes of their own.
 */
const CLIENT = '4bf92f3577b34da6a3ce929d0e0e4736'
const traceparent = `00-${CLIENT}-00f067aa0ba902b7-01`

const traced = (collector: Collector, env: Record<string, string> = {}, replicas = 1): NetworkOptions => ({
  replicas,
  processes: true,
  env: {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint,
    OTEL_BSP_SCHEDULE_DELAY: '100',
    SWEEP_EVERY_MS: '300',
    AGENT_GRACE_MS: '800',
    LEASE_TTL_MS: '1500',
    ...env,
  },
})

/** Waits until as many spans of these names have come as are named; gives them in the order of the names. */
async function spansOf(collector: Collector, ...names: string[]): Promise<CollectedSpan[]> {
  return eventually(
    () => {
      const left = [...collector.spans].sort((a, b) => a.from - b.from)
      return names.map((name) => {
        const at = left.findIndex((span) => span.name === name)
        if (at < 0) throw new Error(`no ${name} among ${collector.spans.map((span) => span.name).join(', ')}`)
        return left.splice(at, 1)[0]!
      })
    },
    { limitMs: 15_000 },
  )
}

const replicaOf = (span: CollectedSpan) => span.resource['service.instance.id']

test('a turn over two replicas is one trace, from the client’s own span to the last byte of each viewer', async () => {
  await using collector = await startCollector()
  await using net = await startNetwork(traced(collector, {}, 2))
  const agent = await net.rawAgent({ pool: 'coder', replica: 1, agent: 'a' })
  const headers = { traceparent, tracestate: 'vendor=1', 'x-request-id': 'asked-by-me' }
  await using viewer = await SseReader.post(
    `${net.url(0)}/api/v1/messages`,
    { pool: 'coder', text: 'go', stream: true },
    headers,
  )
  const { session, interaction, request, traceparent: told = '', tracestate } = await agent.turn()
  await using other = await SseReader.open(`${net.url(1)}/api/v1/interactions/${interaction}/events`)
  agent.send(request, 1, text('hello'), completed)
  for (const reader of [viewer, other]) await reader.until((frame) => frame.event === 'done')

  const [asked, turn, wait, attempt, dispatch, stream, followed, second] = (await spansOf(
    collector,
    'POST /api/v1/messages',
    'turn',
    'wait',
    'attempt',
    'dispatch',
    'stream',
    'GET /api/v1/interactions/:interaction/events',
    'stream',
  )) as [CollectedSpan, ...CollectedSpan[]] as CollectedSpan[]
  expect(new Set(collector.spans.map((span) => span.trace))).toEqual(new Set([CLIENT]))
  expect(asked).toMatchObject({ parent: '00f067aa0ba902b7', kind: 2, state: 'vendor=1' })
  expect([turn, stream, followed].map((span) => span!.parent)).toEqual(Array(3).fill(asked!.id))
  expect([wait, attempt].map((span) => span!.parent)).toEqual(Array(2).fill(turn!.id))
  expect(dispatch!.parent).toBe(attempt!.id)
  expect(second!.parent).toBe(followed!.id)
  expect([asked, stream, dispatch, followed, second].map((span) => replicaOf(span!))).toEqual([
    'r0',
    'r0',
    'r1',
    'r1',
    'r1',
  ])

  expect(told).toBe(`00-${CLIENT}-${attempt!.id}-01`) // the agent's spans belong below its attempt
  expect(tracestate).toBe('vendor=1')
  expect(asked!.attributes).toMatchObject({
    'http.request.method': 'POST',
    'http.route': '/api/v1/messages',
    'http.response.status_code': 200,
    'throughline.request_id': 'asked-by-me',
    'throughline.session': session,
    'throughline.interaction': interaction,
  })
  expect(turn!.attributes).toMatchObject({
    'throughline.interaction': interaction,
    'throughline.pool': 'coder',
    'throughline.status': 'completed',
    'throughline.reason': 'end_turn',
    'throughline.attempts': 1,
  })
  expect(attempt).toMatchObject({
    kind: 3,
    events: ['first output'],
    attributes: { 'throughline.attempt': 1, 'throughline.agent': 'a', 'throughline.request': request },
  })
  for (const span of [stream, second])
    expect(span!.attributes).toMatchObject({ 'throughline.surface': 'native', 'throughline.stream.end': 'done' })
  expect(wait!.to).toBe(attempt!.from)
  expect(asked!.to).toBeGreaterThanOrEqual(stream!.to)
  for (const span of [turn, wait, attempt]) expect(span!.to).toBeGreaterThanOrEqual(span!.from)

  const lines = net.replicas.flatMap(({ logs }) => logs).filter((line) => line['interaction'] === interaction)
  expect(new Set(lines.map((line) => line['event'] ?? line['msg']))).toEqual(
    new Set(['message_accepted', 'mappings_persisted', 'mappings_cleared', 'request']),
  )
  for (const line of lines) expect(line['trace_id']).toBe(CLIENT)
  const ofTurn = lines.filter((line) => line['event'])
  expect(new Set(ofTurn.map((line) => line['replica']))).toEqual(new Set(['r0', 'r1']))
  for (const line of ofTurn) expect(line['requestId']).toBe('asked-by-me')
})

test('kill -9 of the replica with the agent, then of the agent: the attempts are in one trace all the same', async () => {
  await using collector = await startCollector()
  await using net = await startNetwork(traced(collector, {}, 2))
  const { interaction, session } = await post(net.url(0), { pool: 'coder' }, 'go')
  const agent = await net.rawAgent({ pool: 'coder', replica: 1, agent: 'steady' })
  const first = await agent.turn()
  await net.replicas[1]!.kill9()
  const again = await net.rawAgent({
    pool: 'coder',
    replica: 0,
    agent: 'steady',
    holding: [{ session, request: first.request }],
  })
  expect(again.welcome).toMatchObject({ resumed: [{ request: first.request }] })
  again.close() // it never comes back: the turn goes to another
  await net.replicas[1]!.restart()
  const next = await net.rawAgent({ pool: 'coder', replica: 1, agent: 'next' })
  const second = await next.turn()
  expect(second).toMatchObject({ interaction, attempt: 2 })
  next.send(second.request, 1, text('done'), completed)

  const [asked, turn, lost, resumed, done] = await spansOf(
    collector,
    'POST /api/v1/messages',
    'turn',
    'attempt',
    'resume',
    'attempt',
  )
  expect(new Set(collector.spans.filter((span) => span.name !== 'HTTP').map((span) => span.trace))).toEqual(
    new Set([asked!.trace]),
  )
  expect(asked!.parent).toBe('')
  expect(turn!.parent).toBe(asked!.id)
  expect([lost, done].map((span) => span!.parent)).toEqual([turn!.id, turn!.id])
  expect(resumed!.parent).toBe(lost!.id)
  expect(replicaOf(resumed!)).toBe('r0')
  expect(first.traceparent).toBe(`00-${asked!.trace}-${lost!.id}-01`)
  expect(second.traceparent).toBe(`00-${asked!.trace}-${done!.id}-01`)
  expect(lost).toMatchObject({ status: 2, attributes: { 'throughline.attempt': 1, 'throughline.status': 'lost' } })
  expect(done).toMatchObject({ status: 0, attributes: { 'throughline.attempt': 2, 'throughline.status': 'completed' } })
  expect(done!.from).toBeGreaterThanOrEqual(lost!.to)
})

test('a message that waits for its turn and is cancelled, and one that no agent takes, say so', async () => {
  await using collector = await startCollector()
  await using net = await startNetwork(traced(collector, { AGENT_WAIT_MS: '500' }))
  const running = await post(net.url(0), { pool: 'coder' }, 'one')
  const queued = await post(net.url(0), { session: running.session }, 'two')
  await api(net.url(0), `/interactions/${queued.interaction}/cancel`, {})
  const turns = await eventually(
    () => {
      const found = collector.named('turn')
      return found.length === 2 && found
    },
    { limitMs: 15_000 },
  )
  const [cancelled, failed] = [queued, running].map(({ interaction }) =>
    turns.find((turn) => turn.attributes['throughline.interaction'] === interaction)!,
  )
  expect(cancelled).toMatchObject({ status: 0, attributes: { 'throughline.status': 'cancelled' } })
  expect(failed).toMatchObject({
    status: 2,
    attributes: { 'error.type': 'agent_unavailable', 'throughline.attempts': 0 },
  })
  expect(collector.spans.find((span) => span.parent === cancelled!.id)).toMatchObject({ name: 'queue' })
  expect(collector.spans.find((span) => span.parent === failed!.id)).toMatchObject({ name: 'wait' })
})

test('a viewer with a trace of its own keeps it, and is linked from the turn’s', async () => {
  await using collector = await startCollector()
  await using net = await startNetwork(traced(collector))
  const agent = await net.rawAgent({ pool: 'coder' })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'go')
  const { request, traceparent: told } = await agent.turn()
  agent.send(request, 1, completed)
  await using viewer = await SseReader.open(`${net.url(0)}/api/v1/interactions/${interaction}/events`, {
    headers: { traceparent },
  })
  await viewer.until((frame) => frame.event === 'done')
  const [request2, stream] = await spansOf(collector, 'GET /api/v1/interactions/:interaction/events', 'stream')
  expect(request2).toMatchObject({ trace: CLIENT, parent: '00f067aa0ba902b7' })
  expect(stream!.trace).toBe(traceIdOf({ traceparent: told!, tracestate: '' }))
  expect(stream!.links).toEqual([{ trace: CLIENT, id: request2!.id }])
})

test('what the sampler leaves out is not sent, and the agent is told so; a client that decided is followed', async () => {
  await using collector = await startCollector()
  await using net = await startNetwork(traced(collector, { OTEL_TRACES_SAMPLER: 'parentbased_always_off' }))
  const agent = await net.rawAgent({ pool: 'coder', capacity: 2 })
  await post(net.url(0), { pool: 'coder' }, 'nobody asked for a trace')
  const unsampled = await agent.turn()
  expect(unsampled.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/)
  await post(net.url(0), { pool: 'coder' }, 'trace this', {}, { traceparent })
  const sampled = await agent.turn(1)
  for (const { request } of [unsampled, sampled]) agent.send(request, 1, completed)
  await spansOf(collector, 'turn')
  await Promise.all(net.replicas.map((replica) => replica.drain())) // which sends all that waits
  expect(new Set(collector.spans.map((span) => span.trace))).toEqual(new Set([CLIENT]))
})

test('a replica that leaves sends what it has not sent yet', async () => {
  await using collector = await startCollector()
  await using net = await startNetwork(traced(collector, { OTEL_BSP_SCHEDULE_DELAY: '60000' }))
  await api(net.url(0), '/sessions')
  await api(net.url(0), '/sessions')
  expect(collector.spans).toEqual([])
  expect(await net.replicas[0]!.drain()).toBe(0)
  expect(collector.named('GET /api/v1/sessions')).toHaveLength(2)
  expect(collector.requests[0]!.contentType).toBe('application/x-protobuf')
})

test('a collector that refuses, or does not answer, costs a warning: turns go on, the replica leaves in time', async () => {
  let asked = 0
  await using collector = await startCollector({ answer: () => (asked++ === 0 ? 503 : 'never') })
  const impatient = { OTEL_EXPORTER_OTLP_TIMEOUT: '500', OTEL_BSP_EXPORT_TIMEOUT: '500' }
  await using net = await startNetwork(traced(collector, impatient))
  const agent = await net.rawAgent({ pool: 'coder' })
  for (let i = 0; i === 0 || asked < 3; i++) {
    const { interaction } = await post(net.url(0), { pool: 'coder' }, 'go')
    const { request } = await agent.turn(i)
    agent.send(request, 1, text('fine'), completed)
    await watch(net.url(0), interaction).done
  }
  await eventually(() => net.logged('tracing_trouble').length > 0)
  expect(await net.replicas[0]!.drain()).toBe(0)
  expect(net.logged('tracing_trouble')).toHaveLength(1)
})
