import { outputText } from '../../src/protocol/fold.js'
import { api, post, watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'

interface Turn {
  status: string
  text: string
  error: { code: string } | null
  attempt: number
}

test('agent on replica A, reader on replica B', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder', replica: 0 })
  const { interaction } = await post(net.url(1), { pool: 'coder' }, 'hello')
  const seen = watch(net.url(1), interaction)
  const turn = await agent.turn()
  expect(turn.input).toBe('hello')
  agent.send(turn.request, 1, text('one '), text('two '))
  await agent.acked(turn.request, 2)
  agent.send(turn.request, 3, text('three'), completed)
  await seen.done
  expect(outputText(seen.turn)).toBe('one two three')
  expect(seen.turn.status).toBe('completed')
  expect(seen.events.map((e) => e.n)).toEqual(seen.events.map((_, i) => i + 1))
  const { body } = await api<Turn>(net.url(0), `/interactions/${interaction}`)
  expect(body).toMatchObject({ status: 'completed', text: 'one two three' })
})

test('a second message waits for the first and both are answered in order', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder' })
  const first = await post(net.url(0), { pool: 'coder' }, 'A')
  const second = await post(net.url(1), { session: first.session }, 'B')
  expect(second.queued).toBe(1)
  const a = await agent.turn(0)
  expect(agent.turns).toHaveLength(1)
  agent.send(a.request, 1, text('to A'), completed)
  const b = await agent.turn(1)
  expect(b.input).toBe('B')
  agent.send(b.request, 1, text('to B'), completed)
  const seen = watch(net.url(1), second.interaction)
  await seen.done
  expect(outputText(seen.turn)).toBe('to B')
})

test('an interrupt cancels the turn in flight and goes before what waits', async () => {
  await using net = await startNetwork()
  const agent = await net.rawAgent({ pool: 'coder' })
  const first = await post(net.url(0), { pool: 'coder' }, 'A')
  const a = await agent.turn(0)
  const waiting = await post(net.url(0), { session: first.session }, 'B')
  const urgent = await post(net.url(0), { session: first.session }, 'C', { interrupt: true })
  await eventually(() => agent.cancels.some((cancel) => cancel.request === a.request))
  agent.socket.emit('settled', { request: a.request })
  expect((await agent.turn(1)).input).toBe('C')
  expect((await api<Turn>(net.url(0), `/interactions/${first.interaction}`)).body.status).toBe('cancelled')
  agent.send(agent.turns[1]!.request, 1, completed)
  expect((await agent.turn(2)).interaction).toBe(waiting.interaction)
  expect(urgent.queued).toBe(0)
})

test('a cancelled turn is terminal at once; what its agent still sends is fenced off', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder' })
  const { interaction } = await post(net.url(1), { pool: 'coder' }, 'go')
  const turn = await agent.turn()
  agent.send(turn.request, 1, text('partial'))
  await agent.acked(turn.request, 1)
  const { body } = await api<Turn>(net.url(1), `/interactions/${interaction}/cancel`, {})
  expect(body).toMatchObject({ status: 'cancelled', text: 'partial' })
  await eventually(() => agent.cancels.length > 0)
  agent.send(turn.request, 2, text(' late'), completed)
  await eventually(() => net.logged('late_event_fenced').length > 0)
  const seen = watch(net.url(0), interaction)
  await seen.done
  expect(outputText(seen.turn)).toBe('partial')
  expect(seen.events.filter((e) => e.type === 'cancelled')).toHaveLength(1)
})

test('a message waits for an agent to come, and fails clearly when none comes', async () => {
  await using net = await startNetwork({ env: { AGENT_WAIT_MS: '700', SWEEP_EVERY_MS: '200' } })
  const lost = await post(net.url(0), { pool: 'coder' }, 'anyone?')
  const seen = watch(net.url(0), lost.interaction)
  await seen.done
  expect(seen.turn.error?.code).toBe('agent_unavailable')
  const found = await post(net.url(0), { pool: 'coder' }, 'and now?')
  const agent = await net.rawAgent({ pool: 'coder' })
  expect((await agent.turn()).interaction).toBe(found.interaction)
})

