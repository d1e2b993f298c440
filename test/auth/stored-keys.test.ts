import { durationOf, mistakeIn } from '../../src/cli/keys.js'
import type { SessionId } from '../../src/protocol/ids.js'
import { keysOf } from '../../src/store/keys.js'
import { api, post, type Posted } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startHelixAgent } from '../support/helix-agent.js'
import { keysLike, startNetwork, type Network } from '../support/network.js'
import { operator } from '../support/operator.js'
import { text } from '../support/raw-agent.js'
import { startRedisServer } from '../support/redis-server.js'
import { json, SseReader } from '../support/sse.js'
import { revokeKey, storedKey } from '../support/stored-key.js'

const env = { KEY_STORE: 'on', TOKEN_SECRET: 'a secret of more than 32 characters' }
const bearer = (key: string) => ({ authorization: `Bearer ${key}` })
const statusOf = async (url: string, headers: Record<string, string>) =>
  (await api(url, '/sessions', undefined, { headers })).status

interface Created {
  key: string
  id: string
  kind: string
  owner?: string
  pools?: string[]
  expiresAt: number
}
async function create(net: Network, ...args: string[]): Promise<Created> {
  const ran = await operator(net, ['keys', 'create', '--json', '--as', 'olga', ...args])
  expect(ran.code).toBe(0)
  return JSON.parse(ran.stdout) as Created
}

test('a key that the command made opens every replica for its owner, and is nowhere to be read again', async () => {
  await using net = await startNetwork({ replicas: 2, env })
  const [ann, coder] = await Promise.all([
    create(net, '--owner', 'ann', '--name', 'laptop', '--expires', '90d'),
    create(net, '--pool', 'coder', '--pool', 'writer'),
  ])
  expect(ann.key).toMatch(new RegExp(`^tl_${ann.id}_[0-9a-z]{32}$`))
  const { body } = await api<{ id: SessionId }>(
    net.url(0),
    '/sessions',
    { pool: 'coder' },
    { headers: bearer(ann.key) },
  )
  const mine = { headers: bearer(ann.key) }
  expect((await api(net.url(1), `/sessions/${body.id}`, undefined, mine)).status).toBe(200)
  const bob = await storedKey(net, { owner: 'bob' })
  expect((await api(net.url(1), `/sessions/${body.id}`, undefined, bob)).status).toBe(404)

  // each kind opens its own doors only, and pools are those of the key
  const joins = async (key: string, pool: string) => (await net.rawAgent({ replica: 1, pool, key })).welcome.ok
  expect(await joins(coder.key, 'coder')).toBe(true)
  expect(await joins(coder.key, 'writer')).toBe(true)
  expect(await joins(coder.key, 'other')).toBe(false)
  expect(await joins(ann.key, 'coder')).toBe(false)
  expect(await statusOf(net.url(0), bearer(coder.key))).toBe(401)
  await using zed = await startHelixAgent({ url: net.url(0), session: body.id, key: coder.key })
  expect(zed.socket.readyState).toBe(1)

  // one that is wrong in its last character only, or not a key at all
  const forged = ann.key.slice(0, -1) + (ann.key.endsWith('0') ? '1' : '0')
  for (const wrong of [forged, `tl_${ann.id}`, `tl_0123456789_${'0'.repeat(32)}`, 'x', ''])
    expect(await statusOf(net.url(0), bearer(wrong))).toBe(401)

  const [table, lines] = await Promise.all([operator(net, ['keys', 'list']), operator(net, ['keys', 'list', '--json'])])
  expect(table.stdout).toMatch(new RegExp(`${ann.id} +client +ann +laptop +\\S+ +\\S+ +20\\d\\d-`)) // used today
  const listed = lines.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Created)
  expect(listed.find(({ id }) => id === coder.id)).toMatchObject({ kind: 'agent', pools: ['coder', 'writer'] })
  const day = 24 * 3600_000
  expect(Math.abs(ann.expiresAt - Date.now() - 90 * day)).toBeLessThan(day)
  expect(await net.redis.pttl(keysOf(net.prefix).apiKey(ann.id))).toBeLessThanOrEqual(90 * day)

  const secret = (key: string) => key.slice(14)
  const kept = await Promise.all(
    (await keysLike(net.redis, `${net.prefix}{keys}*`))
      .filter((key) => key.includes(':key:'))
      .map((key) => net.redis.hgetall(key)),
  )
  const said = JSON.stringify([kept, table, lines, net.replicas.map(({ logs }) => logs)])
  for (const { key, id } of [ann, coder]) {
    expect(said).toContain(id)
    expect(said).not.toContain(secret(key))
  }
  // and whose request a line of the log is about is told by the id
  expect(net.replicas[1]!.logs).toContainEqual(expect.objectContaining({ msg: 'request', keyId: ann.id, status: 200 }))
  expect(net.logged('agent_joined')).toContainEqual(expect.objectContaining({ keyId: coder.id, pool: 'writer' }))
  expect(net.logged('agent_refused')).toContainEqual(expect.objectContaining({ keyId: coder.id, code: 'unauthorized' }))
})

