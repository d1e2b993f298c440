import type { z } from 'zod'
import { ERRORS } from '../../../src/protocol/errors.js'
import type { Operation } from '../../../src/surfaces/http/openapi.js'
import { nativeDescription } from '../../../src/surfaces/native/document.js'
import { ExportLine } from '../../../src/surfaces/native/replies.js'
import { startNetwork } from '../../support/network.js'
import { completed, text } from '../../support/raw-agent.js'
import { json, SseReader, type RawFrame } from '../../support/sse.js'

const KEY = { authorization: 'Bearer key-of-alice' }

/** What the document says of a request. */
function operationOf(method: string, path: string): { name: string; operation: Operation } {
  const asked = new URL(path, 'http://x').pathname
  for (const [pattern, methods] of Object.entries(nativeDescription.operations)) {
    const fits = new RegExp(`^${pattern.replaceAll(/:\w+/g, '[^/]+')}$`).test(asked)
    const operation = methods[method.toLowerCase() as 'get']
    if (fits && operation) return { name: `${method} ${pattern}`, operation }
  }
  throw new Error(`${method} ${path} is not in the document`)
}

/** Holds a value to its schema: it fits, and has no field that the schema does not name. */
function fits(schema: z.ZodType, value: unknown): void {
  expect(schema.parse(value)).toEqual(value)
}

function framesFit(frames: RawFrame[], schemas: Record<string, z.ZodType>): string[] {
  const named = frames.filter(({ event }) => event !== undefined)
  for (const frame of named) {
    expect(Object.keys(schemas)).toContain(frame.event)
    fits(schemas[frame.event!]!, json(frame))
  }
  return named.map(({ event }) => event!)
}

