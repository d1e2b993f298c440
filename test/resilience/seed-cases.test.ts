import { outputText } from '../../src/protocol/fold.js'
import { api, post, watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'
import { completed, text, type RawAgent, type RawAgentOptions } from '../support/raw-agent.js'

/*
 * The cases of the note this project grew from: replicas are real processes and die by kill -9.
 */
const FAST = { SWEEP_EVERY_MS: '300', AGENT_GRACE_MS: '800', LEASE_TTL_MS: '1500', LOG_LEVEL: 'info' }
const words = Array.from({ length: 40 }, (_, i) => `word-${i} `)
const whole = words.join('')

/** Sends words one by one from `from` (0-based) to `to`, each acknowledged. */
async function say(agent: RawAgent, request: `req_${string}`, from: number, to: number): Promise<void> {
  for (let i = from; i < to; i++) {
    agent.send(request, i + 1, text(words[i]!))
    await agent.acked(request, i + 1)
  }
}

async function comeBack(net: Network, replica: number, agent: string, holding: RawAgentOptions['holding']) {
  const again = await net.rawAgent({ replica, agent, pool: 'coder', holding })
  if (!again.welcome.ok) throw new Error(again.welcome.message)
  return { again, resumed: again.welcome.resumed, ended: again.welcome.ended }
}

test('kill -9 of the replica with the HTTP stream: the client goes on elsewhere, byte for byte', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true, env: FAST })
  const agent = await net.rawAgent({ pool: 'coder', replica: 0 })
  const { interaction } = await post(net.url(1), { pool: 'coder' }, 'go')
  const seen = watch([net.url(1), net.url(0)], interaction)
  const { request } = await agent.turn()
  await say(agent, request, 0, 20)
  await eventually(() => seen.events.length >= 10)
  await net.replicas[1]!.kill9()
  await say(agent, request, 20, 40)
  agent.send(request, 41, completed)
  await seen.done
  expect(outputText(seen.turn)).toBe(whole)
  expect(seen.events.map((e) => e.n)).toEqual(seen.events.map((_, i) => i + 1))
  expect(seen.snapshots).toBe(0)
})

test('kill -9 of the replica with the agent in mid-stream: it goes on elsewhere, nothing lost or doubled', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true, env: FAST })
  const agent = await net.rawAgent({ pool: 'coder', replica: 0, agent: 'steady' })
  const { session, interaction } = await post(net.url(1), { pool: 'coder' }, 'go')
  const seen = watch(net.url(1), interaction)
  const { request } = await agent.turn()
  await say(agent, request, 0, 15)
  agent.send(request, 16, text(words[15]!)) // may or may not get through
  await net.replicas[0]!.kill9()
  const { again, resumed } = await comeBack(net, 1, 'steady', [{ session, request, acked: 15 }])
  expect(resumed).toHaveLength(1)
  const after = resumed[0]!.after
  expect([15, 16]).toContain(after)
  await say(again, request, after, 40)
  again.send(request, 41, completed)
  await seen.done
  expect(outputText(seen.turn)).toBe(whole)
  expect(again.turns).toHaveLength(0)
  expect(net.logged('mappings_restored')).toHaveLength(1)
})

test('kill -9 of all replicas at once: sessions, queue and turn in flight are as before', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true, env: FAST })
  const agent = await net.rawAgent({ pool: 'coder', replica: 0, agent: 'steady' })
  const { session, interaction } = await post(net.url(1), { pool: 'coder' }, 'go')
  const queued = await post(net.url(1), { session }, 'and then')
  const seen = watch([net.url(1), net.url(0)], interaction)
  const { request } = await agent.turn()
  await say(agent, request, 0, 20)
  await Promise.all(net.replicas.map((replica) => replica.kill9()))
  await Promise.all(net.replicas.map((replica) => replica.restart()))
  const { again, resumed } = await comeBack(net, 1, 'steady', [{ session, request, acked: 20 }])
  await say(again, request, resumed[0]!.after, 40)
  again.send(request, 41, completed)
  await seen.done
  expect(outputText(seen.turn)).toBe(whole)
  expect((await again.turn()).interaction).toBe(queued.interaction)
})

test('an agent that restarts before any output gets its turn again, as a new request', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true, env: FAST })
  const agent = await net.rawAgent({ pool: 'coder', replica: 0, agent: 'editor' })
  const { interaction } = await post(net.url(1), { pool: 'coder' }, 'go')
  await agent.turn()
  agent.close()
  const { again } = await comeBack(net, 1, 'editor', [])
  const turn = await again.turn()
  expect(turn).toMatchObject({ interaction, attempt: 2, input: 'go' })
  again.send(turn.request, 1, text('done'), completed)
  const seen = watch(net.url(0), interaction)
  await seen.done
  expect(outputText(seen.turn)).toBe('done')
  expect(net.logged('turn_redelivered')).toHaveLength(1)
})

