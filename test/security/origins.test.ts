import { once } from 'node:events'
import { request, type IncomingMessage } from 'node:http'
import { WebSocket } from 'ws'
import { startNetwork } from '../support/network.js'

const KEYS = { CLIENT_KEYS: 'ann=ann-key-1', AGENT_KEYS: '*=agent-key-1' }
const APP = 'https://app.example.com'
const ann = { authorization: 'Bearer ann-key-1' }

/** A request with headers that fetch does not let one set. */
const ask = (url: string, method: string, headers: Record<string, string>) =>
  new Promise<IncomingMessage>((resolve, reject) => {
    request(url, { method, headers, agent: false }, (res) => resolve(res.resume()))
      .on('error', reject)
      .end()
  })
const preflight = (
  url: string,
  origin: string,
  method = 'POST',
  headers = 'authorization,content-type,x-stainless-os',
) =>
  ask(url, 'OPTIONS', {
    origin,
    'access-control-request-method': method,
    'access-control-request-headers': headers,
  })
const cors = (res: IncomingMessage) =>
  Object.fromEntries(Object.entries(res.headers).filter(([name]) => name.startsWith('access-control-')))

/** How a WebSocket from a page of this origin is answered: `open`, or the status it is refused with. */
async function knock(url: string, path: string, headers: Record<string, string>): Promise<string> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}${path}`, { headers })
  const refused = new Promise<string>((resolve) =>
    socket.once('unexpected-response', (_req, res) => resolve(String(res.resume().statusCode))),
  )
  socket.on('error', () => {})
  const how = await Promise.race([
    refused,
    once(socket, 'open').then(
      () => 'open',
      () => refused,
    ),
  ])
  socket.terminate()
  return how
}
const AGENTS = '/socket.io/?EIO=4&transport=websocket'
const HELIX = '/api/v1/external-agents/sync?session_id=zed&pool=coder'

describe('pages', () => {
  const paths = ['/api/v1/messages', '/v1/responses', '/api/v1/openapi.json']

  test('from elsewhere are told nothing unless they are listed', async () => {
    await using net = await startNetwork({ env: KEYS })
    for (const path of paths) {
      expect(cors(await preflight(net.url(0) + path, APP))).toEqual({})
      expect(cors(await ask(net.url(0) + path, 'GET', { origin: APP, ...ann }))).toEqual({})
    }
  })

  test('that are listed may ask on every door, with the headers of SDKs, and read what they need', async () => {
    await using net = await startNetwork({ env: { ...KEYS, CORS_ORIGINS: `https://other.example,${APP}` } })
    for (const path of paths) {
      const asked = await preflight(net.url(0) + path, APP)
      expect([asked.statusCode, asked.headers.vary]).toEqual([204, 'Origin, Access-Control-Request-Headers'])
      expect(cors(asked)).toMatchObject({
        'access-control-allow-origin': APP,
        'access-control-allow-methods': 'GET,HEAD,POST,DELETE',
        'access-control-allow-headers': 'authorization,content-type,x-stainless-os',
        'access-control-max-age': '7200',
      })
      const got = await ask(net.url(0) + path, 'GET', { origin: APP }) // 401 and 405 among them: a page must see errors
      expect(got.headers['access-control-allow-origin']).toBe(APP)
      expect(got.headers.vary).toContain('Origin')
      expect(got.headers['access-control-allow-credentials']).toBeUndefined()
      const exposed = got.headers['access-control-expose-headers']!.toLowerCase().split(',')
      expect(exposed).toEqual(
        expect.arrayContaining(['retry-after', 'ratelimit', 'x-request-id', 'throughline-interaction-id', 'location']),
      )
    }
    expect(
      cors(await preflight(`${net.url(0)}/v1/responses`, 'https://app.example.com.evil.example')),
    ).not.toHaveProperty('access-control-allow-origin')
    const plain = await ask(`${net.url(0)}/api/v1/messages`, 'OPTIONS', {})
    expect([plain.statusCode, plain.headers.allow]).toEqual([204, 'POST, OPTIONS'])
  })

  test('of any origin, where * says so, and never with what a browser adds by itself', async () => {
    await using net = await startNetwork({ env: { ...KEYS, CORS_ORIGINS: '*' } })
    const asked = await preflight(`${net.url(0)}/v1/responses`, APP)
    expect(cors(asked)).toMatchObject({ 'access-control-allow-origin': '*' })
    expect(cors(asked)).not.toHaveProperty('access-control-allow-credentials')
  })

  test('that are listed may use a gateway without keys; others, and names that only resolve to it, may not', async () => {
    await using net = await startNetwork({ env: { CORS_ORIGINS: APP } })
    const url = `${net.url(0)}/api/v1/sessions`
    const statusOf = async (headers: Record<string, string>) => (await ask(url, 'GET', headers)).statusCode
    expect(await statusOf({ origin: APP })).toBe(200)
    expect(await statusOf({ origin: 'https://evil.example' })).toBe(400)
    expect(await statusOf({ origin: APP, host: 'evil.example' })).toBe(400)
  })
})

describe('a WebSocket', () => {
  const bearer = { authorization: 'Bearer agent-key-1' }

  test.each([
    ['of a program, which names no origin', {}, 'open'],
    ['of a listed page', { origin: APP }, 'open'],
    ['of a page elsewhere', { origin: 'https://evil.example' }, '403'],
    ['of a page whose name begins like a listed one', { origin: `${APP}.evil.example` }, '403'],
    ['of a page without an origin (a file, a sandbox)', { origin: 'null' }, '403'],
    ['of a page of the gateway itself', { origin: 'http://gw.example', host: 'gw.example' }, 'open'],
  ])('%s, at both doors', async (_what, headers, how) => {
    await using net = await startNetwork({ env: { ...KEYS, CORS_ORIGINS: APP } })
    expect(await knock(net.url(0), AGENTS, { ...headers } as Record<string, string>)).toBe(how)
    expect(await knock(net.url(0), HELIX, { ...bearer, ...headers } as Record<string, string>)).toBe(how)
  })

  test('to a gateway without keys is for programs of this machine: no page, no other name of it', async () => {
    await using net = await startNetwork()
    for (const path of [AGENTS, HELIX]) {
      expect(await knock(net.url(0), path, {})).toBe('open')
      expect(await knock(net.url(0), path, { origin: 'http://localhost:3000' })).toBe('403')
      expect(await knock(net.url(0), path, { origin: 'http://evil.example', host: 'evil.example' })).toBe('403')
      expect(await knock(net.url(0), path, { host: 'evil.example' })).toBe('403')
    }
  })
})
