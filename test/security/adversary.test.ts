import { brotliCompressSync, gzipSync } from 'node:zlib'
import { connect } from 'node:net'
import { SignJWT } from 'jose'
import { tokens } from '../../src/auth/token.js'
import type { SessionId } from '../../src/protocol/ids.js'
import { api, post, type Posted } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'
import { completed, startRawAgent, text, type RawAgent } from '../support/raw-agent.js'
import { secret } from '../support/receiver.js'
import { SseReader } from '../support/sse.js'
import { ask, overEngine, overSocketIo, overWebSocket, raw, upgrade, type Answer } from './adversary.js'

/*
 * What an adversary sends, and what comes back. One gateway, a process of its own, stands through all of it; after every
 * row it serves a turn, has said nothing of another owner, and has logged no bug.
 */
const TOKEN_SECRET = 'a-secret-for-tokens-0123456789abcdef'
const MAX_BODY = 1024 * 1024
const env = {
  CLIENT_KEYS: 'ann=ann-key-1,bob=bob-key-1,carol=carol-key-1,mallory=mallory-key-1',
  AGENT_KEYS: 'coder=agent-key-1,other=other-key-1',
  POOLS: 'coder,other',
  HELIX_POOL: 'coder',
  TOKEN_SECRET,
  WEBHOOK_SECRET: secret('a'),
  MAX_BODY_BYTES: String(MAX_BODY),
  HELIX_MAX_FRAME_BYTES: '65536',
  AGENT_MAX_FRAME_BYTES: String(1024 * 1024),
  MAX_REQUESTS_PER_OWNER: '400',
  MAX_AUTH_FAILURES: '1000',
}
const SECRET_TEXT = 'what bob asked is nobody else’s business'

let net: Network
let url: string
let good: RawAgent
/** Bob's turn, which waits in a pool without agents. */
let bobs: Posted
let memoryBefore = 0
beforeAll(async () => {
  net = await startNetwork({ processes: true, env })
  url = net.url(0)
  good = await net.rawAgent({ pool: 'coder', key: 'agent-key-1', capacity: 20, agent: 'good' })
  good.socket.on('turn', ({ request }) => good.send(request, 1, text('fine'), completed))
  bobs = await post(url, { pool: 'other' }, SECRET_TEXT, {}, bearer('bob-key-1'))
  await serves()
  memoryBefore = await memory()
})
afterAll(() => net[Symbol.asyncDispose]())

const bearer = (key: string) => ({ authorization: `Bearer ${key}` })
const ann = bearer('ann-key-1')
const as = (key: string, more: Record<string, string> = {}) => ({ headers: { ...bearer(key), ...more } })
const get = (path: string, headers: Record<string, string> = ann) => ask(url, path, { headers })
const send = (path: string, body: string | Buffer | object, headers: Record<string, string> = {}) =>
  ask(url, path, { headers: { ...ann, ...headers }, body })
const say = (more: object) => send('/api/v1/messages', { pool: 'coder', text: 'x', ...more })
const events = (query = '', headers: Record<string, string> = ann) =>
  get(`/api/v1/interactions/${bobs.interaction}/events${query}`, headers)
const head = (...lines: string[]) => `${lines.join('\r\n')}\r\n\r\n`
const POST =
  'POST /api/v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ann-key-1\r\nContent-Type: application/json'
const HELIX = '/api/v1/external-agents/sync'
const helix = (query: string, headers: Record<string, string> = bearer('agent-key-1')) =>
  upgrade(url, `${HELIX}?${query}`, headers)
const frames = (attack: Parameters<typeof overWebSocket>[3]) =>
  overWebSocket(url, `${HELIX}?session_id=evil&pool=coder`, bearer('agent-key-1'), attack)
const hello = (more: object, key: unknown = 'agent-key-1') =>
  overSocketIo(url, {
    auth: { key },
    hello: { protocol: 1, agent: 'evil', capacity: 1, sessions: [], holding: [], ...more },
  })
const deep = (levels: number) => '['.repeat(levels) + ']'.repeat(levels)
const signer = tokens([TOKEN_SECRET])!
const word = (said: string): Answer => ({ word: said, said })

/** The sessions' token that ann gets for one of her own. */
async function annsToken(use: 'stream' | 'agent', ttlMs = 60_000): Promise<{ session: SessionId; token: string }> {
  const { session } = await post(url, { pool: 'coder' }, 'x', {}, ann)
  return { session, token: await signer.mint(use, session, ttlMs) }
}

async function serves(): Promise<void> {
  const { status, body } = await api<{ text: string }>(
    url,
    '/messages',
    { pool: 'coder', text: 'still there?', wait: true },
    as('carol-key-1'),
  )
  expect([status, body.text]).toEqual([200, 'fine'])
}

