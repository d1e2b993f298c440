import { validate } from '@readme/openapi-parser'
import type { Router } from 'express'
import { pino } from 'pino'
import type { Core } from '../../../src/core/core.js'
import { openApiDocument } from '../../../src/surfaces/http/openapi.js'
import { nativeDescription } from '../../../src/surfaces/native/document.js'
import { nativeSurface } from '../../../src/surfaces/native/router.js'
import { startNetwork } from '../../support/network.js'

interface Document {
  openapi: string
  info: { version: string }
  paths: Record<string, Record<string, { operationId: string; responses: Record<string, unknown> }>>
  components: { schemas: Record<string, unknown> }
}

/** Every `METHOD /path` of a surface's router, in the document's spelling. */
function routesOf(router: Router, base: string): string[] {
  return router.stack.flatMap(({ route }) =>
    !route
      ? []
      : [...new Set(route.stack.map(({ method }) => method))]
          .filter((method) => ['get', 'post', 'put', 'patch', 'delete'].includes(method))
          .map((method) => `${method.toUpperCase()} ${base}${route.path.replaceAll(/:(\w+)/g, '{$1}')}`),
  )
}

const native = nativeSurface({
  log: pino({ enabled: false }),
  authenticate: () => Promise.resolve({ owner: 'nobody' }),
  draining: new AbortController().signal,
  hardStop: new AbortController().signal,
  attempt: (_req, _credential, verify) => verify(),
  rates: {},
  origins: { origins: [], loopbackOnly: false },
  limits: { maxBodyBytes: 1, waitLimitMs: 1, keepAliveMs: 1, slowViewerMs: 1, retryMs: 1 },
  core: {} as Core, // nothing is asked
  tokens: undefined,
})
const document = openApiDocument('1.2.3', [nativeDescription]) as Document
const documented = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
)

test('every route of the native surface is in the document, and nothing else is', () => {
  expect(documented.sort()).toEqual(routesOf(native, '/api/v1').sort())
  expect(documented.length).toBeGreaterThan(10)
})

test('the document is valid OpenAPI 3.1', async () => {
  expect(document.openapi).toBe('3.1.1')
  expect(document.info.version).toBe('1.2.3')
  expect(await validate(structuredClone(document) as never)).toMatchObject({ valid: true })
})

test('every operation has a name of its own and says how it can fail', () => {
  const operations = Object.values(document.paths).flatMap((methods) => Object.values(methods))
  const names = operations.map(({ operationId }) => operationId)
  expect(new Set(names).size).toBe(names.length)
  for (const { responses } of operations)
    expect(Object.keys(responses)).toEqual(expect.arrayContaining(['400', '401', '500', '503']))
})

test('every event of a stream is described by a schema that exists', () => {
  const text = JSON.stringify(document)
  const named = [...text.matchAll(/"#\/components\/schemas\/([^"]+)"/g)].map(([, name]) => name!)
  for (const name of named) expect(document.components.schemas).toHaveProperty(name)
  for (const name of ['EntryAppendEvent', 'CompletedEvent', 'CancelledEvent', 'SnapshotFrame', 'DoneFrame'])
    expect(named).toContain(name)
})

test('a gateway serves it, and a page that shows it, to whoever asks, from its own files alone', async () => {
  await using net = await startNetwork({ env: { CLIENT_KEYS: 'alice=key-of-alice' } })
  const served = await fetch(`${net.url(0)}/api/v1/openapi.json`)
  expect(served.headers.get('content-type')).toContain('application/json')
  expect(Object.keys(((await served.json()) as Document).paths)).toEqual(Object.keys(document.paths))

  const page = await fetch(`${net.url(0)}/docs`)
  const html = await page.text()
  const policy = page.headers.get('content-security-policy')!
  expect(policy).toContain("default-src 'none'")
  expect(policy).toContain("script-src 'self';")
  expect(html).not.toMatch(/https?:\/\/|<script>|\son\w+=/)
  const files = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path]) => path!)
  expect(files.length).toBeGreaterThan(3)
  for (const file of files) {
    const reply = await fetch(net.url(0) + file)
    expect([file, reply.status]).toEqual([file, 200])
    expect((await reply.arrayBuffer()).byteLength).toBeGreaterThan(50)
  }
  expect((await fetch(`${net.url(0)}/docs/package.json`)).status).toBe(404)
})