test('revoked, it opens nothing on any replica, and what it held open is closed with the reason', async () => {
  await using net = await startNetwork({ replicas: 2, env })
  const [ann, coder, other] = await Promise.all([
    storedKey(net, { owner: 'ann' }),
    storedKey(net, { pools: ['coder'] }),
    storedKey(net, { owner: 'ann' }),
  ])
  const agent = await net.rawAgent({ replica: 0, pool: 'coder', key: coder.text, capacity: 10 })
  const turn = await post(net.url(0), { pool: 'coder' }, 'hello', {}, ann.headers)
  const { request } = await agent.turn()
  agent.send(request, 1, text('half'))
  await agent.acked(request, 1)
  const named = await api<{ id: SessionId }>(net.url(0), '/sessions', { pool: 'coder' }, ann)
  await using zed = await startHelixAgent({ url: net.url(1), session: named.body.id, key: coder.text })

  const open = (replica: number, path: string, headers = ann.headers) =>
    SseReader.open(`${net.url(replica)}/api/v1${path}`, { headers })
  await using turnStream = await open(0, `/interactions/${turn.interaction}/events`)
  await using sessionStream = await open(1, `/sessions/${turn.session}/events`)
  await using othersStream = await open(1, `/sessions/${turn.session}/events`, other.headers)
  const stream = { model: 'coder', stream: true }
  await using chat = await SseReader.post(
    `${net.url(1)}/v1/chat/completions`,
    { ...stream, messages: [{ role: 'user', content: 'hi' }] },
    ann.headers,
  )
  await using response = await SseReader.post(`${net.url(0)}/v1/responses`, { ...stream, input: 'hi' }, ann.headers)
  await using helix = await SseReader.post(
    `${net.url(1)}/api/v1/sessions/chat`,
    { app_id: 'coder', stream: true, messages: [{ role: 'user', content: { parts: ['hi'] } }] },
    ann.headers,
  )
  for (const one of [turnStream, sessionStream, othersStream, chat, response, helix])
    expect(one.response.status).toBe(200)

  const [revoked, again] = [
    await operator(net, ['keys', 'revoke', ann.id, '--as', 'olga']),
    await operator(net, ['keys', 'revoke', ann.text]), // the key itself will do, too
  ]
  expect(revoked).toMatchObject({ code: 0, stderr: expect.stringContaining('client ann') as string })
  expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining('There is no key') as string })
  const message = 'The key that opened this stream was revoked.'
  for (const native of [turnStream, sessionStream]) {
    const last = (await native.all()).at(-1)!
    expect(last).toMatchObject({ event: 'problem', retry: expect.any(Number) as number })
    expect(json(last)).toMatchObject({ error: { code: 'unauthorized', message } })
  }
  const frames = await chat.all()
  expect(json(frames.at(-2)!)).toMatchObject({ error: { code: 'invalid_api_key', message } })
  expect(frames.at(-1)!.data).toBe('[DONE]')
  const ended = (await response.all()).at(-1)!
  expect(ended.event).toBe('error')
  expect(json(ended)).toMatchObject({ type: 'error', error: { code: 'invalid_api_key', message } })
  expect(json((await helix.all()).at(-1)!)).toEqual({ error: { message: `External agent error: ${message}` } })
  for (const url of [net.url(0), net.url(1)]) expect(await statusOf(url, ann.headers)).toBe(401)
  expect(await statusOf(net.url(0), other.headers)).toBe(200)

  await revokeKey(net, coder.id)
  expect(await zed.closed).toEqual({ code: 1008, reason: 'key revoked' })
  await eventually(() => !agent.socket.connected)
  expect(agent.notices).toEqual([{ code: 'unauthorized', message: 'The key of this agent was revoked.' }])
  for (const replica of [0, 1])
    expect((await net.rawAgent({ replica, pool: 'coder', key: coder.text })).welcome).toMatchObject({
      code: 'unauthorized',
      retry: false,
    })
  await expect(startHelixAgent({ url: net.url(0), session: named.body.id, key: coder.text })).rejects.toThrow('401')

  // the other key of the same owner reads on, and the turn is not lost with its agent
  const back = await net.rawAgent({ pool: 'coder', key: (await storedKey(net, { pools: ['*'] })).text, capacity: 10 })
  expect(back.welcome.ok).toBe(true)
  expect((await othersStream.next())?.lines.length).toBeGreaterThan(0)
  expect((await operator(net, ['audit', '--json'])).stdout).toContain('"act":"key.revoked"')
})

test('a revocation that no replica heard of counts a few seconds later all the same', async () => {
  await using net = await startNetwork({ env })
  const ann = await storedKey(net, { owner: 'ann' })
  const { session } = (await api<Posted>(net.url(0), '/messages', { pool: 'coder', text: 'x' }, ann)).body
  await using viewer = await SseReader.open(`${net.url(0)}/api/v1/sessions/${session}/events`, ann)
  const keys = keysOf(net.prefix)
  await net.redis.multi().del(keys.apiKey(ann.id)).zrem(keys.apiKeys, ann.id).exec()
  expect(json((await viewer.all()).at(-1)!)).toMatchObject({ error: { code: 'unauthorized' } })
  await eventually(async () => (await statusOf(net.url(0), ann.headers)) === 401, { limitMs: 10_000 })
  expect(await net.redis.exists(keys.apiKey(ann.id))).toBe(0) // the note of its use has not brought it back
})

