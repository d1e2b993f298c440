import { Redis } from 'ioredis'
import { outputText } from '../../src/protocol/fold.js'
import type { AgentEvent } from '../../src/protocol/events.js'
import type { RequestId, SessionId } from '../../src/protocol/ids.js'
import { api, post, watch, type Posted } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'
import { completed, text, type RawAgent } from '../support/raw-agent.js'
import { startRedisCluster, type RedisCluster } from '../support/redis-server.js'

/** The same gateway on a real Redis Cluster: three masters, each with a third of the slots. */
let cluster: RedisCluster
let net: Network
const FAST = {
  SWEEP_EVERY_MS: '300',
  AGENT_WAIT_MS: '2000',
  PROBE_MS: '500',
  LEASE_TTL_MS: '3000',
  AGENT_GRACE_MS: '500',
}

beforeAll(async () => {
  cluster = await startRedisCluster()
  const url = `redis+cluster://${cluster.nodes.map((node) => `127.0.0.1:${node.port}`).join(',')}`
  net = await startNetwork({ replicas: 2, redisUrl: url, env: { ...FAST, POOLS: 'coder,empty,slow,parallel' } })
}, 60_000)
afterAll(async () => {
  await net?.[Symbol.asyncDispose]()
  await cluster?.stop()
}, 60_000)

interface Turn {
  status: string
  text: string
  error: { code: string } | null
}
const turn = async (id: string) => (await api<Turn>(net.url(1), `/interactions/${id}`)).body

/** Answers every turn that it is given, and every later one, by `say`. */
function answering(agent: RawAgent, say: (request: RequestId, input: string) => void): void {
  for (const it of agent.turns) say(it.request, it.input)
  agent.socket.on('turn', (it) => say(it.request, it.input))
}

/** The master that has the session's slot. */
async function masterOf(session: SessionId): Promise<number> {
  const redis = new Redis(cluster.nodes[0]!.url)
  const slot = Number(await redis.cluster('KEYSLOT', `{${session}}`))
  redis.disconnect()
  return Math.floor((slot * cluster.nodes.length) / 16_384)
}

test('whole turns on sessions of all three masters: agent on one replica, readers on the other', async () => {
  const agent = await net.rawAgent({ pool: 'coder', replica: 0, capacity: 4 })
  answering(agent, (request, input) => {
    agent.send(request, 1, text('you said '), text(input))
    agent.send(request, 3, { type: 'thread', thread: `T-${request}` }, completed)
  })
  // sessions until each master has at least four, so chance leaves none out
  const posted: Posted[] = []
  const perMaster = [0, 0, 0]
  while (Math.min(...perMaster) < 4) {
    const it = await post(net.url(1), { pool: 'coder' }, `m${posted.length}`)
    posted.push(it)
    perMaster[await masterOf(it.session)]!++
    if (posted.length > 200) throw new Error(`sessions on masters: ${perMaster.join(', ')}`)
  }
  expect(posted.length).toBeGreaterThanOrEqual(12)
  const seen = posted.map(({ interaction }) => watch(net.url(1), interaction))
  await Promise.all(seen.map((it) => it.done))
  seen.forEach((it, i) => {
    expect(outputText(it.turn)).toBe(`you said m${i}`)
    expect(it.turn.status).toBe('completed')
    expect(it.events.map((e) => e.n)).toEqual(it.events.map((_, n) => n + 1))
  })

  // and a second turn on each: what was kept is found, in whatever slot
  const again = await Promise.all(posted.map(({ session }, i) => post(net.url(i % 2), { session }, `again ${i}`)))
  await Promise.all(again.map(({ interaction }) => watch(net.url(0), interaction).done))
  for (const [i, { interaction, session }] of again.entries()) {
    expect(await turn(interaction)).toMatchObject({ status: 'completed', text: `you said again ${i}` })
    const { body } = await api<{ interactions: Turn[] }>(net.url(0), `/sessions/${session}/interactions`)
    expect(body.interactions.map((it) => it.text)).toEqual([`you said m${i}`, `you said again ${i}`])
  }
  expect(new Set(agent.turns.map((it) => it.request)).size).toBe(posted.length * 2)
  const { body } = await api<{ sessions: unknown[] }>(net.url(0), '/sessions?limit=100')
  expect(body.sessions.length).toBeGreaterThanOrEqual(posted.length)
  agent.close()
}, 60_000)