const memory = async () =>
  Number(
    /^process_resident_memory_bytes (\S+)/m.exec(await (await fetch(`${net.replicas[0]!.opsUrl}/metrics`)).text())![1],
  )

type Row = [what: string, attack: () => Promise<Answer>, answer: string | RegExp]

async function check(attack: () => Promise<Answer>, answer: string | RegExp): Promise<void> {
  const { logs } = net.replicas[0]!
  const before = logs.length
  const { word: came, said } = await attack()
  if (typeof answer === 'string') expect(came).toBe(answer)
  else expect(came).toMatch(answer)
  expect(said).not.toContain('nobody else')
  expect(said).not.toMatch(/at .*\.js:\d+|node_modules|ioredis/)
  await serves()
  const lines = logs.slice(before)
  expect(lines.filter((line) => Number(line['level']) >= 50)).toEqual([])
  expect(lines.length).toBeLessThan(1000)
  for (const line of lines) expect(JSON.stringify(line).length).toBeLessThan(8000)
}

describe('bodies', () => {
  test.each<Row>([
    ['that are no JSON', () => send('/api/v1/messages', '{"pool":'), '400 invalid_request'],
    ['that are an array', () => send('/api/v1/messages', '[]'), '400 invalid_request'],
    [
      'nested 200,000 deep',
      () => send('/api/v1/messages', `{"pool":"coder","text":"x","metadata":${deep(200_000)}}`),
      '400 invalid_request',
    ],
    [
      'nested 200,000 deep in a field of an SDK that we do not know',
      () =>
        send(
          '/v1/chat/completions',
          `{"model":"coder","messages":[{"role":"user","content":"x"}],"later":${deep(200_000)}}`,
        ),
      '400 invalid_request',
    ],
    [
      'nested 5,000 deep there',
      () => send('/v1/responses', `{"model":"coder","input":"x","later":${deep(5000)}}`),
      '400 invalid_request',
    ],
    [
      'as plain text, which a page may post anywhere',
      () => send('/api/v1/messages', '{}', { 'content-type': 'text/plain' }),
      '415 unsupported_media_type',
    ],
    [
      'as a form',
      () => send('/api/v1/messages', 'pool=coder', { 'content-type': 'application/x-www-form-urlencoded' }),
      '415 unsupported_media_type',
    ],
    [
      'in Latin-1',
      () => send('/api/v1/messages', '{}', { 'content-type': 'application/json; charset=iso-8859-1' }),
      '415 unsupported_media_type',
    ],
    [
      'of no type',
      () =>
        raw(
          url,
          head('POST /api/v1/messages HTTP/1.1', 'Host: x', 'Authorization: Bearer ann-key-1', 'Content-Length: 2') +
            '{}',
        ),
      '415 unsupported_media_type',
    ],
    [
      'that are a bomb of gzip',
      () => send('/api/v1/messages', gzipSync(Buffer.alloc(50 * MAX_BODY, 32)), { 'content-encoding': 'gzip' }),
      '413 body_too_large',
    ],
    [
      'that are a bomb of brotli',
      () => send('/api/v1/messages', brotliCompressSync(Buffer.alloc(20 * MAX_BODY, 32)), { 'content-encoding': 'br' }),
      '413 body_too_large',
    ],
    [
      'that only say they are gzip',
      () => send('/api/v1/messages', '{}', { 'content-encoding': 'gzip' }),
      '400 invalid_request',
    ],
    [
      'in an encoding nobody knows',
      () => send('/api/v1/messages', '{}', { 'content-encoding': 'zstd, gzip' }),
      '415 unsupported_media_type',
    ],
    ['larger than allowed', () => say({ text: 'x'.repeat(MAX_BODY) }), '413 body_too_large'],
    [
      'larger than allowed, in chunks',
      () =>
        raw(
          url,
          `${POST}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n200000\r\n${'x'.repeat(0x200000)}\r\n0\r\n\r\n`,
        ),
      '413 body_too_large',
    ],
    [
      'that promise a terabyte',
      () => raw(url, `${POST}\r\nContent-Length: 1000000000000\r\n\r\n{`),
      '413 body_too_large',
    ],
    [
      'with __proto__ at the top',
      () => send('/api/v1/messages', '{"__proto__":{"pool":"coder"},"text":"x"}'),
      '400 invalid_request',
    ],
    [
      'with __proto__ and constructor in the metadata',
      () =>
        send(
          '/api/v1/messages',
          '{"pool":"coder","text":"x","metadata":{"__proto__":{"admin":"1"},"constructor":"x"}}',
        ),
      /^(400 invalid_request|202)$/,
    ],
    [
      'with null bytes and lone surrogates in the text',
      () => send('/api/v1/messages', '{"pool":"coder","text":"a\\u0000b\\ud800c"}'),
      '202',
    ],
    [
      'with bytes that are no UTF-8',
      () => send('/api/v1/messages', Buffer.from('7b22706f6f6c223a22636f646572222c2274657874223a22fffe227d', 'hex')),
      '202',
    ],
    [
      'with too many pairs of metadata',
      () => say({ metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, 'v'])) }),
      '400 invalid_request',
    ],
    ['with a huge pair of metadata', () => say({ metadata: { k: 'v'.repeat(500_000) } }), '400 invalid_request'],
    ['with a pool that is a pattern of Redis', () => say({ pool: '*' }), '400 invalid_request'],
    ['with a pool that looks like a key of Redis', () => say({ pool: 'coder}:pending' }), '400 invalid_request'],
    ['with a number where a text should be', () => say({ text: 1e308 }), '400 invalid_request'],
  ])('%s', (_what, attack, answer) => check(attack, answer))

  test.each([
    'http://127.0.0.1/',
    'http://localhost./',
    'http://169.254.169.254/latest/meta-data/',
    'http://[::1]/',
    'http://[::ffff:127.0.0.1]/',
    'http://2130706433/',
    'http://0x7f.1/',
    'http://0177.0.0.1/',
    'http://user:pass@example.com/',
    'file:///etc/passwd',
    'gopher://example.com/',
  ])('with a webhook to %s', (target) => check(() => say({ webhook: { url: target } }), '400 invalid_request'))
})

