import OpenAI from 'openai'
import { tokens } from '../../../src/auth/token.js'
import { api, post, watch } from '../../support/client.js'
import { eventually } from '../../support/eventually.js'
import { keysLike, startNetwork, type Network } from '../../support/network.js'
import { completed, text } from '../../support/raw-agent.js'
import { secret, startReceiver, type Received, type Receiver } from '../../support/receiver.js'

const FAST = {
  SWEEP_EVERY_MS: '200',
  LEASE_TTL_MS: '900',
  AGENT_GRACE_MS: '300',
  WEBHOOK_SECRET: secret('a'),
  WEBHOOK_RETRY_MS: '50',
  WEBHOOK_TIMEOUT_MS: '1000',
}
const open = (receiver: Receiver, env: Record<string, string> = {}) => ({
  ...FAST,
  WEBHOOK_ALLOW_HOSTS: receiver.host,
  ...env,
})

/** Throws when the signature does not fit; the official package's own check. */
const unwrap = (got: Received, key: string) =>
  new OpenAI({ apiKey: 'none' }).webhooks.unwrap(got.body, got.headers as Record<string, string>, key)

const metric = async (opsUrl: string, line: string) => {
  const found = (await (await fetch(`${opsUrl}/metrics`)).text()).split('\n').find((it) => it.startsWith(line))
  return Number(found?.split(' ').at(-1) ?? 0)
}

test('the end of a turn is posted once, signed so that the official SDK accepts it', async () => {
  await using receiver = await startReceiver()
  await using net = await startNetwork({ replicas: 2, env: open(receiver) })
  const agent = await net.rawAgent({ pool: 'coder' })
  const { session, interaction } = await post(net.url(1), { pool: 'coder' }, 'go', { webhook: { url: receiver.url } })
  const { request } = await agent.turn()
  expect(receiver.got).toEqual([])
  agent.send(request, 1, text('done'), completed)
  await eventually(() => receiver.got.length === 1)
  const [got] = receiver.got
  expect(got!.event).toEqual({
    id: `evt_${interaction.slice(4)}`,
    object: 'event',
    type: 'turn.completed',
    created_at: expect.any(Number),
    data: { session, interaction, status: 'completed' },
  })
  expect(got!.headers).toMatchObject({ 'webhook-id': got!.event.id, 'content-type': 'application/json' })
  expect(await unwrap(got!, secret('a'))).toEqual(got!.event)
  await expect(unwrap(got!, secret('b'))).rejects.toThrow(/signature/)
  await expect(unwrap({ ...got!, body: got!.body.replace('completed', 'cancelled') }, secret('a'))).rejects.toThrow()
  await eventually(async () => {
    const line = 'throughline_webhooks_total{type="turn.completed",outcome="delivered"}'
    const counts = await Promise.all(net.replicas.map(({ opsUrl }) => metric(opsUrl, line)))
    expect(counts.reduce((a, b) => a + b)).toBe(1)
  })
})

test('also failures, with their error, and cancels; of a session every turn, where a message has no address of its own', async () => {
  await using receiver = await startReceiver()
  await using net = await startNetwork({ env: open(receiver, { AGENT_WAIT_MS: '900' }) })
  const { body } = await api<{ id: `ses_${string}` }>(net.url(0), '/sessions', {
    pool: 'coder',
    webhook: { url: `${receiver.url}/session` },
  })
  const session = body.id
  const lost = await post(net.url(0), { session }, 'nobody is here')
  const queued = await post(net.url(0), { session }, 'no more', { webhook: { url: `${receiver.url}/own` } })
  await post(net.url(0), { pool: 'coder' }, 'without a webhook')
  await api(net.url(0), `/interactions/${queued.interaction}/cancel`, {})
  await eventually(() => receiver.got.length === 2, { limitMs: 15_000 })
  expect(receiver.got.map(({ path, event: { type, data } }) => [path, type, data['interaction']])).toEqual([
    ['/hook/own', 'turn.cancelled', queued.interaction],
    ['/hook/session', 'turn.failed', lost.interaction],
  ])
  expect(receiver.got[1]!.event.data).toMatchObject({ status: 'failed', error: { code: 'agent_unavailable' } })
})

