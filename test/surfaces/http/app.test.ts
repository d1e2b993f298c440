import { request, type IncomingMessage } from 'node:http'
import { z } from 'zod'
import { ThroughlineError } from '../../../src/protocol/errors.js'
import type { Routes } from '../../../src/surfaces/http/app.js'
import { parse } from '../../../src/surfaces/http/parse.js'
import { eventually } from '../../support/eventually.js'
import { startKit, type Kit } from './kit.js'

const Body = z.strictObject({ text: z.string(), list: z.array(z.object({ n: z.number() })).optional() })

const routes = (): Routes => ({
  '/things/:thing': {
    get: (call, _req, res) => void res.json({ owner: call.owner }),
    post: (_call, req, res) => void res.json(parse(Body, req.body)),
    delete: (_call, _req, res) => void res.status(204).end(),
  },
  '/empty': { post: (_call, req, res) => void res.json({ body: req.body ?? null }) },
  '/busy': {
    get() {
      throw new ThroughlineError('queue_full')
    },
  },
  '/bug': {
    get() {
      throw new Error('the secret detail')
    },
  },
  '/late-bug': {
    get(_call, _req, res) {
      res.write('half')
      throw new Error('too late')
    },
  },
})

const say = (kit: Kit, path: string, body: string, headers: Record<string, string> = {}) =>
  fetch(`${kit.url}/api${path}`, { method: 'POST', body, headers: { 'content-type': 'application/json', ...headers } })

async function refused(
  reply: Response,
): Promise<{ status: number; code: string; param: string | null; message: string }> {
  const { error } = (await reply.json()) as { error: { code: string; param: string | null; message: string } }
  return { status: reply.status, ...error }
}

/** A request with headers that fetch does not let one set. */
const bare = (kit: Kit, path: string, headers: Record<string, string>) =>
  new Promise<IncomingMessage>((resolve, reject) => {
    request({ port: kit.port, path: `/api${path}`, headers }, (res) => resolve(res.resume()))
      .on('error', reject)
      .end()
  })

describe('every reply', () => {
  test('carries a request id: the one it was asked with, or one of ours', async () => {
    await using kit = await startKit(routes)
    const asked = await fetch(`${kit.url}/api/things/1`, { headers: { 'x-request-id': 'abc-1' } })
    expect(asked.headers.get('x-request-id')).toBe('abc-1')
    const insane = await fetch(`${kit.url}/nowhere`, { headers: { 'x-request-id': 'a "b" c' } })
    expect(insane.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/)
    expect(await insane.json()).toMatchObject({ error: { requestId: insane.headers.get('x-request-id') } })
  })

  test('hides the framework and is not cached', async () => {
    await using kit = await startKit(routes)
    const { headers } = await fetch(`${kit.url}/api/things/1`)
    expect(headers.get('x-powered-by')).toBeNull()
    expect(headers.get('cache-control')).toBe('no-store')
    expect(headers.get('x-content-type-options')).toBe('nosniff')
    expect(headers.get('content-security-policy')).toBe("default-src 'none';frame-ancestors 'none'")
  })

  test('makes one line in the log and one count, by the pattern of the route', async () => {
    await using kit = await startKit(routes)
    await fetch(`${kit.url}/api/things/xyzzy?token=secret`)
    await eventually(() => kit.logs.length === 1)
    expect(kit.logs[0]).toMatchObject({ msg: 'request', method: 'GET', route: '/api/things/:thing', status: 200 })
    expect(JSON.stringify(kit.logs)).not.toMatch(/xyzzy|secret/)
    expect(kit.requests).toEqual([{ route: '/api/things/:thing', method: 'GET', status: 200 }])
  })
})