describe('requests', () => {
  test.each<Row>([
    ['that are no HTTP', () => raw(url, 'HELLO\r\n\r\n'), '400 invalid_request'],
    ['of HTTP/0.9', () => raw(url, 'GET /\r\n\r\n'), '404 unknown_url'],
    ['of HTTP/1.0', () => raw(url, head('GET /api/v1/openapi.json HTTP/1.0')), '200'],
    ['of HTTP/2 without asking', () => raw(url, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), /^400|closed/],
    [
      'that would go on as h2c',
      () =>
        ask(url, '/api/v1/sessions', {
          headers: {
            ...ann,
            connection: 'Upgrade, HTTP2-Settings',
            upgrade: 'h2c',
            'http2-settings': 'AAMAAABkAAQCAAAAAAIAAAAA',
          },
        }),
      '200',
    ],
    [
      'with a body that would go on as h2c',
      () =>
        send(
          '/api/v1/messages',
          { pool: 'coder', text: 'x' },
          { connection: 'Upgrade, HTTP2-Settings', upgrade: 'h2c', 'http2-settings': 'AAMAAABkAAQCAAAAAAIAAAAA' },
        ),
      '202',
    ],
    ['without a host', () => raw(url, head('GET /docs HTTP/1.1')), '400'],
    [
      'with two lengths',
      () => raw(url, `${POST}\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}`),
      '400 invalid_request',
    ],
    [
      'with a length and chunks (smuggling)',
      () =>
        raw(url, `${POST}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n`),
      '400 invalid_request',
    ],
    [
      'with chunks that are not last (smuggling)',
      () => raw(url, `${POST}\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`),
      '400 invalid_request',
    ],
    [
      'with a blank before the colon (smuggling)',
      () => raw(url, `${POST}\r\nContent-Length : 2\r\n\r\n{}`),
      '400 invalid_request',
    ],
    [
      'with a folded header',
      () => raw(url, head('GET /docs HTTP/1.1', 'Host: x', 'X-A: 1', ' folded')),
      '400 invalid_request',
    ],
    ['with a negative length', () => raw(url, `${POST}\r\nContent-Length: -1\r\n\r\n`), '400 invalid_request'],
    [
      'with a chunk of impossible size',
      () => raw(url, `${POST}\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n`),
      '400 invalid_request',
    ],
    ['with a header too large', () => get('/docs', { 'x-large': 'x'.repeat(20_000) }), '431 headers_too_large'],
    [
      'with 5,000 headers',
      () => get('/docs', Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`x-${i}`, '1']))),
      '431 headers_too_large',
    ],
    ['with 3,000 parameters', () => get(`/api/v1/sessions?${'a&'.repeat(3000)}`), '400 invalid_request'],
    [
      'with a null byte in a header',
      () => raw(url, head('GET /docs HTTP/1.1', 'Host: x', 'X-A: a\0b')),
      '400 invalid_request',
    ],
    ['by CONNECT', () => raw(url, head('CONNECT 169.254.169.254:80 HTTP/1.1', 'Host: x')), 'closed'],
    ['by TRACE', () => ask(url, '/api/v1/sessions', { method: 'TRACE', headers: ann }), '405 method_not_allowed'],
    ['by a method that does not exist', () => raw(url, head('EXPLODE / HTTP/1.1', 'Host: x')), '400 invalid_request'],
    [
      'for everything (OPTIONS *)',
      () => raw(url, head('OPTIONS * HTTP/1.1', 'Host: x', 'Connection: close')),
      '404 unknown_url',
    ],
    [
      'that override their method',
      () => get(`/api/v1/sessions/${bobs.session}`, { ...ann, 'x-http-method-override': 'DELETE' }),
      '404 not_found',
    ],
    [
      'through us to another host',
      () => raw(url, head('GET http://169.254.169.254/latest/ HTTP/1.1', 'Host: 169.254.169.254')),
      '404 unknown_url',
    ],
    ['out of the folder of the docs', () => get('/docs/../../package.json'), '404 unknown_url'],
    ['out of it, encoded', () => get('/docs/%2e%2e%2f%2e%2e%2fpackage.json'), '404 unknown_url'],
    ['out of it, encoded twice', () => get('/docs/%252e%252e%252fpackage.json'), '404 unknown_url'],
    ['with a slash in an id', () => get(`/api/v1/sessions/${bobs.session}%2Fevents`), '404 not_found'],
    ['with a null byte in an id', () => get('/api/v1/sessions/ses_%00'), '404 not_found'],
    ['with half of a percent code', () => get('/api/v1/sessions/%E0%A4%A'), '400 invalid_request'],
    ['with a pattern of Redis as an id', () => get('/api/v1/sessions/ses_*'), '404 not_found'],
    ['with the tag of a key as an id', () => get('/api/v1/interactions/int_%7Bses%7D'), '404 not_found'],
    ['with a parameter twice', () => get('/api/v1/sessions?limit=1&limit=100'), '400 invalid_request'],
    ['with an object as a parameter', () => get('/api/v1/sessions?limit[$gt]=1'), '400 invalid_request'],
    ['with an infinite limit', () => get('/api/v1/sessions?limit=1e309'), '400 invalid_request'],
    ['with a negative limit', () => get('/api/v1/sessions?limit=-1'), '400 invalid_request'],
    ['with a cursor that was not ours', () => get('/api/v1/sessions?before=0.ses_*'), '400 invalid_request'],
    ['with a filter that is a pattern of Redis', () => get('/api/v1/sessions?metadata=*:*'), '200'],
    [
      'with blanks in an Idempotency-Key',
      () => send('/api/v1/messages', { pool: 'coder', text: 'x' }, { 'idempotency-key': 'a b' }),
      '400 invalid_request',
    ],
    [
      'with a tab and a DEL in an Idempotency-Key',
      () => send('/api/v1/messages', { pool: 'coder', text: 'x' }, { 'idempotency-key': 'a\tb\x7f' }),
      '400 invalid_request',
    ],
    [
      'with an endless Idempotency-Key',
      () => send('/api/v1/messages', { pool: 'coder', text: 'x' }, { 'idempotency-key': 'k'.repeat(256) }),
      '400 invalid_request',
    ],
  ])('%s', (_what, attack, answer) => check(attack, answer))

  test('with a request id that would break the log or a header get another', async () => {
    await check(async () => {
      const { word: came, said } = await get('/api/v1/sessions', { ...ann, 'x-request-id': '"}<script>' })
      expect(/^x-request-id: (.*)$/m.exec(said)![1]).toMatch(/^[0-9a-f-]{36}\r?$/)
      return word(came)
    }, '200')
  })

  test('that come by dribs and drabs, sixty at a time, keep nobody waiting', async () => {
    const { hostname, port } = new URL(url)
    const sockets = Array.from({ length: 60 }, () => connect(Number(port), hostname).on('error', () => {}))
    const drip = setInterval(() => sockets.forEach((socket) => socket.write('X')), 50)
    sockets.forEach((socket) => socket.write('GET /docs HTTP/1.1\r\nHost: x\r\nX-Slow: '))
    await serves()
    clearInterval(drip)
    sockets.forEach((socket) => socket.destroy())
  })

  test('that flood from one owner are refused, and others are served meanwhile', async () => {
    const flood = Array.from({ length: 450 }, () => api(url, '/sessions?limit=1', undefined, as('mallory-key-1')))
    await serves()
    const all = (await Promise.all(flood)).map(({ status }) => status)
    expect([all.filter((it) => it === 429).length, all.filter((it) => it === 200).length]).toEqual([50, 400])
    await serves()
  })
})