test('an answer is seen word by word while it is written, on every master', async () => {
  const agent = await net.rawAgent({ pool: 'slow', replica: 0, capacity: 20 })
  const posted: Posted[] = []
  const masters = new Set<number>()
  while (masters.size < 3) {
    const it = await post(net.url(1), { pool: 'slow' }, 'go')
    posted.push(it)
    masters.add(await masterOf(it.session))
    if (posted.length > 15) break
  }
  expect(masters.size).toBe(3)
  await agent.turn(posted.length - 1)
  for (const { interaction } of posted) {
    const seen = watch(net.url(1), interaction)
    const { request } = agent.turns.find((it) => it.interaction === interaction)!
    for (const [i, word] of ['one ', 'two ', 'three'].entries()) {
      agent.send(request, i + 1, text(word))
      const so = ['one ', 'two ', 'three'].slice(0, i + 1).join('')
      const asked = Date.now()
      await eventually(() => outputText(seen.turn) === so)
      expect(Date.now() - asked).toBeLessThan(3000) // live, not by a look at the log every 15 s
    }
    agent.send(request, 4, completed)
    await seen.done
    expect(seen.snapshots).toBe(0)
  }
  agent.close()
}, 60_000)

test('a cancel from the other replica ends the turn at once and reaches the agent', async () => {
  const agent = await net.rawAgent({ pool: 'parallel', replica: 0, capacity: 6 })
  const posted = await Promise.all(Array.from({ length: 6 }, () => post(net.url(1), { pool: 'parallel' }, 'go')))
  await agent.turn(5)
  for (const { interaction } of posted) {
    const { request } = agent.turns.find((it) => it.interaction === interaction)!
    agent.send(request, 1, text('half'))
    await agent.acked(request, 1)
    const { body } = await api<Turn>(net.url(1), `/interactions/${interaction}/cancel`, {})
    expect(body).toMatchObject({ status: 'cancelled', text: 'half' })
    await eventually(() => agent.cancels.some((it) => it.request === request))
  }
  agent.close()
}, 60_000)

test('messages queue, an interrupt goes first, and a session can be deleted', async () => {
  const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
  const first = await post(net.url(0), { pool: 'coder' }, 'A')
  await agent.turn(0)
  const waiting = await post(net.url(0), { session: first.session }, 'B')
  const urgent = await post(net.url(1), { session: first.session }, 'C', { interrupt: true })
  agent.socket.emit('settled', { request: agent.turns[0]!.request })
  expect((await agent.turn(1)).interaction).toBe(urgent.interaction)
  agent.send(agent.turns[1]!.request, 1, completed)
  expect((await agent.turn(2)).interaction).toBe(waiting.interaction)
  const seen = watch(net.url(0), waiting.interaction)
  await api(net.url(1), `/sessions/${first.session}`, undefined, { method: 'DELETE' })
  await seen.done
  expect(seen.turn.status).toBe('cancelled')
  agent.close()
}, 60_000)

test('the same Idempotency-Key is one message', async () => {
  const key = { 'idempotency-key': 'cluster-1' }
  const posted = await Promise.all([0, 1, 0, 1].map((i) => post(net.url(i), { pool: 'empty' }, 'once', {}, key)))
  expect(new Set(posted.map((it) => it.interaction)).size).toBe(1)
}, 60_000)

test('the sweep runs by its clock and ends what nobody took, on every master', async () => {
  const posted = await Promise.all(
    Array.from({ length: 12 }, (_, i) => post(net.url(i % 2), { pool: 'empty' }, 'anyone?')),
  )
  const seen = posted.map(({ interaction }, i) => watch(net.url(i % 2), interaction))
  await Promise.all(seen.map((it) => it.done))
  for (const it of seen) expect(it.turn.error?.code).toBe('agent_unavailable')
  const swept = await Promise.all(net.replicas.map(async ({ opsUrl }) => (await fetch(`${opsUrl}/metrics`)).text()))
  const byClock = swept.map((metrics) => Number(/_sweeps_total\{[^}]*by="clock"[^}]*\} (\d+)/.exec(metrics)?.[1] ?? 0))
  expect(byClock.reduce((a, b) => a + b)).toBeGreaterThan(1)
}, 60_000)