test('every reply of a story is as the document says, on every route', async () => {
  await using net = await startNetwork({
    env: { CLIENT_KEYS: 'alice=key-of-alice', TOKEN_SECRET: 'a secret of more than 32 characters' },
  })
  const agent = await net.rawAgent({ pool: 'coder', capacity: 9 })
  const told = new Set<string>()

  /** Asks, and holds the reply to the document. */
  async function ask<T = Record<string, string>>(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = KEY,
  ): Promise<{ status: number; body: T; headers: Headers }> {
    const { name, operation } = operationOf(method, path)
    const reply = await fetch(`${net.url(0)}/api/v1${path}`, {
      method,
      headers: { ...headers, ...(body !== undefined && { 'content-type': 'application/json' }) },
      ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    })
    const { status } = reply
    told.add(`${name} ${status}`)
    const said = await reply.text()
    const value =
      said && reply.headers.get('content-type')!.includes('application/json') ? (JSON.parse(said) as unknown) : said
    const documented = operation.replies[status]
    if (documented) {
      const type = reply.headers.get('content-type')?.split(';')[0]
      if (said) expect(Object.keys(documented.content ?? {})).toContain(type)
      if (said) fits(documented.content![type!]!, value)
      for (const [header, schema] of Object.entries(documented.headers?.shape ?? {}))
        (schema as z.ZodType).parse(reply.headers.get(header) ?? undefined)
    } else {
      const { code } = (value as { error: { code: keyof typeof ERRORS } }).error
      const common = ['invalid_request', 'unauthorized', 'body_too_large', 'unsupported_media_type']
      expect([...common, ...operation.errors]).toContain(code)
      fits(nativeDescription.errorBody([code]), value)
      expect(ERRORS[code].status).toBe(status)
    }
    return { status, body: value as T, headers: reply.headers }
  }

  const once = { ...KEY, 'idempotency-key': 'k1' }
  const { body: made } = await ask('POST', '/sessions', { pool: 'coder', title: 'T', metadata: { a: '1' } }, once)
  const again = await ask('POST', '/sessions', { pool: 'coder', title: 'T', metadata: { a: '1' } }, once)
  expect(again.headers.get('idempotent-replayed')).toBe('true')
  await ask('POST', '/sessions', { pool: 'coder' }, once) // 422
  await ask('POST', '/sessions', { pool: 'nobodys' }) // 404
  await ask('POST', '/sessions', '{"pool":') // 400
  await ask('POST', '/sessions', { pool: 'coder' }, {}) // 401

  const session = `/sessions/${made['id']}`
  const { body: first } = await ask('POST', `${session}/messages`, { text: 'one' })
  const turn = await agent.turn(0)
  agent.send(
    turn.request,
    1,
    { type: 'entry.append', entry: 'r', kind: 'reasoning', text: 'hm' },
    { type: 'entry.set', entry: 'tool', kind: 'tool_call', name: 'Read', status: 'in_progress' },
    { type: 'entry.append', entry: 'tool', text: '```\nx\n```' },
    { type: 'entry.set', entry: 'tool', status: 'completed' },
    text('hello'),
    { type: 'permission', permission: 'p', title: 'May I?', options: [{ id: 'yes', name: 'Yes', kind: 'allow_once' }] },
    { type: 'entry.replace', entry: 't', offset: 1, text: 'i' },
    { type: 'thread', thread: 'T1' },
    { type: 'title', title: 'A title' },
    { type: 'usage', usage: { inputTokens: 1, outputTokens: 2, cachedTokens: 0 } },
  )
  await agent.acked(turn.request, 10)
  await ask('POST', `/interactions/${first['interaction']}/permissions/p`, { option: 'yes' })
  await ask('POST', `/interactions/${first['interaction']}/permissions/q`, { option: 'yes' }) // 404
  const { body: second } = await ask('POST', `${session}/messages`, { text: 'two', metadata: { b: '2' } })
  await ask('GET', `${session}/queue`)
  await ask('GET', session)
  await ask('GET', `/interactions/${first['interaction']}`)
  agent.send(turn.request, 11, { type: 'permission.settled', permission: 'p', option: 'yes', by: 'client' }, completed)
  const waited = ask('POST', `${session}/messages`, { text: 'three', wait: true })
  const failing = await agent.turn(1)
  agent.send(failing.request, 1, text('half'), { type: 'failed', code: 'own', message: 'No luck' })
  const third = await agent.turn(2)
  agent.send(third.request, 1, text('ok'), completed)
  expect((await waited).body).toMatchObject({ status: 'completed' })

  await ask('GET', '/sessions?pool=coder&active=false&metadata=a:1&limit=1')
  await ask('GET', '/sessions?limt=1') // 400
  await ask('GET', `${session}/interactions?order=desc&limit=2`)
  await ask('GET', `${session}/interactions?status=failed`)
  await ask('GET', `${session}/interactions?after=${second['interaction']!.slice(0, -1)}0`) // 404
  await ask('GET', `${session}/export`)
  await ask('GET', `${session}/export?format=markdown`)
  const { body: lines } = await ask<string>('GET', `${session}/export?format=ndjson`)
  for (const line of lines.trimEnd().split('\n')) fits(ExportLine, JSON.parse(line))

  await ask('POST', `${session}/token`, { ttlSeconds: 0 }) // 400
  const { body: token } = await ask('POST', `${session}/token`)
  await ask('GET', `/interactions/${first['interaction']}/events?after=x`) // 400
  await ask('POST', `/interactions/${first['interaction']}/cancel`)
  await ask('POST', `${session}/cancel`) // nothing runs

  const { frames: turnFrames } = operationOf('GET', '/interactions/x/events').operation.replies[200]!
  const { frames: sessionFrames } = operationOf('GET', '/sessions/x/events').operation.replies[200]!
  const events = `${net.url(0)}/api/v1/interactions/${second['interaction']}/events?token=${token['token']}`
  await using of = await SseReader.open(events)
  expect(framesFit(await of.all(), turnFrames!)).toEqual([
    'submitted',
    'started',
    'dispatched',
    'entry.append',
    'failed',
    'done',
  ])
  await using snapshot = await SseReader.open(`${events}&after=2.lost`)
  expect(framesFit(await snapshot.all(), turnFrames!)).toEqual(['snapshot', 'done'])

  await using all = await SseReader.open(`${net.url(0)}/api/v1${session}/events?after=0&ping=1`, { headers: KEY })
  await all.until(({ event, data }) => event === 'completed' && data!.includes(third.interaction))
  await ask('POST', `${session}/messages`, { text: 'four', stream: false })
  await ask('POST', `${session}/cancel`)
  await ask('DELETE', session)
  const rest = framesFit(await all.all(), sessionFrames!)
  expect(rest.slice(-2)).toEqual(['cancelled', 'done'])
  await ask('GET', session) // 404
  const { body: made2 } = await ask('POST', '/messages', { pool: 'coder', text: 'x' })
  await ask('POST', `/interactions/${made2['interaction']}/cancel`)

  const routes = Object.entries(nativeDescription.operations).flatMap(([pattern, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${pattern}`),
  )
  for (const route of routes.filter((each) => !each.endsWith('/events')))
    expect([...told].some((each) => each.startsWith(`${route} 2`)) && route).toBe(route)
})
