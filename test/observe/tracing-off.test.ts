import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** Starts a whole replica, then says which packages of OpenTelemetry its process has loaded. */
const PROGRAM = `
  import Module from 'node:module'
  const [{ startGateway }, { readConfig }, { createLogger }] = await Promise.all(
    ['gateway.js', 'config.js', 'observe/logger.js'].map((name) => import(process.env.DIST + name)))
  const gateway = await startGateway(readConfig(), createLogger({ level: 'silent', replica: 'r', version: 'v' }), 'v')
  const loaded = Object.keys(Module._cache).flatMap((path) => /@opentelemetry\\/([^/]+)/.exec(path)?.[1] ?? [])
  console.log(JSON.stringify([...new Set(loaded)]))
  await gateway.close()
  process.exit()
`

const loaded = (env: Record<string, string>) =>
  JSON.parse(
    execFileSync(process.execPath, ['--input-type=module', '-e', PROGRAM], {
      encoding: 'utf8',
      env: {
        ...process.env,
        NODE_OPTIONS: '',
        DIST: fileURLToPath(new URL('../../dist/', import.meta.url)),
        REDIS_URL: process.env['TEST_REDIS_URL']!,
        KEY_PREFIX: `test-off-${process.pid}:`,
        PORT: '0',
        OPS_PORT: '0',
        ...env,
      },
    }),
  ) as string[]

test('nothing of the SDK is loaded unless it is switched on; the interface comes with prom-client', () => {
  expect(loaded({})).toEqual(['api'])
  expect(loaded({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1', OTEL_SDK_DISABLED: 'true' })).toEqual(['api'])
  expect(loaded({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1' })).toEqual(
    expect.arrayContaining(['sdk-trace', 'exporter-trace-otlp-proto']),
  )
})