describe('cursors', () => {
  test.each(['1e309', '-1', '0x10', '99999999999999999999', '1.', '1.$', '*', '%00', '1&after=2'])(
    'after=%s',
    (after) => check(() => events(`?after=${after}`), '400 invalid_cursor'),
  )
  test.each<Row>([
    ['a Last-Event-ID that is none', () => events('', { ...ann, 'last-event-id': 'a: b' }), '400 invalid_cursor'],
    [
      'starting_after=1e309',
      async () => get(`/v1/responses/resp_${(await mine()).slice(4)}?stream=true&starting_after=1e309`),
      '400 invalid_cursor',
    ],
    [
      'starting_after=-5',
      async () => get(`/v1/responses/resp_${(await mine()).slice(4)}?stream=true&starting_after=-5`),
      '400 invalid_cursor',
    ],
    [
      'after= an item of nowhere',
      async () => get(`/v1/responses/resp_${(await mine()).slice(4)}/input_items?after=*`),
      '400 invalid_request',
    ],
  ])('%s', (_what, attack, answer) => check(attack, answer))

  const mine = async () => (await post(url, { pool: 'coder' }, 'x', {}, ann)).interaction
})

describe('what is another owner’s', () => {
  const other = (path: string) => `/api/v1${path.replace(':s', bobs.session).replace(':i', bobs.interaction)}`
  test.each([
    '/sessions/:s',
    '/sessions/:s/interactions',
    '/sessions/:s/queue',
    '/sessions/:s/events',
    '/sessions/:s/export',
    '/interactions/:i',
    '/interactions/:i/events',
  ])('GET %s', (path) => check(() => get(other(path)), '404 not_found'))
  test.each([
    ['/sessions/:s/messages', { text: 'x' }],
    ['/sessions/:s/cancel', {}],
    ['/sessions/:s/token', {}],
    ['/interactions/:i/cancel', {}],
    ['/interactions/:i/permissions/p', { option: 'yes' }],
  ])('POST %s', (path, body) => check(() => send(other(path), body), '404 not_found'))
  test.each<Row>([
    [
      'named by a header',
      () =>
        send(
          '/v1/chat/completions',
          { model: 'other', messages: [{ role: 'user', content: 'x' }] },
          { 'throughline-session-id': bobs.session },
        ),
      '404 not_found',
    ],
    [
      'named in metadata',
      () =>
        send('/v1/chat/completions', {
          model: 'other',
          messages: [{ role: 'user', content: 'x' }],
          metadata: { session_id: bobs.session },
        }),
      '404 not_found',
    ],
    [
      'as a previous response',
      () =>
        send('/v1/responses', {
          model: 'other',
          input: 'x',
          previous_response_id: `resp_${bobs.interaction.slice(4)}`,
        }),
      '404 response_not_found',
    ],
    [
      'as a conversation',
      () => send('/v1/responses', { model: 'other', input: 'x', conversation: `conv_${bobs.session.slice(4)}` }),
      '404 conversation_not_found',
    ],
    [
      'as Helix’ session',
      () =>
        send('/api/v1/sessions/chat', {
          session_id: bobs.session,
          messages: [{ role: 'user', content: { content_type: 'text', parts: ['x'] } }],
        }),
      '404',
    ],
    ['without any key', () => ask(url, `/api/v1/sessions/${bobs.session}`), '401 unauthorized'],
    [
      'with a wrong key before the right one',
      () =>
        raw(
          url,
          head(
            `GET /api/v1/sessions/${bobs.session} HTTP/1.1`,
            'Host: x',
            'Connection: close',
            'Authorization: Bearer wrong-key',
            'Authorization: Bearer bob-key-1',
          ),
        ),
      '401 unauthorized',
    ],
    ['with a key of agents', () => get(`/api/v1/sessions/${bobs.session}`, bearer('agent-key-1')), '401 unauthorized'],
    ['with a key in the address', () => ask(url, `/api/v1/sessions/${bobs.session}?key=bob-key-1`), '401 unauthorized'],
  ])('%s', (_what, attack, answer) => check(attack, answer))
})

