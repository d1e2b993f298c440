import type { Welcome } from '../../src/protocol/agent-wire.js'
import type { LogEvent } from '../../src/protocol/events.js'
import { emptyTurn, fold } from '../../src/protocol/fold.js'
import type { SessionId } from '../../src/protocol/ids.js'
import { api, post, watch, type Posted, type Seen } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'
import { completed, text, type RawAgent } from '../support/raw-agent.js'
import { SseReader } from '../support/sse.js'

const FAR = '600000'
const env = { SWEEP_EVERY_MS: '150', LEASE_TTL_MS: '900', AGENT_GRACE_MS: '300', STICKY_WAIT_MS: FAR }

/** A session whose thread the agent has, and that is not leased. */
async function sessionOf(net: Network, agent: RawAgent, n: number): Promise<SessionId> {
  const { session } = await post(net.url(0), { pool: 'coder' }, 'first')
  const turn = await agent.turn(n)
  agent.send(turn.request, 1, { type: 'thread', thread: `T-${session}` }, completed)
  await agent.acked(turn.request, 2)
  await eventually(async () => (await api<{ agent: unknown }>(net.url(0), `/sessions/${session}`)).body.agent === null)
  return session
}

/** One agent that has the thread of `mine` and is busy with another session. */
async function busy(net: Network): Promise<{ one: RawAgent; mine: SessionId; other: Posted }> {
  const one = await net.rawAgent({ pool: 'coder', agent: 'one' })
  const mine = await sessionOf(net, one, 0)
  const other = await post(net.url(0), { pool: 'coder' }, 'keeps it busy')
  await one.turn(1)
  return { one, mine, other }
}

const positions = (seen: Seen) => seen.events.flatMap((event) => (event.type === 'pending' ? [event.position] : []))

test('a session waits for the busy agent that has its thread, and is not given to a free one meanwhile', async () => {
  await using net = await startNetwork({ replicas: 2, env })
  const { one, mine } = await busy(net)
  const two = await net.rawAgent({ pool: 'coder', replica: 1 })
  await post(net.url(1), { session: mine }, 'second')
  await post(net.url(1), { pool: 'coder' }, 'for anybody')
  expect((await two.turn()).input).toBe('for anybody') // the free one takes what came later
  one.send(one.turns[1]!.request, 1, completed)
  expect(await one.turn(2)).toMatchObject({ session: mine, thread: `T-${mine}` })
  expect(two.turns).toHaveLength(1)
})

test('a full agent that connects again, and names a turn that has ended, is not given what its session has next', async () => {
  await using net = await startNetwork({ replicas: 2, env })
  const { one, mine, other } = await busy(net)
  const next = await post(net.url(1), { session: mine }, 'second')
  const seen = watch(net.url(1), next.interaction)
  await eventually(() => positions(seen).length === 1) // it stands in line, as there is no place
  const [ended, runs] = one.turns.map(({ session, request }) => ({ session, request, acked: 0 }))
  const holding = [runs!, ...Array.from({ length: 999 }, () => ended!)] // so that its welcome takes a while
  const again = await net.rawAgent({ pool: 'coder', agent: 'one', replica: 1, holding })
  expect(again.welcome).toMatchObject({ resumed: [{ session: other.session }] })
  expect((again.welcome as Welcome).ended).toHaveLength(999)
  again.send(runs!.request, 1, text('still at it'))
  await again.acked(runs!.request, 1)
  expect(again.turns).toEqual([])
  again.send(runs!.request, 2, completed)
  expect(await again.turn()).toMatchObject({ interaction: next.interaction, thread: `T-${mine}`, attempt: 1 })
  expect(one.turns).toHaveLength(2) // the older connection has no place for it either
})

test('when the turn of an agent that has said goodbye is cancelled, the next one of its session goes to another', async () => {
  await using net = await startNetwork({ replicas: 2, env })
  const one = await net.rawAgent({ pool: 'coder' })
  const { session, interaction } = await post(net.url(0), { pool: 'coder' }, 'first')
  const { request } = await one.turn()
  const next = await post(net.url(0), { session }, 'next')
  await one.socket.emitWithAck('leave', {})
  const two = await net.rawAgent({ pool: 'coder', replica: 1 })
  await api(net.url(1), `/interactions/${interaction}/cancel`, {})
  await eventually(() => one.cancels.length > 0)
  one.socket.emit('settled', { request })
  expect(await two.turn()).toMatchObject({ interaction: next.interaction, attempt: 1 })
  expect(one.turns).toHaveLength(1)
})