test('an agent lost before any output is replaced by another of its pool', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true, env: FAST })
  const agent = await net.rawAgent({ pool: 'coder', replica: 0 })
  const { interaction } = await post(net.url(1), { pool: 'coder' }, 'go')
  await agent.turn()
  const other = await net.rawAgent({ pool: 'coder', replica: 1 })
  agent.close()
  expect(await other.turn()).toMatchObject({ interaction, attempt: 2 })
})

test('an agent gone after output: a clear failure within grace and a sweep; the session goes on', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true, env: FAST })
  const agent = await net.rawAgent({ pool: 'coder', replica: 0 })
  const { session, interaction } = await post(net.url(1), { pool: 'coder' }, 'go')
  const next = await post(net.url(1), { session }, 'next')
  const seen = watch(net.url(1), interaction)
  const { request } = await agent.turn()
  await say(agent, request, 0, 3)
  agent.close()
  await seen.done
  expect(seen.turn).toMatchObject({ status: 'failed', error: { code: 'agent_disconnected' } })
  expect(outputText(seen.turn)).toBe(words.slice(0, 3).join(''))
  const other = await net.rawAgent({ pool: 'coder', replica: 1 })
  expect((await other.turn()).interaction).toBe(next.interaction)
})

test('an agent gone after output with ON_AGENT_LOSS=retry: a reset, and the answer from the start', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true, env: { ...FAST, ON_AGENT_LOSS: 'retry' } })
  const agent = await net.rawAgent({ pool: 'coder', replica: 0 })
  const { interaction } = await post(net.url(1), { pool: 'coder' }, 'go')
  const seen = watch(net.url(1), interaction)
  const { request } = await agent.turn()
  await say(agent, request, 0, 3)
  agent.close()
  const other = await net.rawAgent({ pool: 'coder', replica: 1 })
  const again = await other.turn()
  expect(again.attempt).toBe(2)
  other.send(again.request, 1, text('from the start'), completed)
  await seen.done
  expect(seen.events.filter((e) => e.type === 'reset')).toHaveLength(1)
  expect(outputText(seen.turn)).toBe('from the start')
})

test('both the replica with the agent and the agent die: the turn fails when the lease has run out', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true, env: FAST })
  const agent = await net.rawAgent({ pool: 'coder', replica: 0 })
  const { interaction } = await post(net.url(1), { pool: 'coder' }, 'go')
  const seen = watch(net.url(1), interaction)
  const { request } = await agent.turn()
  await say(agent, request, 0, 3)
  await net.replicas[0]!.kill9()
  await seen.done
  expect(seen.turn.error?.code).toBe('agent_disconnected')
})

test('a waiting turn that started too long ago fails as stale; its mapping is cleared and streams end at once', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true, env: { ...FAST, STALE_AFTER_MS: '1600' } })
  const agent = await net.rawAgent({ pool: 'coder', replica: 0 })
  const { session, interaction } = await post(net.url(1), { pool: 'coder' }, 'go')
  const seen = watch(net.url(1), interaction)
  await agent.turn() // taken, and then nothing
  await seen.done
  expect(seen.turn.error?.code).toBe('stale')
  const { body } = await api<{ current: unknown }>(net.url(0), `/sessions/${session}`)
  expect(body.current).toBeNull()
  await eventually(() => expect(net.logged('stale_turn_detected')).toHaveLength(1)) // through a pipe
  await eventually(() => agent.cancels.length > 0)
})

test('a completion clears the three waiting fields of the session', async () => {
  await using net = await startNetwork({ replicas: 1, env: FAST })
  const agent = await net.rawAgent({ pool: 'coder' })
  const { session, interaction } = await post(net.url(0), { pool: 'coder' }, 'go')
  const { request } = await agent.turn()
  const key = `${net.prefix}{${session}}:session`
  expect(await net.redis.hmget(key, 'waitingInteractionId', 'lastRequestId')).toEqual([interaction, request])
  expect(Number(await net.redis.hget(key, 'requestStartedAt'))).toBeGreaterThan(0)
  agent.send(request, 1, completed)
  await agent.acked(request, 1)
  expect(await net.redis.hmget(key, 'waitingInteractionId', 'lastRequestId', 'requestStartedAt')).toEqual([
    null,
    null,
    null,
  ])
  await eventually(() => net.logged('mappings_cleared').length === 1)
})
