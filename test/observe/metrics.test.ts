import { connect } from 'node:net'
import { post, watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Replica } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'
import { startRedisServer } from '../support/redis-server.js'

const scrape = async (replica: Replica) => (await fetch(`${replica.opsUrl}/metrics`)).text()

test('every replica shows who waits in a pool and which agents are there', async () => {
  await using net = await startNetwork({ replicas: 2 })
  await post(net.url(0), { pool: 'coder' }, 'go')
  for (const replica of net.replicas)
    await eventually(async () => {
      const metrics = await scrape(replica)
      return metrics.includes('throughline_pool_waiting{pool="coder"} 1') && metrics.includes('throughline_ready 1')
    })
  expect(await scrape(net.replicas[1]!)).toContain('throughline_pool_agents{pool="coder"} 0')

  const agent = await net.rawAgent({ pool: 'coder' })
  await agent.turn()
  for (const replica of net.replicas)
    await eventually(async () => {
      const metrics = await scrape(replica)
      return (
        metrics.includes('throughline_pool_waiting{pool="coder"} 0') &&
        metrics.includes('throughline_pool_agents{pool="coder"} 1')
      )
    })
})

test('while Redis is away a scrape answers, says not ready and nothing of what it cannot know', async () => {
  const redis = await startRedisServer()
  await using net = await startNetwork({ redisUrl: redis.url, env: { PROBE_MS: '100' } })
  expect(await scrape(net.replicas[0]!)).toMatch(/^throughline_ready 1$/m)
  expect(await scrape(net.replicas[0]!)).toContain('throughline_pool_waiting{pool="coder"} 0')
  await redis.stop()
  await eventually(async () => (await scrape(net.replicas[0]!)).includes('throughline_ready 0'))
  expect(await scrape(net.replicas[0]!)).not.toMatch(/throughline_pool_\w+\{/)
})

/** The value of one series; undefined when there is none. */
async function value(replica: Replica, series: string): Promise<number | undefined> {
  const line = (await scrape(replica)).split('\n').find((it) => it.startsWith(`${series} `))
  return line === undefined ? undefined : Number(line.slice(series.length + 1))
}

test('a turn is measured where it happens: its wait, first output and end by the agent, its latency by the viewer', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const [here, there] = net.replicas as [Replica, Replica]
  const { interaction } = await post(net.url(1), { pool: 'coder' }, 'go')
  const seen = watch(net.url(1), interaction)
  await eventually(async () => (await value(here, 'throughline_turns_open')) === 1)
  const agent = await net.rawAgent({ pool: 'coder', replica: 0 })
  const { request } = await agent.turn()
  expect(await value(here, 'throughline_turns_running')).toBe(1)
  expect(await value(there, 'throughline_turns_running')).toBe(0)
  agent.send(request, 1, text('a'))
  await eventually(() => seen.turn.entries.length === 1)
  agent.send(request, 2, text('b'), completed)
  await seen.done
  for (const name of ['turn_wait_seconds', 'first_output_seconds'])
    expect(await value(here, `throughline_${name}_count{pool="coder"}`)).toBe(1)
  await eventually(
    async () => (await value(here, 'throughline_turn_duration_seconds_count{pool="coder",status="completed"}')) === 1,
  )
  for (const replica of net.replicas)
    await eventually(async () => (await value(replica, 'throughline_turns_open')) === 0)
  expect(await value(there, 'throughline_event_latency_seconds_count')).toBeGreaterThanOrEqual(2)
  expect(await value(here, 'throughline_event_latency_seconds_count')).toBe(0) // nobody looks on here
  expect(await value(here, 'throughline_redis_command_duration_seconds_count{operation="append"}')).toBe(2)
  expect(await value(here, 'throughline_build_info{version="test"}')).toBe(1)
  expect(await value(here, 'throughline_jobs{queue="sweep",state="delayed"}')).toBeDefined()
})

test('latency counts from the agent’s word on, also while Redis does not answer', async () => {
  await using redis = await startRedisServer()
  await using net = await startNetwork({ replicas: 2, redisUrl: redis.url })
  const agent = await net.rawAgent({ pool: 'coder', replica: 0 })
  const { interaction } = await post(net.url(1), { pool: 'coder' }, 'go')
  const seen = watch(net.url(1), interaction)
  const { request } = await agent.turn()
  agent.send(request, 1, text('a'))
  await eventually(() => seen.turn.entries.length === 1)
  const sum = async () => (await value(net.replicas[1]!, 'throughline_event_latency_seconds_sum'))!
  const before = await sum()
  await net.redis.call('CLIENT', 'PAUSE', '1000', 'WRITE')
  agent.send(request, 2, completed)
  await seen.done
  await eventually(async () => (await sum()) - before > 0.5)
})