test('when that agent stays full for ever the session falls over to the pool, with its thread and its place', async () => {
  await using net = await startNetwork({ replicas: 2, env: { ...env, STICKY_WAIT_MS: '800' } })
  const { one, mine } = await busy(net)
  const { interaction } = await post(net.url(1), { session: mine }, 'second')
  const two = await net.rawAgent({ pool: 'coder', replica: 1 })
  expect(await two.turn()).toMatchObject({ interaction, session: mine, thread: `T-${mine}`, attempt: 1 })
  two.send(two.turns[0]!.request, 1, completed)
  await two.acked(two.turns[0]!.request, 1)
  // and from now on it is two's, though one gets free and had it in its line
  one.send(one.turns[1]!.request, 1, completed)
  await one.acked(one.turns[1]!.request, 1)
  await eventually(async () => (await api<{ agent: unknown }>(net.url(0), `/sessions/${mine}`)).body.agent === null)
  await post(net.url(0), { session: mine }, 'third')
  expect(await two.turn(1)).toMatchObject({ session: mine })
})

test('sessions in the line of an agent that says goodbye go to the pool at once', async () => {
  await using net = await startNetwork({ replicas: 2, env })
  const { one, mine } = await busy(net)
  const two = await net.rawAgent({ pool: 'coder', replica: 1 })
  await post(net.url(1), { session: mine }, 'second')
  await one.socket.emitWithAck('leave', {})
  expect(await two.turn()).toMatchObject({ session: mine })
  // what it has in hand goes on
  one.send(one.turns[1]!.request, 1, text('done'), completed)
  await one.acked(one.turns[1]!.request, 2)
})

test('sessions in the line of an agent that died without a word go to the pool', async () => {
  await using net = await startNetwork({ replicas: 2, env: { ...env, STICKY_WAIT_MS: '1000' } })
  const { one, mine } = await busy(net)
  const two = await net.rawAgent({ pool: 'coder', replica: 1, capacity: 2 })
  await post(net.url(1), { session: mine }, 'second')
  one.socket.io.engine.close()
  await eventually(() => two.turns.some((turn) => turn.session === mine))
})

test('also when its replica was killed with it, so that nobody noticed', async () => {
  const lasting = { LEASE_TTL_MS: '60000', STALE_AFTER_MS: FAR } // its entry outlives it by minutes
  await using net = await startNetwork({
    replicas: 2,
    processes: true,
    env: { ...env, ...lasting, STICKY_WAIT_MS: '1000' },
  })
  const { mine } = await busy(net)
  await net.replicas[0]!.kill9()
  const two = await net.rawAgent({ pool: 'coder', replica: 1 })
  await post(net.url(1), { session: mine }, 'second')
  expect(await eventually(() => two.turns[0] ?? false, { limitMs: 20_000 })).toMatchObject({ session: mine })
})

test('new sessions are served though the agent’s own sessions come all the time', async () => {
  await using net = await startNetwork({ env })
  const one = await net.rawAgent({ pool: 'coder', agent: 'one' })
  const own = [await sessionOf(net, one, 0), await sessionOf(net, one, 1)]
  await post(net.url(0), { session: own[0]! }, 'busy')
  await one.turn(2)
  const fresh = await post(net.url(0), { pool: 'coder' }, 'new here')
  await post(net.url(0), { session: own[1]! }, 'later, but its own')
  one.send(one.turns[2]!.request, 1, completed)
  expect(await one.turn(3)).toMatchObject({ interaction: fresh.interaction })
  one.send(one.turns[3]!.request, 1, completed)
  expect(await one.turn(4)).toMatchObject({ session: own[1] })
})

