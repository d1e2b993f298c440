import { setMaxListeners } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { outputText } from '../../src/protocol/fold.js'
import { startProxy } from '../../src/local/proxy.js'
import { serve } from '../../src/sdk/agent.js'
import { send } from '../../src/sdk/client.js'
import { watch } from '../support/client.js'
import { startNetwork } from '../support/network.js'
import { startRedisServer } from '../support/redis-server.js'

const SESSIONS = 200
const DELTAS = 500
const AGENTS = 4
const KILL_EVERY_MS = 2000
const LIMIT_MS = 160_000

test('200 sessions × 500 deltas while a replica is killed every 2 s: each ends once, each client sees exactly the bytes', async () => {
  await using redis = await startRedisServer()
  await using net = await startNetwork({
    replicas: 3,
    processes: true,
    redisUrl: redis.url,
    env: {
      SWEEP_EVERY_MS: '1000',
      AGENT_GRACE_MS: '20000',
      LEASE_TTL_MS: '30000',
      LOG_LEVEL: 'warn',
      MAX_ATTEMPTS: '50',
    },
  })
  const proxy = await startProxy({
    port: 0,
    targets: () => net.replicas.map((replica) => ({ host: '127.0.0.1', port: Number(new URL(replica.url).port) })),
    log: () => {},
  })
  net.onDispose(() => proxy.close())
  const url = `http://127.0.0.1:${proxy.port}`
  const stop = new AbortController()
  setMaxListeners(0, stop.signal)
  net.onDispose(() => stop.abort())

  let runs = 0
  const agents = Array.from({ length: AGENTS }, (_, i) =>
    serve({ url, pool: 'coder', capacity: SESSIONS / AGENTS, agent: `chaos-${i}`, log: quiet }, async (turn) => {
      runs++
      for (let n = 0; n < DELTAS; n++) {
        await turn.text(delta(turn.input, n))
        if (n % 10 === 9) await sleep(150 + Math.random() * 100, undefined, { signal: turn.signal })
      }
    }),
  )
  net.onDispose(() => Promise.all(agents.map((agent) => agent.close(0))))

  let kills = 0
  const up = new Set(net.replicas)
  const restarts = new Set<Promise<unknown>>()
  const killing = (async () => {
    for (let next = 0; ; next++) {
      await sleep(KILL_EVERY_MS, undefined, { signal: stop.signal }).catch(() => {})
      if (stop.signal.aborted) break
      const victim = net.replicas[next % 3]!
      if (!up.delete(victim)) continue // still starting
      await victim.kill9()
      kills++
      const again = victim.restart().then(() => up.add(victim))
      restarts.add(again)
    }
    await Promise.all(restarts)
  })()
  net.onDispose(() => killing)

  const clients = Array.from({ length: SESSIONS }, async (_, i) => {
    const { interaction, session } = await send(url, { pool: 'coder', text: `s${i}` }, { signal: stop.signal })
    const seen = watch(url, interaction, { signal: stop.signal })
    await seen.done.catch(() => {})
    return { i, interaction, session, seen }
  })
  const late = new AbortController()
  const limit = sleep(LIMIT_MS, undefined, { signal: late.signal }).then(
    () => stop.abort(),
    () => {},
  )
  const done = await Promise.all(clients)
  late.abort()
  await limit
  stop.abort()
  await killing

  const count = { sessions: done.length, complete: 0, exact: 0, inOrder: 0, endedOnce: 0, kills, runs, events: 0 }
  for (const { i, interaction, session, seen } of done) {
    const whole = Array.from({ length: DELTAS }, (_, n) => delta(`s${i}`, n)).join('')
    count.events += seen.events.length
    if (seen.turn.status === 'completed') count.complete++
    if (outputText(seen.turn) === whole) count.exact++
    if (seen.snapshots === 0 && seen.events.every((event, at) => event.n === at + 1)) count.inOrder++
    const rows = await net.redis.xrange(`${net.prefix}{${session}}:log:${interaction}`, '-', '+')
    const ends = rows.filter(([, fields]) => /"type":"(completed|failed|cancelled)"/.test(fields[1]!))
    if (ends.length === 1) count.endedOnce++
  }
  console.log('chaos', JSON.stringify(count))
  expect(count).toMatchObject({ complete: SESSIONS, exact: SESSIONS, inOrder: SESSIONS, endedOnce: SESSIONS })
  expect(kills).toBeGreaterThan(3)
})

const delta = (input: string, n: number): string => `${input}:${n} `
const quiet = { info: () => {}, warn: () => {} }