describe('tokens', () => {
  const stream = async (session: string, token: string) => ask(url, `/api/v1/sessions/${session}/events?token=${token}`)
  const signed = (claims: { secret?: string; exp?: number; audience?: string; issuer?: string }) =>
    new SignJWT()
      .setProtectedHeader({ alg: 'HS256' })
      .setIssuer(claims.issuer ?? 'throughline')
      .setAudience(claims.audience ?? 'stream')
      .setSubject(bobs.session)
      .setExpirationTime(claims.exp ?? Math.floor(Date.now() / 1000) + 60)
      .sign(new TextEncoder().encode(claims.secret ?? TOKEN_SECRET))
  const none = (claims: object) =>
    [{ alg: 'none', typ: 'JWT' }, claims]
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.') + '.'

  test.each<Row>([
    [
      'signed by nobody',
      () => stream(bobs.session, none({ iss: 'throughline', aud: 'stream', sub: bobs.session, exp: 4e9 })),
      '401 unauthorized',
    ],
    [
      'signed with another secret',
      async () => stream(bobs.session, await signed({ secret: 'x'.repeat(40) })),
      '401 unauthorized',
    ],
    ['that have expired', async () => stream(bobs.session, await signed({ exp: 1_700_000_000 })), '401 unauthorized'],
    ['of another issuer', async () => stream(bobs.session, await signed({ issuer: 'evil' })), '401 unauthorized'],
    [
      'of an agent, to read with',
      async () => stream(bobs.session, await signed({ audience: 'agent' })),
      '401 unauthorized',
    ],
    ['for another session', async () => stream(bobs.session, (await annsToken('stream')).token), '404 not_found'],
    [
      'to read with, as a key',
      async () => get(`/api/v1/sessions/${bobs.session}`, bearer((await annsToken('stream')).token)),
      '401 unauthorized',
    ],
    [
      'to read with, to write with',
      async () => {
        const { session, token } = await annsToken('stream')
        return ask(url, `/api/v1/sessions/${session}/messages?token=${token}`, { body: { text: 'x' } })
      },
      '401 unauthorized',
    ],
    [
      'twice in one address',
      async () => {
        const { session, token } = await annsToken('stream')
        return stream(session, `${token}&token=${token}`)
      },
      '401 unauthorized',
    ],
    [
      'to read with, as an agent of Helix',
      async () => {
        const { session, token } = await annsToken('stream')
        return helix(`session_id=${session}`, bearer(token))
      },
      '401',
    ],
    [
      'of an agent, for another session',
      async () => helix(`session_id=${bobs.session}`, bearer((await annsToken('agent')).token)),
      '401',
    ],
    ['of an agent, for a pool', async () => hello({ pool: 'coder' }, (await annsToken('agent')).token), 'unauthorized'],
    [
      'of an agent, for the session of another',
      async () => hello({ sessions: [bobs.session] }, (await annsToken('agent')).token),
      'unauthorized',
    ],
  ])('%s', (_what, attack, answer) => check(attack, answer))
})