test('an expired key opens nothing; viewers that can resume are sent away, agents are told', async () => {
  await using net = await startNetwork({ env })
  const [ann, coder] = await Promise.all([
    storedKey(net, { owner: 'ann' }, 3000),
    storedKey(net, { pools: ['coder'] }, 3000),
  ])
  const agent = await net.rawAgent({ pool: 'coder', key: coder.text })
  const { session } = (await api<Posted>(net.url(0), '/messages', { pool: 'coder', text: 'x' }, ann)).body
  await using viewer = await SseReader.open(`${net.url(0)}/api/v1/sessions/${session}/events`, ann)
  expect((await viewer.all()).at(-1)!.lines).toEqual([expect.stringMatching(/^retry: \d+$/)])
  await eventually(() => !agent.socket.connected, { limitMs: 10_000 })
  expect(agent.notices).toEqual([{ code: 'unauthorized', message: 'The key of this agent has expired.' }])
  expect(await statusOf(net.url(0), ann.headers)).toBe(401)
  expect((await operator(net, ['keys', 'list'])).stdout).toBe('')
  expect(await keysLike(net.redis, `${net.prefix}{keys}*`)).toEqual([])
})

test('while Redis is away a key that was good is not called wrong, and of others nothing is known', async () => {
  await using redis = await startRedisServer()
  const outage = { REDIS_DEADLINE_MS: '300', LIVE_OUTAGE_MS: '300', PROBE_MS: '500', SWEEP_EVERY_MS: '300' }
  await using net = await startNetwork({ redisUrl: redis.url, env: { ...env, ...outage } })
  const [ann, unused, coder] = await Promise.all([
    storedKey(net, { owner: 'ann' }),
    storedKey(net, { owner: 'ann' }),
    storedKey(net, { pools: ['coder'] }),
  ])
  const { session } = (await api<Posted>(net.url(0), '/messages', { pool: 'coder', text: 'x' }, ann)).body
  const wrong = { headers: bearer(ann.text.replace(/.$/, (c) => (c === '0' ? '1' : '0'))) }
  await redis.kill9()
  for (const key of [ann, unused])
    expect(await api(net.url(0), `/sessions/${session}`, undefined, key)).toMatchObject({
      status: 503,
      body: { error: { code: 'store_unavailable' } },
    })
  expect((await api(net.url(0), `/sessions/${session}`, undefined, wrong)).status).toBe(401)
  // EventSource would give up for good at a 503: who was let in before is let in, and told to come again
  await using viewer = await SseReader.open(`${net.url(0)}/api/v1/sessions/${session}/events`, ann)
  expect(viewer.response.status).toBe(200)
  expect((await viewer.all()).at(-1)).toMatchObject({ event: 'problem' })
  expect((await net.rawAgent({ pool: 'coder', key: coder.text })).welcome).toMatchObject({
    code: 'unavailable',
    retry: true,
  })
  await expect(startHelixAgent({ url: net.url(0), session, key: coder.text })).rejects.toThrow('503')
  await redis.restart()
  await eventually(async () => (await statusOf(net.url(0), unused.headers)) === 200, { limitMs: 10_000 })
  await eventually(async () => (await fetch(`${net.replicas[0]!.opsUrl}/readyz`)).ok, { limitMs: 10_000 })
})

test('what makes no key is said, and nothing is made', async () => {
  await using net = await startNetwork({ replicas: 0 })
  const ran = await operator(net, ['keys', 'create', '--owner', 'ann', '--pool', 'coder'])
  expect(ran).toMatchObject({
    code: 2,
    stdout: '',
    stderr: expect.stringContaining('--owner NAME for a client') as string,
  })
  expect(await keysLike(net.redis, `${net.prefix}*`)).toEqual([])
  const asked = { owner: undefined, pools: [] as string[], name: '', ttlMs: durationOf('90d') }
  expect(mistakeIn({ ...asked, owner: 'ann' })).toBeUndefined()
  expect(mistakeIn({ ...asked, pools: ['*', 'coder'] })).toBeUndefined()
  expect(mistakeIn(asked)).toMatch(/^Say whose key it is/)
  for (const owner of ['', ' ann', 'ann\nbob', 'x'.repeat(257)])
    expect(mistakeIn({ ...asked, owner })).toMatch(/^--owner/)
  expect(mistakeIn({ ...asked, pools: ['coder', 'a b'] })).toMatch(/"a b" is not the name of a pool/)
  expect(mistakeIn({ ...asked, owner: 'ann', name: 'x'.repeat(101) })).toMatch(/^--name/)
  for (const never of ['never', '0d', '30s', '4000d', '-1d', ''])
    expect(mistakeIn({ ...asked, owner: 'ann', ttlMs: durationOf(never) })).toMatch(/^--expires/)
})