describe('a body', () => {
  test.each(['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x'])(
    'as %s, which a foreign page could post, is refused',
    async (type) => {
      await using kit = await startKit(routes)
      const reply = await refused(await say(kit, '/things/1', '{"text":"x"}', { 'content-type': type }))
      expect(reply).toMatchObject({ status: 415, code: 'unsupported_media_type' })
    },
  )

  test('may be missing', async () => {
    await using kit = await startKit(routes)
    const reply = await fetch(`${kit.url}/api/empty`, { method: 'POST' })
    expect([reply.status, await reply.json()]).toEqual([200, { body: null }])
  })

  test('that is larger than allowed is refused, with or without an announced length', async () => {
    await using kit = await startKit(routes)
    const text = JSON.stringify({ text: 'x'.repeat(1000) })
    expect(await refused(await say(kit, '/things/1', text))).toMatchObject({ status: 413, code: 'body_too_large' })
    const body = new Blob([text]).stream()
    const init = { method: 'POST', body, duplex: 'half', headers: { 'content-type': 'application/json' } }
    const reply = await fetch(`${kit.url}/api/things/1`, init as RequestInit)
    expect(await refused(reply)).toMatchObject({ status: 413, code: 'body_too_large' })
  })

  test.each(['{"text":', '"text"', 'null'])('that is no JSON object (%s) is refused', async (body) => {
    await using kit = await startKit(routes)
    expect(await refused(await say(kit, '/things/1', body))).toMatchObject({ status: 400, code: 'invalid_request' })
  })

  test.each([
    ['{}', 'text'],
    ['{"text":"x","list":[{"n":1},{"n":"2"}]}', 'list[1].n'],
    ['{"text":"x","wiat":true}', 'wiat'],
  ])('with a wrong field (%s) is refused by its name', async (body, param) => {
    await using kit = await startKit(routes)
    const reply = await refused(await say(kit, '/things/1', body))
    expect(reply).toMatchObject({ status: 400, code: 'invalid_request', param })
    expect(reply.message).toContain(param)
  })
})

describe('an error', () => {
  test('of the catalogue shows its code, and when to come again', async () => {
    await using kit = await startKit(routes)
    const reply = await fetch(`${kit.url}/api/busy`)
    expect(reply.headers.get('retry-after')).toBe('5')
    expect(await reply.json()).toEqual({
      error: {
        code: 'queue_full',
        message: expect.stringContaining('waiting messages') as unknown,
        param: null,
        requestId: reply.headers.get('x-request-id'),
        retry: true,
      },
    })
  })

  test('that is a bug is logged once, under the id that the caller is shown, and tells no detail', async () => {
    await using kit = await startKit(routes)
    const reply = await fetch(`${kit.url}/api/bug`)
    expect(reply.status).toBe(500)
    expect(await reply.text()).not.toContain('secret')
    const bugs = kit.logs.filter((line) => line['msg'] === 'bug')
    expect(bugs).toMatchObject([
      { requestId: reply.headers.get('x-request-id'), err: { message: 'the secret detail' } },
    ])
  })

  test('after the header cuts the connection: nobody takes the half for the whole', async () => {
    await using kit = await startKit(routes)
    await expect(fetch(`${kit.url}/api/late-bug`).then((reply) => reply.text())).rejects.toThrow()
    await eventually(() => kit.logs.some((line) => line['unfinished'] === true))
  })

  test('an unknown path and an unknown method are two things', async () => {
    await using kit = await startKit(routes)
    expect(await refused(await fetch(`${kit.url}/api/nothing`))).toMatchObject({ status: 404, code: 'unknown_url' })
    expect(await refused(await fetch(`${kit.url}/elsewhere`))).toMatchObject({ status: 404, code: 'unknown_url' })
    const reply = await fetch(`${kit.url}/api/things/1`, { method: 'PUT' })
    expect(reply.headers.get('allow')).toBe('GET, HEAD, POST, DELETE, OPTIONS')
    expect(await refused(reply)).toMatchObject({ status: 405, code: 'method_not_allowed' })
    expect((await refused(await fetch(`${kit.url}/api/things/%E0%A4%A`))).status).toBe(400)
  })

  test('without a valid key is 401 before the body is looked at', async () => {
    await using kit = await startKit(routes, { key: 'k' })
    const reply = await say(kit, '/things/1', '{')
    expect(reply.headers.get('www-authenticate')).toBe('Bearer')
    expect(await refused(reply)).toMatchObject({ status: 401, code: 'unauthorized' })
    const right = await fetch(`${kit.url}/api/things/1`, { headers: { authorization: 'Bearer k' } })
    expect(await right.json()).toEqual({ owner: 'alice' })
  })
})

describe('a gateway without keys', () => {
  test.each([
    ['evil.example', undefined, 400],
    ['localhost.evil.example', undefined, 400],
    ['127.0.0.1.evil.example', undefined, 400],
    ['localhost', 'https://evil.example', 400],
    ['localhost', 'null', 400],
    ['localhost:8080', undefined, 200],
    ['127.0.0.1', 'http://localhost:3000', 200],
    ['[::1]:8080', undefined, 200],
  ])('called as %s from %s answers %i', async (host, origin, status) => {
    await using kit = await startKit(routes, { loopbackOnly: true })
    expect((await bare(kit, '/things/1', { host, ...(origin && { origin }) })).statusCode).toBe(status)
  })

  test('with keys the name does not matter', async () => {
    await using kit = await startKit(routes)
    expect((await bare(kit, '/things/1', { host: 'agents.example.com' })).statusCode).toBe(200)
  })
})
