import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import { WebSocket } from 'ws'
import { freePorts } from '../../src/local/free-port.js'
import { api, post, type Posted } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startProgram, type Program } from '../support/program.js'
import { completed, startRawAgent, text } from '../support/raw-agent.js'
import { startRedisServer } from '../support/redis-server.js'

/*
 * Every secret has the same mark in it, and so has what a client and its agent say to each other. Whatever succeeds or
 * fails, at the most talkative level, the mark is found in no line, no error and no metric.
 */
const MARK = 'PLANTED'
const CLIENT = `${MARK}-client-key`
const AGENT = `${MARK}-agent-key`
const WRONG = `${MARK}-wrong-key`
const PASSWORD = `${MARK}/redis@password%`
const PROMPT = `${MARK}: what somebody asks`
const env = {
  CLIENT_KEYS: `ann=${CLIENT}`,
  AGENT_KEYS: `*=${AGENT}`,
  TOKEN_SECRET: `${MARK}-token-secret-0123456789abcdefgh`,
  WEBHOOK_SECRET: `whsec_${MARK}webhooksecretAAAAAAAAAAAA`,
  AGENT_WANTED_URL: 'http://127.0.0.1:9/wanted',
  AGENT_WANTED_SECRET: `whsec_${MARK}wantedsecretAAAAAAAAAAAAA`,
  WEBHOOK_ALLOW_HOSTS: '127.0.0.1',
  WEBHOOK_RETRY_MS: '50',
  WEBHOOK_ATTEMPTS: '2',
  POOLS: 'coder,empty',
  HELIX_POOL: 'coder',
  LOG_LEVEL: 'trace',
  REDIS_DEADLINE_MS: '300',
  SWEEP_EVERY_MS: '200',
  AGENT_WAIT_MS: '500',
  DRAIN_MS: '2000',
}
const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
const said = (program: Program) => program.stdout + program.stderr

async function startReplica(redisUrl: string, more: Record<string, string> = {}) {
  const [port, opsPort] = await freePorts(2)
  const program = startProgram(process.execPath, [MAIN, 'serve'], {
    env: { ...env, REDIS_URL: redisUrl, PORT: String(port), OPS_PORT: String(opsPort), HOST: '127.0.0.1', ...more },
  })
  return { program, url: `http://127.0.0.1:${port}`, opsUrl: `http://127.0.0.1:${opsPort}` }
}