test('connections to Redis that break and come back are counted by what they are for', async () => {
  await using redis = await startRedisServer()
  await using net = await startNetwork({ redisUrl: redis.url })
  const [replica] = net.replicas as [Replica]
  const of = (name: string) =>
    Promise.all(['commands', 'subscriber'].map((role) => value(replica, `throughline_redis_${name}{role="${role}"}`)))
  expect(await of('connected')).toEqual([1, 1])
  expect(await of('reconnects_total')).toEqual([undefined, undefined])
  await redis.kill9()
  await eventually(async () => (await of('connected')).every((up) => up === 0))
  expect((await fetch(`${net.url(0)}/api/v1/sessions`)).status).toBe(503)
  expect(await value(replica, 'throughline_redis_unavailable_total')).toBeGreaterThanOrEqual(1)
  await redis.restart()
  await eventually(async () => (await of('connected')).every((up) => up === 1), { limitMs: 15_000 })
  expect(await of('reconnects_total')).toEqual([1, 1])
})

test('a viewer that does not read is behind until it does', async () => {
  await using net = await startNetwork()
  const [replica] = net.replicas as [Replica]
  const agent = await net.rawAgent({ pool: 'coder' })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'go')
  const socket = connect(Number(new URL(net.url(0)).port), '127.0.0.1').pause()
  socket.write(`GET /api/v1/interactions/${interaction}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`)
  const { request } = await agent.turn()
  let said = 0
  const much = Array.from({ length: 8 }, () => text('x'.repeat(200_000)))
  await eventually(
    async () => {
      agent.send(request, said + 1, ...much)
      await agent.acked(request, (said += much.length))
      return (await value(replica, 'throughline_streams_behind{surface="native"}')) === 1
    },
    { limitMs: 30_000 },
  )
  socket.resume()
  await eventually(async () => (await value(replica, 'throughline_streams_behind{surface="native"}')) === 0)
  socket.destroy()
})

test('whatever strangers send, the series stay few', async () => {
  await using net = await startNetwork({ env: { POOLS: 'coder' } })
  const [replica] = net.replicas as [Replica]
  const series = async () => (await scrape(replica)).split('\n').filter((line) => line.startsWith('throughline_'))
  const rubbish = (i: number) => [
    `/x${i}`,
    `/api/v1/sessions/ses_${i}/${i}`,
    `/api/v1/interactions/${i}?token=${i}`,
    `/v1/${i}/%00${i}`,
  ]
  const methods = ['GET', 'PROPFIND', 'M-SEARCH', 'PURGE', 'DELETE', 'PATCH', 'LINK']
  const send = (from: number) =>
    Promise.all(
      Array.from({ length: 100 }, (_, i) =>
        rubbish(from + i).map((path) =>
          fetch(net.url(0) + path, { method: methods[i % methods.length]! }).then((res) => res.body?.cancel()),
        ),
      ).flat(),
    )
  await send(0)
  const few = (await series()).length
  await send(1000)
  expect((await series()).length).toBe(few)
  const labels = (await series()).join('\n')
  expect(new Set([...labels.matchAll(/route="([^"]*)"/g)].map(([, route]) => route))).toEqual(
    new Set(['unknown', '/api/v1/interactions/:interaction']),
  )
  expect(new Set([...labels.matchAll(/method="([^"]*)"/g)].map(([, method]) => method))).toEqual(
    new Set(['GET', 'PATCH', 'DELETE', 'other']),
  )

  const pools = Array.from({ length: 120 }, (_, i) => `made-up-${i}`)
  for (let from = 0; from < pools.length; from += 20)
    await Promise.all(
      pools.slice(from, from + 20).map(async (pool) => {
        const agent = await net.rawAgent({ pool })
        await post(net.url(0), { pool }, 'go')
        const { request } = await agent.turn()
        agent.send(request, 1, { type: 'failed', code: `reason-of-${pool}`, message: '' })
        await agent.acked(request, 1)
        agent.close()
      }),
    )
  await eventually(async () => (await labelsOf(replica, 'pool')).has('other'))
  const names = await labelsOf(replica, 'pool')
  expect(names).toContain('coder')
  expect(names.size).toBeLessThanOrEqual(1 + 100 + 1)
  await eventually(async () => (await labelsOf(replica, 'reason')).has('other'))
  expect((await labelsOf(replica, 'reason')).size).toBeLessThanOrEqual(75)
  const waiting = [...(await scrape(replica)).matchAll(/^throughline_pool_waiting\{pool="other"\} (\d+)$/gm)]
  expect(waiting).toHaveLength(1)
})

async function labelsOf(replica: Replica, label: string): Promise<Set<string>> {
  return new Set(
    [...(await scrape(replica)).matchAll(new RegExp(`[{,]${label}="([^"]*)"`, 'g'))].map(([, value]) => value!),
  )
}