test('an agent that moves to the other replica goes on where it stopped', async () => {
  const agent = await net.rawAgent({ pool: 'coder', agent: 'mover', replica: 0 })
  const { interaction, session } = await post(net.url(1), { pool: 'coder' }, 'go')
  const { request } = await agent.turn()
  const seen = watch(net.url(0), interaction)
  agent.send(request, 1, text('one '), text('two '))
  await agent.acked(request, 2)
  const moved = await net.rawAgent({
    pool: 'coder',
    agent: 'mover',
    replica: 1,
    holding: [{ session, request, acked: 2 }],
  })
  expect(moved.welcome).toMatchObject({ ok: true, resumed: [{ session, request, after: 2 }] })
  await eventually(() => !agent.socket.connected) // told over the adapter, from one replica to the other
  moved.send(request, 3, text('three'), completed)
  await seen.done
  expect(outputText(seen.turn)).toBe('one two three')
  moved.close()
}, 60_000)

test('when every master cuts its subscribers, over and over, no reader misses or repeats a word', async () => {
  const agent = await net.rawAgent({ pool: 'slow', replica: 0, capacity: 9 })
  const posted = await Promise.all(Array.from({ length: 9 }, () => post(net.url(1), { pool: 'slow' }, 'go')))
  const seen = posted.map(({ interaction }) => watch(net.url(1), interaction))
  await agent.turn(8)
  const masters = cluster.nodes.map((node) => new Redis(node.url))
  for (let round = 1; round <= 10; round++) {
    for (const { request } of agent.turns) agent.send(request, round, text(`${round} `))
    if (round % 3 === 0) await Promise.all(masters.map((master) => master.call('CLIENT', 'KILL', 'TYPE', 'pubsub')))
    for (const { request } of agent.turns) await agent.acked(request, round)
  }
  for (const master of masters) master.disconnect()
  for (const { request } of agent.turns) agent.send(request, 11, completed)
  await Promise.all(seen.map((it) => it.done))
  for (const it of seen) {
    expect(outputText(it.turn)).toBe('1 2 3 4 5 6 7 8 9 10 ')
    expect(it.events.map((e) => e.n)).toEqual(it.events.map((_, n) => n + 1))
  }
  agent.close()
}, 60_000)

test('a master that is killed and comes back loses no turn, on its slots or on others', async () => {
  const agent = await net.rawAgent({ pool: 'parallel', replica: 0, capacity: 9 })
  const posted = await Promise.all(Array.from({ length: 9 }, () => post(net.url(1), { pool: 'parallel' }, 'go')))
  const seen = posted.map(({ interaction }) => watch(net.url(1), interaction))
  await agent.turn(8)
  const said = new Map<RequestId, AgentEvent[]>(agent.turns.map(({ request }) => [request, []]))
  agent.socket.on('resend', ({ request, after }) => agent.send(request, after + 1, ...said.get(request)!.slice(after)))
  const say = (request: RequestId, event: AgentEvent) => {
    said.get(request)!.push(event)
    agent.send(request, said.get(request)!.length, event)
  }
  for (const request of said.keys()) say(request, text('before '))
  for (const request of said.keys()) await agent.acked(request, 1)
  await cluster.nodes[1]!.kill9()
  for (const request of said.keys()) say(request, text('during '))
  await cluster.nodes[1]!.restart()
  for (const request of said.keys()) await agent.acked(request, 2)
  for (const request of said.keys()) say(request, completed)
  await Promise.all(seen.map((it) => it.done))
  for (const it of seen) expect([it.turn.status, outputText(it.turn)]).toEqual(['completed', 'before during '])
  agent.close()
}, 90_000)

test('no command of all this met a wrong slot, and nothing was logged as a bug', () => {
  const lines = net.replicas.flatMap((replica) => replica.logs)
  expect(lines.filter((line) => /CROSSSLOT|non local key|same slot/i.test(JSON.stringify(line)))).toEqual([])
  expect(
    lines.filter((line) => line['msg'] === 'bug' || line['event'] === 'bug' || Number(line['level']) >= 50),
  ).toEqual([])
})