describe('WebSockets', () => {
  const masked = (first: number, payload: Buffer, length = payload.length) =>
    Buffer.concat([
      length < 126 ? Buffer.from([first, 0x80 | length]) : Buffer.from([first, 0xfe, length >> 8, length & 255]),
      Buffer.alloc(4),
      payload,
    ])
  test.each<Row>([
    ['at an address that is none', () => upgrade(url, '//'), '404'],
    ['beside Socket.IO', () => upgrade(url, '/socket.iox'), '404'],
    ['at Socket.IO without its slash', () => upgrade(url, '/socket.io?EIO=4&transport=websocket'), '404'],
    ['where there is none', () => upgrade(url, '/api/v1/messages', ann), '404'],
    [
      'with a key that is none',
      () => helix('session_id=evil&pool=coder', { ...bearer('agent-key-1'), 'sec-websocket-key': 'short' }),
      '400',
    ],
    [
      'of another version',
      () => helix('session_id=evil&pool=coder', { ...bearer('agent-key-1'), 'sec-websocket-version': '7' }),
      /^4(00|26)$/,
    ],
    [
      'of a page elsewhere',
      () => helix('session_id=evil&pool=coder', { ...bearer('agent-key-1'), origin: 'https://evil.example' }),
      '403',
    ],
    [
      'of a page elsewhere, at Socket.IO',
      () => upgrade(url, '/socket.io/?EIO=4&transport=websocket', { origin: 'https://evil.example' }),
      '403',
    ],
    ['without a key', () => helix('session_id=evil&pool=coder', {}), '401'],
    ['with a wrong key', () => helix('session_id=evil&pool=coder', bearer('wrong-key')), '401'],
    ['with a key of clients', () => helix('session_id=evil&pool=coder', bearer('ann-key-1')), '401'],
    ['for a pool that the key does not open', () => helix('session_id=evil&pool=other'), '401'],
    ['for a session of such a pool', () => helix(`session_id=${bobs.session}`), '401'],
    ['for a pool that is a pattern', () => helix('session_id=evil&pool=*'), '400'],
    ['under a name that is a path', () => helix('session_id=../../evil&pool=coder'), '400'],
    ['under a name with the separators of Redis', () => helix('session_id=a%7Cb%7Bc%7D*&pool=coder'), '400'],
    ['for infinitely many sessions', () => helix('session_id=evil&pool=coder&capacity=1e309'), '400'],
    ['for less than none', () => helix('session_id=evil&pool=coder&capacity=-1'), '400'],
    [
      'with a frame that is not masked',
      () => frames((_, bytes) => bytes(Buffer.from([0x81, 2, 0x7b, 0x7d]))),
      'close 1002',
    ],
    [
      'with a compressed frame nobody agreed to (bomb)',
      () => frames((_, bytes) => bytes(masked(0xc1, Buffer.from('4a04', 'hex')))),
      'close 1002',
    ],
    [
      'with a frame of an unknown kind',
      () => frames((_, bytes) => bytes(masked(0x83, Buffer.from('x')))),
      'close 1002',
    ],
    ['with a ping that is too long', () => frames((_, bytes) => bytes(masked(0x89, Buffer.alloc(126)))), 'close 1002'],
    [
      'with a text that is no UTF-8',
      () => frames((_, bytes) => bytes(masked(0x81, Buffer.from([0xff, 0xfe])))),
      'close 1007',
    ],
    ['with a frame too large', () => frames((socket) => socket.send('x'.repeat(70_000))), 'close 1009'],
    [
      'with a frame that promises 2^63 bytes',
      () =>
        frames((_, bytes) =>
          bytes(Buffer.concat([Buffer.from([0x81, 0xff]), Buffer.from('7fffffffffffffff', 'hex'), Buffer.alloc(4)])),
        ),
      'close 1009',
    ],
    [
      'with pieces that never end',
      () =>
        frames((socket) => {
          for (let i = 0; i < 5; i++) socket.send('x'.repeat(20_000), { fin: false })
        }),
      'close 1009',
    ],
    [
      'with rubbish, then a goodbye',
      () =>
        frames((socket) => {
          for (const said of [
            '',
            '{',
            'null',
            '[]',
            '{"event_type":1}',
            '{"event_type":"message_added"}',
            '{"__proto__":{}}',
            '{"event_type":"__proto__","data":{}}',
            '{"event_type":"message_added","data":{"acp_thread_id":"x\\r\\n","message_id":{},"content":1}}',
            deep(10_000),
          ])
            socket.send(said)
          socket.send(Buffer.from([0, 1, 2]))
          socket.close(1000)
        }),
      'close 1000',
    ],
  ])('%s', (_what, attack, answer) => check(attack, answer))
})