test('what is not taken is sent again under the same id, newly dated, until it is taken', async () => {
  await using receiver = await startReceiver()
  receiver.answer = (nth) => ([500, 302, 'hang', 204] as const)[nth - 1]!
  receiver.headers = { location: 'http://127.0.0.1:1/' }
  await using net = await startNetwork({ env: open(receiver) })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'go', { webhook: { url: receiver.url } })
  await api(net.url(0), `/interactions/${interaction}/cancel`, {})
  await eventually(() => receiver.got.length === 4, { limitMs: 15_000 })
  expect(new Set(receiver.got.map(({ headers }) => headers['webhook-id'])).size).toBe(1)
  for (const got of receiver.got) await unwrap(got, secret('a'))
  await eventually(
    async () =>
    expect(await metric(net.replicas[0]!.opsUrl, 'throughline_webhooks_total{type="turn.cancelled",outcome="retried"}')).toBe(3), // prettier-ignore
  )
  expect(net.logged('webhook_failed')).toEqual([])
})

test('attempts have an end, and so has patience with a receiver that is gone; one line tells of it', async () => {
  await using receiver = await startReceiver()
  receiver.answer = (nth) => (nth <= 3 ? 500 : 410)
  await using net = await startNetwork({ env: open(receiver, { WEBHOOK_ATTEMPTS: '3' }) })
  const cancelled = async () => {
    const { interaction } = await post(net.url(0), { pool: 'coder' }, 'go', { webhook: { url: receiver.url } })
    await api(net.url(0), `/interactions/${interaction}/cancel`, {})
    return interaction
  }
  const first = await cancelled()
  await eventually(() => net.logged('webhook_failed').length === 1, { limitMs: 15_000 })
  expect(receiver.got).toHaveLength(3)
  await cancelled()
  await eventually(() => net.logged('webhook_failed').length === 2, { limitMs: 15_000 })
  expect(receiver.got).toHaveLength(4)
  expect(net.logged('webhook_failed')).toMatchObject([
    { interaction: first, attempt: 3, reason: 'answered 500', host: '127.0.0.1' },
    { attempt: 1, reason: 'answered 410: its receiver wants no more' },
  ])
})

test('while secrets rotate every receiver finds a signature of the one it knows; an owner may have secrets of its own', async () => {
  await using receiver = await startReceiver()
  const WEBHOOK_SECRET = `${secret('b')},${secret('a')},ann=${secret('c')}`
  const keys = { CLIENT_KEYS: 'ann=ann-has-a-key,bob=bob-has-a-key', AGENT_KEYS: '*=some-agent-key' }
  await using net = await startNetwork({ env: open(receiver, { WEBHOOK_SECRET, ...keys }) })
  for (const owner of ['ann', 'bob']) {
    const headers = { authorization: `Bearer ${owner}-has-a-key` }
    const webhook = { url: `${receiver.url}/${owner}` }
    const { interaction } = await post(net.url(0), { pool: 'coder' }, 'go', { webhook }, headers)
    await api(net.url(0), `/interactions/${interaction}/cancel`, {}, { headers })
  }
  await eventually(() => receiver.got.length === 2)
  const of = (owner: string) => receiver.got.find(({ path }) => path.endsWith(owner))!
  await unwrap(of('bob'), secret('a'))
  await unwrap(of('bob'), secret('b'))
  await expect(unwrap(of('bob'), secret('c'))).rejects.toThrow()
  await unwrap(of('ann'), secret('c'))
  await expect(unwrap(of('ann'), secret('a'))).rejects.toThrow()
})

test('addresses that are not public are refused where they are given, and nothing is stored', async () => {
  await using net = await startNetwork({ env: FAST })
  const refused = async (path: string, body: object) => {
    const answer = await api<{ error: object }>(net.url(0), path, body)
    expect(answer).toMatchObject({ status: 400, body: { error: { code: 'invalid_request', param: 'webhook.url' } } })
  }
  const { session } = await post(net.url(0), { pool: 'coder' }, 'hello')
  for (const url of [
    'http://127.0.0.1:6379/',
    'http://169.254.169.254/',
    'gopher://example.com/',
    'http://localhost/',
  ]) {
    await refused('/messages', { pool: 'coder', text: 'go', webhook: { url } })
    await refused(`/sessions/${session}/messages`, { text: 'go', webhook: { url } })
    await refused('/sessions', { pool: 'coder', webhook: { url } })
  }
  expect((await api<{ interactions: unknown[] }>(net.url(0), `/sessions/${session}/interactions`)).body.interactions).toHaveLength(1) // prettier-ignore
})