test('nothing that is secret gets out, whatever succeeds or fails', async () => {
  await using server = await startRedisServer()
  const admin = new Redis(server.url)
  await admin.config('SET', 'requirepass', PASSWORD)
  const address = (password: string) => `redis://default:${encodeURIComponent(password)}@127.0.0.1:${server.port}`
  const replica = await startReplica(address(PASSWORD))
  await using program = replica.program
  await using refused = (await startReplica(address(WRONG))).program
  const { url } = replica
  await eventually(async () => (await fetch(`${replica.opsUrl}/readyz`)).ok, { limitMs: 30_000 })

  const errors: string[] = []
  async function fails(
    status: number,
    asked: Promise<{ status: number; text?: string; body?: unknown }>,
  ): Promise<void> {
    const answer = await asked
    errors.push(answer.text ?? JSON.stringify(answer.body))
    expect([answer.status, errors.at(-1)]).toEqual([status, expect.any(String)])
  }
  const plain = async (path: string, init: RequestInit = {}) => {
    const res = await fetch(url + path, init)
    return { status: res.status, text: await res.text() }
  }
  const ann = { authorization: `Bearer ${CLIENT}` }
  const json = { ...ann, 'content-type': 'application/json' }
  const body = (value: unknown) => ({ method: 'POST', headers: json, body: JSON.stringify(value) })

  // what succeeds
  const agent = await startRawAgent({ url, pool: 'coder', key: AGENT, agent: 'a', capacity: 9 })
  const sent = await post(url, { pool: 'coder' }, PROMPT, { webhook: { url: 'http://127.0.0.1:9/hook' } }, ann)
  const { request } = await agent.turn()
  agent.send(request, 1, { type: 'thread', thread: 'T' }, text(`${MARK}: what it answers`), completed)
  await eventually(async () => {
    const { body } = await api<{ status: string }>(url, `/interactions/${sent.interaction}`, undefined, {
      headers: ann,
    })
    return body.status === 'completed'
  })
  const { token } = (await api<{ token: string }>(url, `/sessions/${sent.session}/token`, {}, { headers: ann })).body
  expect((await plain(`/api/v1/interactions/${sent.interaction}/events?token=${token}`)).status).toBe(200)

  // what fails
  const bad = { authorization: `Bearer ${WRONG}` }
  await fails(401, plain('/api/v1/sessions', { headers: bad }))
  await fails(401, plain('/v1/models', { headers: bad }))
  await fails(401, plain('/api/v1/sessions', { headers: { cookie: `key=${CLIENT}`, 'x-api-key': CLIENT } }))
  await fails(401, plain(`/api/v1/sessions/${sent.session}/events?token=${token}x`))
  await fails(404, plain(`/api/v1/sessions/${WRONG}`, { headers: ann }))
  await fails(404, plain(`/${WRONG}?key=${CLIENT}`, { headers: ann }))
  await fails(400, plain('/api/v1/messages', { ...body(null), body: `{"pool":"coder","text":"${PROMPT}` }))
  await fails(400, plain('/api/v1/messages', { ...body(null), body: `{"pool":"coder","text":${PROMPT}}` }))
  await fails(400, plain('/api/v1/messages', body({ pool: PROMPT, text: PROMPT })))
  await fails(
    400,
    plain('/api/v1/messages', body({ pool: 'coder', text: PROMPT, webhook: { url: `http://a:${WRONG}@b/` } })),
  )
  await fails(400, plain('/v1/responses', body({ model: 'coder', input: PROMPT, tools: [{ type: PROMPT }] })))
  await fails(413, plain('/v1/responses', body({ model: 'coder', input: PROMPT.repeat(200_000) })))
  const again = { ...json, 'idempotency-key': 'k-1' }
  await plain('/api/v1/messages', { ...body({ pool: 'coder', text: PROMPT }), headers: again })
  await fails(422, plain('/api/v1/messages', { ...body({ pool: 'coder', text: `${PROMPT}!` }), headers: again }))
  await fails(
    502,
    plain('/v1/chat/completions', body({ model: 'empty', messages: [{ role: 'user', content: PROMPT }] })),
  )
  for (const key of [WRONG, CLIENT]) {
    const stranger = await startRawAgent({ url, pool: 'coder', key })
    errors.push(JSON.stringify(stranger.welcome))
    stranger.close()
  }
  agent.socket.emit('events', { request: WRONG, first: 1, events: [{ type: PROMPT }] } as never)
  agent.send(request, 4, text(`${MARK} too late`))
  const editor = new WebSocket(`${url.replace('http', 'ws')}/api/v1/external-agents/sync?session_id=zed&pool=coder`, {
    headers: { authorization: `Bearer ${AGENT}` },
  })
  editor.on('error', () => {})
  await new Promise((resolve) => editor.once('open', resolve))
  for (const rubbish of [
    PROMPT,
    `{"event_type":"${MARK}","data":{}}`,
    `{"event_type":"message_added","data":"${PROMPT}"}`,
  ])
    editor.send(rubbish)

  // Redis is full, then knows another password, then stands still, then is as before
  await admin.config('SET', 'maxmemory', '1mb')
  await fails(503, plain('/api/v1/messages', body({ pool: 'coder', text: PROMPT })))
  await admin.config('SET', 'maxmemory', '0')
  await admin.config('SET', 'requirepass', 'another')
  await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
  await admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
  await eventually(() => program.stdout.includes('WRONGPASS'), { limitMs: 20_000 })
  await fails(503, plain('/api/v1/messages', body({ pool: 'coder', text: PROMPT })))
  await admin.config('SET', 'requirepass', PASSWORD)
  const back = await eventually(
    async () => {
      const answer = await api<Posted>(url, '/messages', { pool: 'coder', text: PROMPT }, { headers: ann })
      return answer.status === 202 && answer.body
    },
    { limitMs: 30_000 },
  )
  expect(back.session).toMatch(/^ses_/)

  const metrics = await (await fetch(`${replica.opsUrl}/metrics`)).text()
  editor.terminate()
  agent.close()
  program.child.kill('SIGTERM')
  await program.exited
  expect(await refused.exited).toBe(78)
  admin.disconnect()

  const lines = program.stdout.split('\n').filter((line) => line !== '')
  for (const line of lines) JSON.parse(line)
  for (const event of ['ready', 'message_accepted', 'agent_message_dropped', 'webhook_failed', 'store_unavailable'])
    expect(lines.some((line) => line.includes(`"event":"${event}"`))).toBe(true)
  expect(lines.some((line) => line.includes(`redis://***@127.0.0.1:${server.port}`))).toBe(true)
  const leaks = [
    ...lines,
    ...program.stderr.split('\n'),
    ...said(refused).split('\n'),
    ...errors,
    ...metrics.split('\n'),
  ]
  expect(leaks.filter((it) => it.includes(MARK) || it.includes(token))).toEqual([])
  expect(said(refused)).toContain('user or password is wrong')
}, 120_000)

test('a configuration that is wrong is told without what is in it, and one that is shown is masked', async () => {
  const run = async (args: string[], more: Record<string, string>) => {
    await using program = startProgram(process.execPath, [MAIN, ...args], { env: { ...env, REDIS_URL: '', ...more } })
    program.child.stdin.end()
    return { code: await program.exited, said: said(program) }
  }
  const [wrong, shown] = await Promise.all([
    run(['serve'], {
      REDIS_URL: `redis://:${MARK}/with@slash@127.0.0.1:1`,
      CLIENT_KEYS: `${MARK}nokey`,
      AGENT_KEYS: `x=${MARK},=${MARK}`,
      TOKEN_SECRET: `${MARK}short`,
      WEBHOOK_SECRET: `whsec_${MARK}`,
      AGENT_WANTED_SECRET: MARK,
    }),
    run(['config'], { REDIS_URL: `redis://:${MARK}pass@127.0.0.1:1` }),
  ])
  expect([wrong.code, shown.code]).toEqual([78, 0])
  for (const name of ['REDIS_URL', 'CLIENT_KEYS', 'AGENT_KEYS', 'TOKEN_SECRET', 'WEBHOOK_SECRET'])
    expect(wrong.said).toContain(`${name}:`)
  expect(wrong.said + shown.said).not.toContain(MARK)
})