describe('agents over Socket.IO', () => {
  const at = (sid: string) => `/socket.io/?EIO=4&transport=${sid}`
  test.each<Row>([
    ['that poll', () => ask(url, at('polling')), '400'],
    ['of an old protocol', () => upgrade(url, '/socket.io/?EIO=3&transport=websocket'), '101'],
    ['in a session of Engine.IO that is not there', () => upgrade(url, `${at('websocket')}&sid=__proto__`), '400'],
    ['by a transport that is a prototype', () => ask(url, at('__proto__')), '400'],
    ['that would rather have h2c', () => upgrade(url, at('websocket'), { upgrade: 'h2c' }), '400'],
    ['in another namespace', () => overSocketIo(url, { namespace: '/admin' }), 'refused Invalid namespace'],
    ['in no namespace, where nobody asks for a key', () => overSocketIo(url, { namespace: '/' }), /^refused /],
    ['with a packet that is none', () => overEngine(url, ['4hello']), 'close 1005'],
    ['with a packet of an unknown kind', () => overEngine(url, ['9']), 'close 1005'],
    [
      'with a namespace that is endless',
      () => overEngine(url, [`40/${'x'.repeat(100_000)},{}`]),
      /^(open|close 1005)$/,
    ],
    ['with an event before they are connected', () => overEngine(url, ['42/agents,["hello",{}]']), 'close 1005'],
    [
      'with a million attachments',
      () =>
        overEngine(url, [
          '40/agents,{"key":"agent-key-1"}',
          '451000000-/agents,["events",{"_placeholder":true,"num":0}]',
        ]),
      'close 1005',
    ],
    [
      'with attachments that never come',
      () =>
        overEngine(url, [
          '40/agents,{"key":"agent-key-1"}',
          '455-/agents,["events",{"_placeholder":true,"num":0}]',
          '42/agents,["hello",1]',
        ]),
      'close 1005',
    ],
    [
      'with an event named as what Socket.IO says itself',
      () => overEngine(url, ['40/agents,{"key":"agent-key-1"}', '42/agents,["disconnect"]']),
      'close 1005',
    ],
    [
      'with answers to what was never asked',
      () =>
        overEngine(url, [
          '40/agents,{"key":"agent-key-1"}',
          ...Array.from({ length: 500 }, (_, i) => `43/agents,${i}["x"]`),
        ]),
      'open',
    ],
    ['with a frame too large', () => overEngine(url, [`42/agents,["hello","${'x'.repeat(1_100_000)}"]`]), 'close 1009'],
    [
      'whose hello wants no answer',
      () => overEngine(url, ['40/agents,{"key":"agent-key-1"}', '42/agents,["hello",{}]']),
      'close 1005',
    ],
    ['without a key', () => hello({ pool: 'coder' }, null), 'unauthorized'],
    ['with a key that is an object', () => hello({ pool: 'coder' }, { toString: 'x' }), 'unauthorized'],
    ['with a list of keys', () => hello({ pool: 'coder' }, ['agent-key-1']), 'unauthorized'],
    ['with a key of clients', () => hello({ pool: 'coder' }, 'ann-key-1'), 'unauthorized'],
    ['for a pool that the key does not open', () => hello({ pool: 'other' }), 'unauthorized'],
    ['for a session of such a pool', () => hello({ sessions: [bobs.session] }), 'unauthorized'],
    [
      'that hold a turn of such a pool',
      () =>
        hello({
          holding: [{ session: bobs.session, request: `req_${bobs.session.slice(4)}_000000000000000000_1`, acked: 0 }],
        }),
      /^(unauthorized|invalid_hello)$/,
    ],
    ['for any pool', () => hello({ pool: '*' }), /^(unauthorized|invalid_hello)$/],
    ['for infinitely many', () => hello({ pool: 'coder', capacity: 1e309 }), 'invalid_hello'],
    [
      'with ten thousand sessions',
      () => hello({ sessions: Array.from({ length: 10_001 }, () => bobs.session) }),
      'invalid_hello',
    ],
    ['under a name that is a key of Redis', () => hello({ pool: 'coder', agent: 'a}:pending' }), 'invalid_hello'],
    ['that say nothing', () => hello({ protocol: null, agent: null }), 'invalid_hello'],
    ['of another protocol', () => hello({ protocol: 99 }), 'unsupported_protocol'],
  ])('%s', (_what, attack, answer) => check(attack, answer))

  test('that answer the turn of another, or an attempt that is over, are not heard', async () => {
    const held = await startRawAgent({ url, pool: 'other', key: 'other-key-1', agent: 'bobs-agent' })
    const turn = await held.turn()
    const evil = await net.rawAgent({ pool: 'coder', key: 'agent-key-1', agent: 'evil-2' })
    await check(async () => {
      evil.send(turn.request, 1, text('all your base'), completed)
      evil.send(turn.request.replace(/.$/, '9') as typeof turn.request, 1, text('all your base'))
      for (let i = 0; i < 300; i++) evil.socket.emit('accepted', { request: i } as never)
      evil.socket.emit('events', { request: turn.request, first: 1, events: [Buffer.alloc(1000)] } as never)
      evil.socket.emit('events', { request: turn.request, first: -1, events: 'x' } as never)
      evil.socket.emit('events', { request: turn.request, first: 1e309, events: [] } as never)
      await eventually(() => evil.cancels.length > 0 && evil.notices.length > 300)
      return word(evil.cancels[0]!.reason)
    }, 'superseded')
    evil.close()

    // the one whose turn it is goes away and comes back elsewhere; what the old connection still says is late
    const again = await startRawAgent({
      url,
      pool: 'other',
      key: 'other-key-1',
      agent: 'bobs-agent',
      holding: [{ session: turn.session, request: turn.request, acked: 0 }],
    })
    held.send(turn.request, 1, text('from the grave'), completed)
    again.send(turn.request, 1, text('a\n\nevent: done\ndata: {}\r\n\r\nid: 99\n'), {
      type: 'failed',
      code: 'x_code',
      message: 'a\r\nSet-Cookie: b=c',
    })
    await using viewer = await SseReader.open(`${url}/api/v1/interactions/${bobs.interaction}/events`, {
      headers: bearer('bob-key-1'),
    })
    const seen = await viewer.all()
    expect(seen.map(({ event }) => event ?? 'retry')).toEqual([
      'retry',
      'submitted',
      'pending',
      'dispatched',
      'entry.append',
      'failed',
      'done',
    ])
    const { body, headers } = await api<{ text: string }>(
      url,
      `/interactions/${bobs.interaction}`,
      undefined,
      as('bob-key-1'),
    )
    expect(body.text).toBe('a\n\nevent: done\ndata: {}\r\n\r\nid: 99\n')
    expect(headers.get('set-cookie')).toBeNull()
    again.close()
    held.close()
    await serves()
  })

  test('that send an event named by nobody, or one with line breaks in its name, change no stream', async () => {
    const evil = await startRawAgent({ url, pool: 'other', key: 'other-key-1' })
    const sent = await post(url, { pool: 'other' }, 'x', {}, bearer('bob-key-1'))
    const { request } = await evil.turn()
    evil.send(request, 1, { type: 'done\n\nevent: completed' } as never)
    evil.send(request, 1, { type: 'submitted', text: 'x' } as never)
    await eventually(() => evil.notices.length === 2)
    evil.send(request, 1, text('t', 'e\n\nid: 5'), completed)
    await using viewer = await SseReader.open(`${url}/api/v1/interactions/${sent.interaction}/events`, {
      headers: bearer('bob-key-1'),
    })
    expect((await viewer.all()).map(({ event }) => event ?? 'retry')).toEqual([
      'retry',
      'submitted',
      'dispatched',
      'entry.append',
      'completed',
      'done',
    ])
    evil.close()
    await serves()
  })
})

test('through all of it the gateway has not grown, restarted or let anybody in', async () => {
  expect((await memory()) - memoryBefore).toBeLessThan(150 * 1024 * 1024)
  expect(net.logged('ready')).toHaveLength(1)
  expect(net.logged('bug')).toEqual([])
  expect(net.logged('agent_joined').map(({ agent }) => agent)).not.toContain('evil-1')
})
