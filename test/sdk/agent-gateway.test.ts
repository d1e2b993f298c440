import { setTimeout as sleep } from 'node:timers/promises'
import { outputText } from '../../src/protocol/fold.js'
import { demoAgent } from '../../src/cli/demo-agent.js'
import { serve, type Handler } from '../../src/sdk/agent.js'
import { api, post, watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'

/*
 * The SDK and the real gateway.
 */
const FAST = { SWEEP_EVERY_MS: '300', AGENT_GRACE_MS: '8000', LEASE_TTL_MS: '6000' }
const WORDS = 150
const whole = Array.from({ length: WORDS }, (_, i) => `word-${i} `).join('')

/** Says its words at a pace that leaves time for trouble, and counts how often it was run. */
function storyteller(): { handler: Handler; runs: number; said: number } {
  const it = {
    runs: 0,
    said: 0,
    handler: (async (turn) => {
      it.runs++
      for (let i = 0; i < WORDS; i++) {
        await turn.text(`word-${i} `)
        it.said = i + 1
        await sleep(10, undefined, { signal: turn.signal })
      }
    }) satisfies Handler,
  }
  return it
}

function agentOf(net: Network, handler: Handler, lines: string[] = []) {
  const log = { info: (line: string) => void lines.push(line), warn: (line: string) => void lines.push(line) }
  const agent = serve({ url: net.replicas.map(({ url }) => url), pool: 'coder', capacity: 8, log }, handler)
  net.onDispose(() => agent.close(0))
  return agent
}

/** The replica that the agent is connected to. */
const replicaOf = (lines: string[]): number =>
  Number(/replica r(\d)/.exec(lines.findLast((line) => line.includes('connected to'))!)![1])

test('kill -9 of the replica with the agent: the answer goes on elsewhere, run once, byte for byte', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true, env: FAST })
  const teller = storyteller()
  const lines: string[] = []
  agentOf(net, teller.handler, lines)
  await eventually(() => lines.length > 0)
  const on = replicaOf(lines)
  const { interaction } = await post(net.url(1 - on), { pool: 'coder' }, 'go')
  const seen = watch(net.url(1 - on), interaction)
  await eventually(() => teller.said > 30)
  await net.replicas[on]!.kill9()
  await seen.done
  expect(seen.turn.status).toBe('completed')
  expect(outputText(seen.turn)).toBe(whole)
  expect(seen.snapshots).toBe(0)
  expect(teller.runs).toBe(1)
})

test('a replica that drains: its agent moves in mid-answer without a break, and the replica ends at once', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true, env: FAST })
  const teller = storyteller()
  const lines: string[] = []
  agentOf(net, teller.handler, lines)
  await eventually(() => lines.length > 0)
  const on = replicaOf(lines)
  const { interaction } = await post(net.url(1 - on), { pool: 'coder' }, 'go')
  const seen = watch(net.url(1 - on), interaction)
  await eventually(() => teller.said > 30)
  expect(await net.replicas[on]!.drain()).toBe(0)
  expect(teller.said).toBeLessThan(WORDS) // it did not wait for the turn to end
  expect(replicaOf(lines)).toBe(1 - on)
  expect(lines.join('\n')).not.toContain('lost')
  await seen.done
  expect(outputText(seen.turn)).toBe(whole)
  expect(teller.runs).toBe(1)
})

test('a cancelled turn aborts its handler, and the session goes on with the next message', async () => {
  await using net = await startNetwork({ env: FAST })
  const reasons: unknown[] = []
  agentOf(net, async (turn) => {
    if (turn.input !== 'wait') return turn.text('at your service')
    await turn.text('working')
    await sleep(60_000, undefined, { signal: turn.signal }).catch(() => reasons.push(turn.signal.reason))
  })
  const first = await post(net.url(0), { pool: 'coder' }, 'wait')
  const seen = watch(net.url(0), first.interaction)
  await eventually(() => outputText(seen.turn) === 'working')
  const second = await post(net.url(0), { session: first.session }, 'now')
  await api(net.url(0), `/interactions/${first.interaction}/cancel`, {})
  await seen.done
  expect(seen.turn.status).toBe('cancelled')
  const next = watch(net.url(0), second.interaction)
  await next.done
  expect(outputText(next.turn)).toBe('at your service')
  expect(reasons[0]).toMatchObject({ name: 'AbortError', reason: 'cancelled' })
})

test('an agent that closes hands what it has not begun to another one', async () => {
  await using net = await startNetwork({ env: FAST })
  const slow = agentOf(net, (turn) => sleep(60_000, undefined, { signal: turn.signal }))
  await eventually(() => net.logged('agent_joined').length === 1)
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'hello')
  const seen = watch(net.url(0), interaction)
  await eventually(() => seen.turn.attempt === 1)
  agentOf(net, (turn) => turn.text(`attempt ${turn.attempt}`))
  await slow.close(0)
  await seen.done
  expect(outputText(seen.turn)).toBe('attempt 2')
})

test('an agent that closes ends the turn it has in hand; what is queued behind it in the session goes to another one', async () => {
  await using net = await startNetwork({ env: FAST })
  const gate = { open: () => {} }
  const closed = new Promise<void>((resolve) => (gate.open = resolve))
  const one = agentOf(net, async (turn) => {
    await turn.text('one begins ')
    await closed
    await turn.text('and ends')
  })
  const first = await post(net.url(0), { pool: 'coder' }, 'first')
  const seen = watch(net.url(0), first.interaction)
  await eventually(() => outputText(seen.turn) !== '')
  const second = await post(net.url(0), { session: first.session }, 'second')
  const here = () => net.redis.exists(`${net.prefix}{pool:coder}:agent:${one.id}`)
  expect(await here()).toBe(1)
  const closing = one.close()
  await eventually(async () => (await here()) === 0)
  agentOf(net, (turn) => turn.text('the other one'))
  gate.open()
  const next = watch(net.url(0), second.interaction)
  await Promise.all([seen.done, next.done, closing])
  expect(outputText(seen.turn)).toBe('one begins and ends')
  expect(next.turn).toMatchObject({ status: 'completed', attempt: 1 })
  expect(outputText(next.turn)).toBe('the other one')
})

test('the demo agent remembers its conversation', async () => {
  await using net = await startNetwork({ env: FAST })
  const stop = new AbortController()
  const demo = demoAgent({ url: net.url(0), pool: 'coder', capacity: 4, wordDelayMs: 1, signal: stop.signal })
  const first = await post(net.url(0), { pool: 'coder' }, 'Tell me a story')
  const seen = watch(net.url(0), first.interaction)
  await seen.done
  expect(seen.turn).toMatchObject({ status: 'completed', title: 'Tell me a story' })
  expect(seen.turn.entries.map(({ kind }) => kind)).toEqual(['reasoning', 'tool_call', 'text'])
  expect(outputText(seen.turn)).toContain('“Tell me a story”')
  const second = await post(net.url(0), { session: first.session }, 'And then?')
  const again = watch(net.url(0), second.interaction)
  await again.done
  expect(outputText(again.turn)).toContain('message 2')
  stop.abort()
  await demo
})