test('without a secret nobody may ask for webhooks, and is told why', async () => {
  await using net = await startNetwork()
  const body = { pool: 'coder', text: 'go', webhook: { url: 'https://example.com/' } }
  const answer = await api<{ error: { message: string } }>(net.url(0), '/messages', body)
  expect([answer.status, answer.body.error.message]).toEqual([400, expect.stringContaining('WEBHOOK_SECRET')])
})

test('however many replicas seal an end at once, it is posted once', async () => {
  await using receiver = await startReceiver()
  await using net = await startNetwork({ replicas: 3, env: open(receiver, { SWEEP_EVERY_MS: '100' }) })
  const agent = await net.rawAgent({ pool: 'coder', capacity: 8 })
  const posted = await Promise.all(
    Array.from({ length: 8 }, (_, i) =>
      post(net.url(i % 3), { pool: 'coder' }, `m${i}`, { webhook: { url: receiver.url } }),
    ),
  )
  await agent.turn(7)
  for (const { request } of agent.turns) agent.send(request, 1, completed)
  // the agent's end, a cancel from everywhere, and reads that judge, at the same time
  await Promise.all(
    posted.flatMap(({ interaction }) =>
      net.replicas.map(({ url }) => api(url, `/interactions/${interaction}/cancel`, {})),
    ),
  )
  await eventually(() => new Set(receiver.got.map(({ event }) => event.id)).size === 8)
  await eventually(async () => expect(await waitingJobs(net)).toBe(0))
  expect(receiver.got).toHaveLength(8)
})

test('a replica killed between the end of a turn and its webhook: the sweep of another posts it, once', async () => {
  await using receiver = await startReceiver()
  await using net = await startNetwork({ replicas: 2, processes: true, env: open(receiver) })
  const agent = await net.rawAgent({ pool: 'coder', replica: 0 })
  const { session, interaction } = await post(net.url(1), { pool: 'coder' }, 'go', { webhook: { url: receiver.url } })
  const seen = watch(net.url(1), interaction)
  const { request } = await agent.turn()
  // the end reaches the log, then that replica can do no more: its BullMQ writes are refused until it is dead
  const key = `{${net.prefix}bullmq}:webhooks`
  await net.redis.set(`${key}:id`, 'not a number')
  agent.send(request, 1, text('done'), completed)
  await seen.done
  await net.replicas[0]!.kill9()
  expect(receiver.got).toEqual([])
  const stored = `${net.prefix}{${session}}:interaction:${interaction}`
  expect(await net.redis.hget(stored, 'sealedAt')).toBeNull()
  await net.redis.del(`${key}:id`)
  await eventually(() => receiver.got.length > 0, { limitMs: 30_000 })
  await eventually(async () => expect(await net.redis.hget(stored, 'sealedAt')).not.toBeNull())
  expect(receiver.got.map(({ event }) => event.data['interaction'])).toEqual([interaction])
})

test('an end that cannot be noted keeps the sweep from nothing else', async () => {
  await using receiver = await startReceiver()
  await using net = await startNetwork({ env: open(receiver, { AGENT_WAIT_MS: '700' }) })
  const key = `{${net.prefix}bullmq}:webhooks:id`
  await net.redis.set(key, 'not a number')
  const many = (more: object) => Promise.all(Array.from({ length: 12 }, () => post(net.url(0), { pool: 'coder' }, 'm', { ...more }))) // prettier-ignore
  const broken = await many({ webhook: { url: receiver.url } })
  const others = await many({})
  const failed = async (turns: typeof others) => {
    const statuses = turns.map(({ session, interaction }) =>
      net.redis.hget(`${net.prefix}{${session}}:interaction:${interaction}`, 'status'),
    )
    return (await Promise.all(statuses)).every((status) => status === 'failed')
  }
  await eventually(async () => (await failed(broken)) && (await failed(others)), { limitMs: 20_000 })
  expect(receiver.got).toEqual([])
  await net.redis.del(key)
  await eventually(() => receiver.got.length === 12, { limitMs: 30_000 })
})