test('a turn for which no place is free knows where it stands, and hears when that changes, and only then', async () => {
  await using net = await startNetwork({ replicas: 2, env })
  const posted: Posted[] = []
  for (let i = 0; i < 3; i++) posted.push(await post(net.url(i % 2), { pool: 'coder' }, `m${i}`))
  const seen = posted.map(({ interaction }) => watch([net.url(0), net.url(1)], interaction))
  await eventually(() => expect(seen.map(positions)).toEqual([[1], [2], [3]]))
  expect(seen[2]!.turn).toMatchObject({ status: 'waiting', position: 3 })

  await api(net.url(1), `/interactions/${posted[0]!.interaction}/cancel`, {})
  await eventually(() => expect(seen.map(positions)).toEqual([[1], [2, 1], [3, 2]]), { limitMs: 15_000 })

  const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
  const first = await agent.turn()
  expect(first.interaction).toBe(posted[1]!.interaction)
  await eventually(() => expect(positions(seen[2]!)).toEqual([3, 2, 1]), { limitMs: 15_000 })
  agent.send(first.request, 1, completed)
  const last = await agent.turn(1)
  await eventually(() => expect(seen[2]!.turn).toMatchObject({ status: 'waiting', attempt: 1 }))
  expect(seen[2]!.turn.position).toBeUndefined()
  agent.send(last.request, 1, text('here'), completed)
  await Promise.all(seen.map((it) => it.done))
  // it stands in the log, so another reader, later and elsewhere, sees the same
  for (const [i, { interaction }] of posted.entries()) {
    const again = watch(net.url(0), interaction)
    await again.done
    expect(again.events).toEqual(seen[i]!.events)
  }
})

test('a turn that finds a free place is told of no line', async () => {
  await using net = await startNetwork({ replicas: 2, env })
  const agent = await net.rawAgent({ pool: 'coder', capacity: 2 })
  const { interaction } = await post(net.url(1), { pool: 'coder' }, 'hello')
  const { request } = await agent.turn()
  agent.send(request, 1, completed)
  const seen = watch(net.url(1), interaction)
  await seen.done
  expect(seen.events.map((event) => event.type)).toEqual(['submitted', 'dispatched', 'completed'])
})

test('the line is an event of the native stream, and nothing in OpenAI’s; then the turn fails clearly', async () => {
  await using net = await startNetwork({ env: { ...env, AGENT_WAIT_MS: '1200' } })
  await using native = await SseReader.post(`${net.url(0)}/api/v1/messages`, {
    pool: 'coder',
    text: 'hi',
    stream: true,
  })
  await using chat = await SseReader.post(`${net.url(0)}/v1/chat/completions`, {
    model: 'coder',
    stream: true,
    messages: [{ role: 'user', content: 'hi' }],
  })
  const names: string[] = []
  let turn = emptyTurn()
  for (let frame = await native.next(); frame; frame = await native.next()) {
    if (frame.event) names.push(frame.event)
    if (frame.id && frame.data) turn = fold(turn, JSON.parse(frame.data) as LogEvent)
    if (frame.event === 'pending') expect(turn.position).toBe(1)
  }
  expect(names).toEqual(['submitted', 'pending', 'failed', 'done'])
  expect(turn).toMatchObject({ status: 'failed', error: { code: 'agent_unavailable' } })
  const chunks: string[] = []
  for (let frame = await chat.next(); frame; frame = await chat.next()) if (frame.data) chunks.push(frame.data)
  expect(chunks.join()).not.toContain('pending')
  expect(chunks.join()).toContain('agent_unavailable')
})

test('a turn that was cancelled in the line costs no agent anything, and does not move its thread', async () => {
  await using net = await startNetwork({ env })
  const { one, mine } = await busy(net)
  const { interaction } = await post(net.url(0), { session: mine }, 'changed my mind')
  await api(net.url(0), `/interactions/${interaction}/cancel`, {})
  const two = await net.rawAgent({ pool: 'coder', agent: 'two', capacity: 4 })
  const { session } = await post(net.url(0), { pool: 'coder' }, 'a real one')
  expect(await two.turn()).toMatchObject({ session })
  await post(net.url(0), { session: mine }, 'second')
  one.send(one.turns[1]!.request, 1, completed)
  expect(await one.turn(2)).toMatchObject({ session: mine, input: 'second' })
})
