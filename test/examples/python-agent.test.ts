import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { outputText } from '../../src/protocol/fold.js'
import { startProxy } from '../../src/local/proxy.js'
import { api, post, watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network, type Replica } from '../support/network.js'
import { startProgram } from '../support/program.js'
import { pythonWith } from '../support/python.js'
import { joined } from './examples.js'

const file = (name: string) => fileURLToPath(new URL(`../../examples/python/${name}`, import.meta.url))
/** Python takes its time to come back on a busy machine; nothing here waits for a lease to run out. */
const FAST = { SWEEP_EVERY_MS: '300', AGENT_GRACE_MS: '20000', LEASE_TTL_MS: '20000' }

let python: string
beforeAll(async () => {
  python = await pythonWith(file('requirements.txt'))
}, 240_000)

/** The agent as its docstring starts it, behind a balancer over all replicas. */
async function startAgent(net: Network, key: string[] = []) {
  const targets = net.replicas.map(({ url }) => ({ host: '127.0.0.1', port: Number(new URL(url).port) }))
  const proxy = await startProxy({ port: 0, targets: () => targets, log: () => {} })
  net.onDispose(proxy.close)
  const agent = startProgram(python, [file('agent.py'), `http://127.0.0.1:${proxy.port}`, 'python-pool', ...key])
  net.onDispose(() => agent[Symbol.asyncDispose]())
  return agent
}

const words = (n: number) => Array.from({ length: n }, (_, i) => `word-${i}`).join(' ')
const answerTo = (input: string) => `You said: ${input} `

test('it has less than 150 lines', () => {
  expect(readFileSync(file('agent.py'), 'utf8').trimEnd().split('\n').length).toBeLessThan(150)
})

test('kill -9 of its replica in mid-answer: it resumes elsewhere, the answer is complete and exact', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true, env: FAST })
  await startAgent(net)
  const on = await joined(net, 'python-pool')
  const input = words(60)
  const { interaction } = await post(net.url(1 - on), { pool: 'python-pool' }, input)
  // a reader of all replicas, which loses its own connection with the replica
  const seen = watch([net.url(on), net.url(1 - on)], interaction)
  await eventually(() => outputText(seen.turn).includes('word-20'), { limitMs: 15_000 })
  await net.replicas[on]!.kill9()
  await seen.done
  expect(seen.turn).toMatchObject({ status: 'completed', attempt: 1 })
  expect(outputText(seen.turn)).toBe(answerTo(input))
  expect(seen.events.map(({ n }) => n)).toEqual(seen.events.map((_, i) => i + 1))
  expect(net.logged('mappings_restored').length).toBeGreaterThan(0)
})

test('a replica that drains: it moves in mid-answer, and the replica ends at once', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true, env: FAST })
  await startAgent(net)
  const on = await joined(net, 'python-pool')
  const input = words(60)
  const { interaction } = await post(net.url(1 - on), { pool: 'python-pool' }, input)
  const seen = watch(net.url(1 - on), interaction)
  await eventually(() => outputText(seen.turn).includes('word-10'), { limitMs: 15_000 })
  expect(await net.replicas[on]!.drain()).toBe(0)
  expect(outputText(seen.turn)).not.toContain('word-79')
  expect(await joined(net, 'python-pool', 2)).toBe(1 - on)
  await seen.done
  expect(seen.turn).toMatchObject({ status: 'completed', attempt: 1 })
  expect(outputText(seen.turn)).toBe(answerTo(input))
})

