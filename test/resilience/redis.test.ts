import { outputText } from '../../src/protocol/fold.js'
import { api, post, watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { loseTail } from '../support/lose-tail.js'
import { startNetwork } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'
import { startRedisServer } from '../support/redis-server.js'

const FAST = {
  SWEEP_EVERY_MS: '300',
  AGENT_GRACE_MS: '1000',
  LEASE_TTL_MS: '1500',
  PROBE_MS: '500',
  REDIS_DEADLINE_MS: '800',
}

test('Redis dies by kill -9 in mid-turn and comes back: the turn goes on, nothing lost or doubled', async () => {
  await using redis = await startRedisServer()
  await using net = await startNetwork({ replicas: 2, redisUrl: redis.url, env: FAST })
  const agent = await net.rawAgent({ pool: 'coder', replica: 0 })
  const { interaction } = await post(net.url(1), { pool: 'coder' }, 'go')
  const seen = watch(net.url(1), interaction)
  const { request } = await agent.turn()
  agent.send(request, 1, text('before '))
  await agent.acked(request, 1)
  await redis.kill9()
  agent.send(request, 2, text('during '))
  await redis.restart()
  await agent.acked(request, 2)
  agent.send(request, 3, text('after'), completed)
  await seen.done
  expect(outputText(seen.turn)).toBe('before during after')
  expect(seen.turn.status).toBe('completed')
  expect(seen.events.map((e) => e.n)).toEqual(seen.events.map((_, i) => i + 1))
  const again = await post(net.url(0), { pool: 'coder' }, 'still alive?')
  expect((await agent.turn(1)).interaction).toBe(again.interaction)
})

test('while Redis is away a request is answered 503 with Retry-After; readiness tells, and is red when it lasts; liveness is green', async () => {
  await using redis = await startRedisServer()
  await using net = await startNetwork({ redisUrl: redis.url, env: FAST })
  await redis.kill9()
  const refused = await api<{ error: { code: string } }>(net.url(0), '/messages', { pool: 'coder', text: 'hi' })
  expect(refused.status).toBe(503)
  expect(refused.body.error.code).toBe('store_unavailable')
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
  const [replica] = net.replicas
  const readiness = () => fetch(`${replica!.opsUrl}/readyz`)
  const soon = await readiness() // a failover is over by then, and it is the same for all replicas
  expect([soon.status, await soon.text()]).toEqual([200, expect.stringContaining('redis: ')])
  await eventually(async () => (await readiness()).status === 503, { limitMs: 10_000 })
  expect((await fetch(`${replica!.opsUrl}/livez`)).status).toBe(200)
  await redis.restart()
  await eventually(() => replica!.well(), { limitMs: 10_000 })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'now?')
  const agent = await net.rawAgent({ pool: 'coder' })
  expect((await agent.turn()).interaction).toBe(interaction)
})

test('an outage longer than every deadline expires no turn: deadlines move out by its length', async () => {
  await using redis = await startRedisServer()
  await using net = await startNetwork({
    redisUrl: redis.url,
    env: { ...FAST, STALE_AFTER_MS: '2500', AGENT_SILENT_MS: '2500' },
  })
  const agent = await net.rawAgent({ pool: 'coder' })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'go')
  const { request } = await agent.turn()
  const started = Date.now()
  await redis.kill9()
  await eventually(() => Date.now() - started > 3000)
  await redis.restart()
  await eventually(
    () => net.logged('sweep_overdue').length > 0 || net.replicas[0]!.logs.some((l) => l['why'] === 'resubscribed'),
    {
      limitMs: 10_000,
    },
  )
  agent.send(request, 1, text('late but here'), completed)
  const seen = watch(net.url(0), interaction)
  await seen.done
  expect(seen.turn.status).toBe('completed')
})

test('a tail that Redis lost is sent again by the agent; viewers get a snapshot and the log a new incarnation', async () => {
  // appendfsync no and a copy of the old file play the part of a failover that loses acknowledged writes
  await using redis = await startRedisServer()
  await using net = await startNetwork({ redisUrl: redis.url, env: FAST })
  const agent = await net.rawAgent({ pool: 'coder' })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'go')
  const seen = watch(net.url(0), interaction)
  const { request } = await agent.turn()
  agent.send(request, 1, text('a'), text('b'), text('c'))
  await agent.acked(request, 3)
  await eventually(() => outputText(seen.turn) === 'abc')
  await loseTail(net, interaction, 2, 1)
  agent.send(request, 4, text('d'))
  await eventually(() => agent.resends.length > 0)
  expect(agent.resends[0]).toMatchObject({ after: 1 })
  agent.send(request, 2, text('b'), text('c'), text('d'), completed)
  await seen.done
  expect(outputText(seen.turn)).toBe('abcd')
  expect(seen.snapshots).toBeGreaterThan(0)
  const key = `${net.prefix}{ses_${interaction.slice(4, 30)}}`
  expect(await net.redis.hget(`${key}:interaction:${interaction}`, 'incarnation')).toBeTruthy()
})
