import { Redis } from 'ioredis'
import { outputText } from '../../src/protocol/fold.js'
import { keysOf } from '../../src/store/keys.js'
import { api, post, watch, type Posted } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'
import { ask, startRedisCluster, startRedisSentinels } from '../support/redis-server.js'

const SAFE = { DURABILITY: 'safe', REDIS_DEADLINE_MS: '1000', SWEEP_EVERY_MS: '300', PROBE_MS: '500' }

/** A message with a key of its own; the whole answer. */
const posting = (net: Network, key: string, more: Record<string, unknown> = {}) =>
  api<Posted & { error?: { code: string } }>(
    net.url(0),
    '/messages',
    { pool: 'coder', text: key, ...more },
    { headers: { 'idempotency-key': key } },
  )

test('what was acknowledged is there after the master is lost; what could not be made safe was not acknowledged', async () => {
  await using redis = await startRedisSentinels({ replicas: 1 })
  const [master, replica] = redis.servers
  await using safe = await startNetwork({ redisUrl: redis.url, env: SAFE })
  await using fast = await startNetwork({ redisUrl: redis.url, env: { ...SAFE, DURABILITY: 'fast' } })
  const agent = await safe.rawAgent({ pool: 'coder', capacity: 2 })

  const done = await post(safe.url(0), { pool: 'coder' }, 'to be answered')
  const first = await agent.turn(0)
  agent.send(first.request, 1, text('all of it'), completed)
  await agent.acked(first.request, 2)
  const running = await post(safe.url(0), { pool: 'coder' }, 'to go on')
  const second = await agent.turn(1)
  const seen = watch(safe.url(0), running.interaction)
  agent.send(second.request, 1, text('before '))
  await agent.acked(second.request, 1)
  const accepted = await posting(safe, 'accepted')
  expect(accepted.status).toBe(202)

  await replica!.kill9()
  agent.send(second.request, 2, text('and after'), completed)
  const turn = keysOf(safe.prefix).interaction(running.interaction)
  await eventually(async () => (await safe.redis.hget(turn, 'status')) === 'completed')
  const [refused, streamed, quick] = await Promise.all([
    posting(safe, 'refused'),
    posting(safe, 'streamed', { stream: true }),
    posting(fast, 'quick'),
  ])
  for (const it of [refused, streamed])
    expect(it).toMatchObject({ status: 503, body: { error: { code: 'not_durable', retry: true } } })
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
  expect(quick.status).toBe(202)
  // and no word of an end that may be lost, neither to the agent nor to the reader
  expect(agent.acks.filter(({ request }) => request === second.request).map(({ after }) => after)).toEqual([1])
  expect([seen.turn.status, outputText(seen.turn)]).toEqual(['streaming', 'before '])

  await master!.kill9()
  await replica!.restart()
  await eventually(async () => (await redis.master()).port === replica!.port, { limitMs: 30_000, everyMs: 100 })
  // there is no further replica: what follows is acknowledged again when the old master has become one
  await master!.restart()
  agent.socket.on('resend', ({ request, after }) =>
    agent.send(request, after + 1, ...[text('before '), text('and after'), completed].slice(after)),
  )
  await eventually(async () => (await posting(safe, 'refused')).status === 202, { limitMs: 30_000, everyMs: 200 })

  const { body } = await api<{ status: string; text: string }>(safe.url(0), `/interactions/${done.interaction}`)
  expect(body).toMatchObject({ status: 'completed', text: 'all of it' })
  expect((await api(safe.url(0), `/interactions/${accepted.body.interaction}`)).status).toBe(200)
  expect((await posting(safe, 'accepted')).body.interaction).toBe(accepted.body.interaction) // one message, by its key
  await seen.done
  expect(outputText(seen.turn)).toBe('before and after')
  // the control: without it, what was accepted meanwhile went with the master
  expect((await api(fast.url(0), `/interactions/${quick.body.interaction}`)).status).toBe(404)
  expect(safe.logged('not_durable').length).toBeGreaterThan(0)
  expect(safe.logged('bug')).toEqual([])
}, 120_000)

test('in a Cluster a message is accepted when every master that has a part of it has a replica that has it', async () => {
  await using cluster = await startRedisCluster({ replicasEach: 1 })
  await using net = await startNetwork({ redisUrl: cluster.url, env: SAFE })
  const keys = keysOf(net.prefix)
  const at = async (key: string) =>
    Math.floor((Number(await ask(cluster.nodes[0]!, (it) => it.cluster('KEYSLOT', key))) * 3) / 16_384)
  expect((await posting(net, 'all-are-here')).status).toBe(202)

  const session = (await post(net.url(0), { pool: 'coder' }, 'first')).session
  const part = {
    session: await at(keys.session(session)),
    deadline: await at(keys.deadlines(keys.deadlineShard(session))),
  }
  const others = [0, 1, 2].filter((i) => !Object.values(part).includes(i))
  const again = (key: string) =>
    api(net.url(0), `/sessions/${session}/messages`, { text: key }, { headers: { 'idempotency-key': key } })
  const answers: number[] = []
  for (const i of [0, 1, 2]) {
    cluster.replicas[i]!.freeze()
    answers.push((await again(`without-${i}`)).status)
    cluster.replicas[i]!.thaw()
    await eventually(async () => (await again(`without-${i}`)).status === 202, { limitMs: 15_000 })
  }
  const owner = await ownerMaster(net, at)
  expect(answers).toEqual([0, 1, 2].map((i) => (i !== owner && others.includes(i) ? 202 : 503)))
  expect(net.logged('bug')).toEqual([])
}, 120_000)

/** The master that has what is reserved for POSTs: that of the owner's slot. */
async function ownerMaster(net: Network, at: (key: string) => Promise<number>): Promise<number> {
  for (const node of (await clusterKeys(net)).filter((key) => key.includes(':once:'))) return at(node)
  throw new Error('nothing was reserved')
}

async function clusterKeys(net: Network): Promise<string[]> {
  const found: string[] = []
  for (const address of net.redisUrl.split('//')[1]!.split(',')) {
    const redis = new Redis(`redis://${address}`)
    found.push(...(await redis.keys(`${net.prefix}*`)))
    redis.disconnect()
  }
  return found
}