test('capacity is respected and a free place is filled at once', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder', capacity: 2 })
  const posted = await Promise.all([0, 1, 2, 3].map((i) => post(net.url(i % 2), { pool: 'coder' }, `m${i}`)))
  await agent.turn(1)
  expect(agent.turns).toHaveLength(2)
  agent.send(agent.turns[0]!.request, 1, completed)
  await agent.turn(2)
  agent.send(agent.turns[1]!.request, 1, completed)
  await agent.turn(3)
  expect(new Set(agent.turns.map((t) => t.interaction))).toEqual(new Set(posted.map((p) => p.interaction)))
})

test('a session goes back to the agent that has its thread', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const one = await net.rawAgent({ pool: 'coder', replica: 0 })
  const { session } = await post(net.url(1), { pool: 'coder' }, 'first')
  const turn = await one.turn()
  await net.rawAgent({ pool: 'coder', replica: 1 })
  one.send(turn.request, 1, { type: 'thread', thread: 'T-1' }, completed)
  await one.acked(turn.request, 2)
  await eventually(async () => (await api<{ agent: unknown }>(net.url(0), `/sessions/${session}`)).body.agent === null)
  await post(net.url(1), { session }, 'second')
  const again = await one.turn(1)
  expect(again.thread).toBe('T-1')
})

test('a turn that is not accepted is sent again with the same request id, then goes elsewhere', async () => {
  await using net = await startNetwork({ env: { ACCEPT_MS: '150', SWEEP_EVERY_MS: '200', AGENT_GRACE_MS: '100' } })
  const deaf = await net.rawAgent({ pool: 'coder', accepts: false })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'hello?')
  await deaf.turn(2)
  expect(new Set(deaf.turns.map((t) => t.request)).size).toBe(1)
  await eventually(() => !deaf.socket.connected)
  const other = await net.rawAgent({ pool: 'coder' })
  const turn = await other.turn()
  expect(turn).toMatchObject({ interaction, attempt: 2 })
})

test('the same Idempotency-Key is the same interaction, on any replica, at the same time', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const key = { 'idempotency-key': 'abc-1' }
  const posted = await Promise.all([0, 1, 0, 1, 0].map((i) => post(net.url(i), { pool: 'coder' }, 'once', {}, key)))
  expect(new Set(posted.map((p) => p.interaction)).size).toBe(1)
  const other = await api(net.url(0), '/messages', { pool: 'coder', text: 'different' }, { headers: key })
  expect(other.status).toBe(422)
})

test('a thread that cannot be loaded is forgotten and the turn delivered again without it, once', async () => {
  await using net = await startNetwork()
  const agent = await net.rawAgent({ pool: 'coder' })
  const { session } = await post(net.url(0), { pool: 'coder' }, 'first')
  const first = await agent.turn()
  agent.send(first.request, 1, { type: 'thread', thread: 'T-9' }, completed)
  await agent.acked(first.request, 2)
  const { interaction } = await post(net.url(0), { session }, 'second')
  const second = await agent.turn(1)
  expect(second.thread).toBe('T-9')
  const released = {
    type: 'failed',
    code: 'thread_load_error',
    message: 'Failed to load thread: entity released',
  } as const
  agent.send(second.request, 1, released)
  const third = await agent.turn(2)
  expect(third).toMatchObject({ interaction, thread: null, attempt: 2 })
  expect(net.logged('thread_mapping_cleared')).toHaveLength(1)
  agent.send(third.request, 1, released)
  const seen = watch(net.url(0), interaction)
  await seen.done
  expect(seen.turn.error?.code).toBe('thread_load_error')
  expect(agent.turns).toHaveLength(3)
})
