import { outputText } from '../../src/protocol/fold.js'
import { api, post, watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'
import type { SessionId } from '../../src/protocol/ids.js'
import { startRelay, type Relay } from './tcp-relay.js'

/**
 * Redis does what it is told, and its answers come too late: every call is made again, some many times. Of two networks
 * on the same keys one, with the agent, is behind a relay that keeps back the answers; the other posts and reads.
 */
const env = { REDIS_DEADLINE_MS: '150', SWEEP_EVERY_MS: '60000', LEASE_TTL_MS: '60000' }

async function behind(relay: Relay, prefix: string) {
  return startNetwork({ redisUrl: `redis://127.0.0.1:${relay.port}`, env: { ...env, KEY_PREFIX: prefix } })
}

const redisPort = () => Number(new URL(process.env['TEST_REDIS_URL']!).port || 6379)

test('a dispatch that is run many times, its answers lost, gives one request and uses up one attempt', async () => {
  await using net = await startNetwork({ env })
  await using relay = await startRelay(redisPort())
  await using late = await behind(relay, net.prefix)
  const { body } = await api<{ id: SessionId }>(net.url(0), '/sessions', { pool: 'coder' })
  const agent = await late.rawAgent({ sessions: [body.id] })
  relay.hold('commands')
  const { interaction } = await post(net.url(0), { session: body.id }, 'go')
  const seen = watch(net.url(0), interaction)
  await eventually(() => seen.events.some((e) => e.type === 'dispatched'))
  const hung = Date.now()
  await eventually(() => Date.now() - hung > 1500) // ten deadlines
  relay.release()
  const { request, attempt } = await agent.turn()
  expect(attempt).toBe(1)
  agent.send(request, 1, text('done'), completed)
  await seen.done
  expect(seen.events.map((e) => e.type)).toEqual(['submitted', 'dispatched', 'entry.append', 'completed'])
})

test('a batch that is run many times, its answers lost, is written once', async () => {
  await using net = await startNetwork({ env })
  await using relay = await startRelay(redisPort())
  await using late = await behind(relay, net.prefix)
  const agent = await late.rawAgent({ pool: 'coder' })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'go')
  const seen = watch(net.url(0), interaction)
  const { request } = await agent.turn()
  relay.hold('commands')
  agent.send(request, 1, text('one '))
  agent.send(request, 2, text('two '))
  await eventually(() => outputText(seen.turn).startsWith('one '))
  agent.send(request, 3, text('three'), completed)
  const hung = Date.now()
  await eventually(() => Date.now() - hung > 1000)
  relay.release()
  await seen.done
  expect(outputText(seen.turn)).toBe('one two three')
  expect(seen.events.map((e) => e.n)).toEqual([1, 2, 3, 4, 5, 6])
  await agent.acked(request, 4)
})

test('an agent that cannot load its thread is given the turn again without it, though the answer that says so was lost', async () => {
  await using net = await startNetwork({ env })
  await using relay = await startRelay(redisPort())
  await using late = await behind(relay, net.prefix)
  const agent = await late.rawAgent({ pool: 'coder' })
  const first = await post(net.url(0), { pool: 'coder' }, 'first')
  const before = await agent.turn()
  agent.send(before.request, 1, { type: 'thread', thread: 'T-1' }, completed)
  await agent.acked(before.request, 2)
  await post(net.url(0), { session: first.session }, 'second')
  const { request, thread } = await agent.turn(1)
  expect(thread).toBe('T-1')
  relay.hold('commands')
  agent.send(request, 1, { type: 'failed', code: 'thread_gone', message: 'no such thread' })
  const key = `${net.prefix}{${first.session}}:session`
  await eventually(async () => (await net.redis.hexists(key, 'thread')) === 0)
  const hung = Date.now()
  await eventually(() => Date.now() - hung > 1000)
  relay.release()
  expect(await agent.turn(2)).toMatchObject({ interaction: agent.turns[1]!.interaction, thread: null, attempt: 2 })
})