test('what Redis lost of the log it sends again', async () => {
  await using net = await startNetwork({ processes: true, env: FAST })
  await startAgent(net)
  await joined(net, 'python-pool')
  const input = words(60)
  const { interaction } = await post(net.url(0), { pool: 'python-pool' }, input)
  const seen = watch(net.url(0), interaction)
  await eventually(() => outputText(seen.turn).includes('word-15'), { limitMs: 15_000 })
  // what a failover does: the last events that were acknowledged are gone
  const key = `${net.prefix}{ses_${interaction.slice(4, 30)}}`
  const [hash, log] = [`${key}:interaction:${interaction}`, `${key}:log:${interaction}`]
  const lose = `local tip, agentTip = redis.call('HGET', KEYS[1], 'tip'), redis.call('HGET', KEYS[1], 'agentTip')
    for i = 0, 4 do redis.call('XDEL', KEYS[2], (tip - i) .. '-0') end
    redis.call('XSETID', KEYS[2], (tip - 5) .. '-0')
    redis.call('HSET', KEYS[1], 'tip', tip - 5, 'agentTip', agentTip - 5)
    return agentTip - 5`
  expect(await net.redis.eval(lose, 2, hash, log)).toBeGreaterThan(0)
  await seen.done
  expect(seen.turn.status).toBe('completed')
  expect(outputText(seen.turn)).toBe(answerTo(input))
  expect(seen.snapshots).toBeGreaterThan(0)
  expect(net.logged('log_rewound').length).toBeGreaterThan(0)
})

test('a cancel stops its handler, and the session goes on', async () => {
  await using net = await startNetwork({ processes: true, env: FAST })
  const agent = await startAgent(net)
  await joined(net, 'python-pool')
  const { session, interaction } = await post(net.url(0), { pool: 'python-pool' }, words(2000))
  const seen = watch(net.url(0), interaction)
  await eventually(() => outputText(seen.turn).includes('word-3'), { limitMs: 15_000 })
  await api(net.url(0), `/interactions/${interaction}/cancel`, {})
  await seen.done
  expect(seen.turn.status).toBe('cancelled')
  const posted = await post(net.url(0), { session }, 'Still there?')
  const next = watch(net.url(0), posted.interaction)
  await next.done
  expect(outputText(next.turn)).toBe(answerTo('Still there?'))
  // what crossed the cancel on its way is dropped; the next turn came after the handler's return, and then nothing is late
  const [{ logs }] = net.replicas as [Replica]
  const dispatched = logs.findIndex(
    (it) => it['event'] === 'mappings_persisted' && it['interaction'] === posted.interaction,
  )
  expect(dispatched).toBeGreaterThan(0)
  expect(logs.slice(dispatched).filter((it) => it['event'] === 'late_event_fenced')).toEqual([])
  expect(agent.stderr).toBe('')
})

test('a long answer is cut into events and waits for the window', async () => {
  await using net = await startNetwork({ processes: true, env: FAST })
  await startAgent(net)
  await joined(net, 'python-pool')
  const input = 'ü'.repeat(700_000) // 88 events, more than it may have unacknowledged
  const { interaction } = await post(net.url(0), { pool: 'python-pool' }, input)
  const seen = watch(net.url(0), interaction)
  await seen.done
  expect(outputText(seen.turn)).toBe(answerTo(input))
})

test('what piled up while there was no replica goes out in frames that are not too large', async () => {
  await using net = await startNetwork({ processes: true, env: FAST })
  await startAgent(net)
  await joined(net, 'python-pool')
  const input = '👋'.repeat(400_000) // Python's JSON makes twelve bytes of each
  const { interaction } = await post(net.url(0), { pool: 'python-pool' }, input)
  const seen = watch(net.url(0), interaction)
  await eventually(() => outputText(seen.turn) !== '', { limitMs: 15_000 })
  await net.replicas[0]!.kill9()
  await net.replicas[0]!.restart()
  await seen.done
  expect(outputText(seen.turn)).toBe(answerTo(input))
})

test('with a key that is not valid it says so and ends', async () => {
  await using net = await startNetwork({ processes: true, env: { AGENT_KEYS: 'python-pool=right-key-1' } })
  const agent = await startAgent(net, ['wrong-key-1'])
  expect(await agent.exited).toBe(1)
  expect(agent.stderr).toContain('key')
})