test('an agent is asked for when a session waits and none is here: once in a while, over all replicas', async () => {
  await using receiver = await startReceiver()
  const env = {
    ...FAST,
    AGENT_WANTED_URL: receiver.url,
    AGENT_WANTED_SECRET: secret('w'),
    AGENT_WANTED_EVERY_MS: '600000',
    TOKEN_SECRET: 'x'.repeat(32),
    POOLS: 'coder,writer',
  }
  await using net = await startNetwork({ replicas: 3, env })
  const first = await post(net.url(0), { pool: 'coder' }, 'anyone?')
  await eventually(() => receiver.got.length === 1)
  const { event } = receiver.got[0]!
  expect(event).toMatchObject({
    type: 'agent.wanted',
    data: { pool: 'coder', session: first.session, interaction: first.interaction, waiting: 1 },
  })
  await unwrap(receiver.got[0]!, secret('w'))
  const token = event.data['agentToken'] as string
  expect(await tokens([env.TOKEN_SECRET])!.verify('agent', token)).toBe(first.session)

  await Promise.all(Array.from({ length: 9 }, (_, i) => post(net.url(i % 3), { pool: 'coder' }, `more ${i}`)))
  await post(net.url(1), { pool: 'writer' }, 'another pool')
  await eventually(() => receiver.got.length === 2)
  expect(receiver.got[1]!.event.data).toMatchObject({ pool: 'writer' })

  // the token lets the agent that was started in and no further
  const agent = await net.rawAgent({ sessions: [first.session], key: token, replica: 2 })
  expect((await agent.turn()).interaction).toBe(first.interaction)
  expect(await eventually(async () => (await keysLike(net.redis, `*bullmq}:webhooks:evt_*`)).length === 0)).toBe(true)
  expect(receiver.got).toHaveLength(2)
})

test('where each session needs an agent of its own it is asked for session by session, and again while it waits', async () => {
  await using receiver = await startReceiver()
  const env = {
    ...FAST,
    AGENT_WANTED_URL: receiver.url,
    AGENT_WANTED_SECRET: secret('w'),
    AGENT_WANTED_EVERY_MS: '500',
    POOL_POLICIES: '{"coder": {"agentPer": "session"}}',
  }
  await using net = await startNetwork({ replicas: 2, env })
  const [a, b] = await Promise.all([0, 1].map((i) => post(net.url(i), { pool: 'coder' }, `m${i}`)))
  const asked = (session: string) => receiver.got.filter(({ event }) => event.data['session'] === session)
  await eventually(() => asked(a!.session).length > 0 && asked(b!.session).length > 0)
  await eventually(() => asked(a!.session).length > 1, { limitMs: 20_000 })
  expect(asked(a!.session)[0]!.event.data).not.toHaveProperty('agentToken') // without TOKEN_SECRET there are none
})

test('full agents are no reason to ask at once, but a session that goes on waiting is', async () => {
  await using receiver = await startReceiver()
  const env = { ...FAST, AGENT_WANTED_URL: receiver.url, AGENT_WANTED_SECRET: secret('w') }
  await using net = await startNetwork({ env })
  const agent = await net.rawAgent({ pool: 'coder' })
  await post(net.url(0), { pool: 'coder' }, 'keeps it busy')
  await agent.turn()
  const waits = await post(net.url(0), { pool: 'coder' }, 'waits')
  await eventually(() => receiver.got.length === 1, { limitMs: 20_000 })
  expect(receiver.got[0]!.event.data).toMatchObject({ interaction: waits.interaction, waiting: 1 })
})

async function waitingJobs(net: Network): Promise<number> {
  const key = (list: string) => `{${net.prefix}bullmq}:webhooks:${list}`
  const [wait, active, delayed] = await Promise.all([
    net.redis.llen(key('wait')),
    net.redis.llen(key('active')),
    net.redis.zcard(key('delayed')),
  ])
  return wait + active + delayed
}
