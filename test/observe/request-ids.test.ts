import { post, watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'

const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'

test('the id of the request that began a turn is on every line of the turn, at every replica', async () => {
  await using net = await startNetwork({
    replicas: 2,
    env: { AGENT_GRACE_MS: '100', SWEEP_EVERY_MS: '300', LEASE_TTL_MS: '1500' },
  })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'go', {}, { 'x-request-id': 'order-66' })
  const lost = await net.rawAgent({ pool: 'coder', replica: 0, agent: 'lost' })
  const { request } = await lost.turn()
  lost.close()
  const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
  const again = await agent.turn()
  expect(again.attempt).toBe(2)
  await net.rawAgent({ pool: 'coder', replica: 0, agent: 'lost', holding: [{ session: again.session, request }] })
  agent.send(again.request, 1, text('x'), completed)
  await watch(net.url(1), interaction).done
  await eventually(() => net.logged('mappings_cleared').length > 0)

  const lines = net.replicas.flatMap(({ logs }) => logs).filter((line) => line['interaction'] === interaction)
  const ofTurn = lines.filter((line) => line['event'])
  expect(new Set(ofTurn.map((line) => line['event']))).toEqual(
    new Set(['message_accepted', 'mappings_persisted', 'turn_redelivered', 'mappings_cleared']),
  )
  expect(new Set(ofTurn.map((line) => line['replica']))).toEqual(new Set(['r0', 'r1']))
  for (const line of ofTurn) expect(line).toMatchObject({ requestId: 'order-66' })
  // the requests about it have ids of their own
  const requests = lines.filter((line) => line['msg'] === 'request')
  expect(requests.map((line) => line['requestId']).filter((id) => id === 'order-66')).toHaveLength(1)
  expect(new Set(requests.map((line) => line['requestId'])).size).toBe(requests.length)
  for (const line of lines) expect(line).not.toHaveProperty('trace_id') // nobody asked for a trace
})

test('a message that comes again belongs to the request that brought it first', async () => {
  await using net = await startNetwork()
  const once = { 'idempotency-key': 'k' }
  const first = await post(net.url(0), { pool: 'coder' }, 'go', {}, { ...once, 'x-request-id': 'first' })
  expect(await post(net.url(0), { pool: 'coder' }, 'go', {}, { ...once, 'x-request-id': 'second' })).toEqual(first)
  const agent = await net.rawAgent({ pool: 'coder' })
  await agent.turn()
  expect(net.logged('mappings_persisted')).toMatchObject([{ requestId: 'first' }])
})

test('while nothing is traced, a client’s trace goes on to the agent as it came', async () => {
  await using net = await startNetwork()
  const agent = await net.rawAgent({ pool: 'coder', capacity: 3 })
  await post(net.url(0), { pool: 'coder' }, 'go', {}, { traceparent, tracestate: 'a=1' })
  expect(await agent.turn(0)).toMatchObject({ traceparent, tracestate: 'a=1' })
  await post(net.url(0), { pool: 'coder' }, 'go', {}, { traceparent: 'not a trace', tracestate: 'a=1' })
  await post(net.url(0), { pool: 'coder' }, 'go')
  for (const n of [1, 2]) {
    const turn = await agent.turn(n)
    expect(turn).not.toHaveProperty('traceparent')
    expect(turn).not.toHaveProperty('tracestate')
  }
  expect(net.logged('mappings_persisted').map((line) => line['trace_id'])).toEqual([
    '4bf92f3577b34da6a3ce929d0e0e4736',
    undefined,
    undefined,
  ])
})
