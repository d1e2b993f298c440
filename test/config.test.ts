import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { configTable } from '../src/cli/config.js'
import { ConfigError, readConfig, SETTINGS } from '../src/config.js'

const problemsOf = (env: Record<string, string>): string[] => {
  try {
    readConfig(env)
    return []
  } catch (err) {
    if (err instanceof ConfigError) return err.problems
    throw err
  }
}

test('without any variable everything has its default, and only this machine may connect', () => {
  const config = readConfig({})
  expect(config.http).toMatchObject({ port: 8080, host: '127.0.0.1', opsPort: 9090, keyless: true })
})

test('all mistakes are told at once, each with the name of its variable', () => {
  const problems = problemsOf({
    PORT: 'eighty',
    DRAIN_MS: '-1',
    ON_AGENT_LOSS: 'shrug',
    CLIENT_KEYS: 'nokey',
    POOLS: 'a b',
  })
  expect(problems.map((problem) => problem.split(':')[0])).toEqual([
    'PORT',
    'CLIENT_KEYS',
    'POOLS',
    'ON_AGENT_LOSS',
    'DRAIN_MS',
  ])
})

test('tracing is off until a standard variable switches it on; what would be passed over in silence is told then', () => {
  const endpoint = 'http://collector:4318'
  const tracing = (env: Record<string, string>) => readConfig(env).tracing
  expect(tracing({})).toBeNull()
  expect(tracing({ OTEL_EXPORTER_OTLP_ENDPOINT: `${endpoint}/` })).toEqual({ url: `${endpoint}/v1/traces` })
  expect(
    tracing({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://other/x' }),
  ).toEqual({ url: 'https://other/x' })
  expect(tracing({ OTEL_TRACES_EXPORTER: 'otlp' })).toEqual({ url: undefined })
  expect(tracing({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_TRACES_EXPORTER: 'none' })).toBeNull()
  expect(tracing({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_SDK_DISABLED: 'True' })).toBeNull()
  const strange = {
    OTEL_TRACES_EXPORTER: 'console',
    OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
    OTEL_TRACES_SAMPLER: 'jaeger_remote',
  }
  expect(tracing({ ...strange, OTEL_TRACES_EXPORTER: 'none' })).toBeNull()
  expect(problemsOf(strange).map((problem) => problem.split(':')[0])).toEqual(Object.keys(strange))
  const ratio = { OTEL_TRACES_EXPORTER: 'otlp', OTEL_TRACES_SAMPLER: 'traceidratio' }
  for (const part of ['2', '-1', 'half', ''])
    expect(problemsOf({ ...ratio, OTEL_TRACES_SAMPLER_ARG: part })[0]).toMatch(/^OTEL_TRACES_SAMPLER_ARG: .*0 to 1/)
  expect(problemsOf({ ...ratio, OTEL_TRACES_SAMPLER_ARG: '0.05' })).toEqual([])
  expect(problemsOf({ OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4318' })[0]).toMatch(/^OTEL_EXPORTER_OTLP_ENDPOINT: /)
})

test('an address that others can reach is refused until both kinds of keys are set', () => {
  expect(problemsOf({ HOST: '0.0.0.0' })[0]).toMatch(/^HOST: .*CLIENT_KEYS and AGENT_KEYS/)
  const keys = { CLIENT_KEYS: 'ann=secret-key-1', AGENT_KEYS: '*=secret-key-2' }
  expect(problemsOf({ HOST: '0.0.0.0', ...keys })).toEqual([])
  expect(readConfig(keys).http).toMatchObject({ host: '0.0.0.0', keyless: false })
})

test('policies of single pools are checked at start; every mistake names pool and field', () => {
  expect(readConfig({ POOL_POLICIES: '{"coder": {"agentWaitMs": 60000}}' }).core.poolPolicies['coder']).toEqual({
    agentWaitMs: 60_000,
  })
  const problems = (policies: string) => problemsOf({ POOL_POLICIES: policies })
  expect(problems('{')).toEqual([expect.stringMatching(/^POOL_POLICIES: must be JSON like/)])
  expect(problems('[]')).toEqual([expect.stringMatching(/^POOL_POLICIES: must be JSON like/)])
  const [all] = problems(
    JSON.stringify({ 'a b': {}, coder: { agentWaitMs: '5', onAgentLoss: 'shrug', patience: 1 }, writer: 7 }),
  )
  expect(all).toMatch(/"a b": is not the name of a pool/)
  expect(all).toMatch(/coder\.agentWaitMs: must be a number/)
  expect(all).toMatch(/coder\.onAgentLoss: must be fail or retry/)
  expect(all).toMatch(/coder\.patience: unknown; a pool has onAgentLoss, /)
  expect(all).toMatch(/writer: must be an object/)
  expect(problems('{"coder": {"queueLimit": 1.5}}')[0]).toMatch(/coder\.queueLimit: must be a whole number from 0/)
  expect(problems('{"coder": {"staleAfterMs": 10}}')[0]).toMatch(/coder\.staleAfterMs: .*LEASE_TTL_MS/)
})

test('secrets are masked where settings are printed', () => {
  const table = configTable({ CLIENT_KEYS: 'ann=secret-key-1', REDIS_URL: 'redis://:hunter2@db:6379' })
  expect(table).not.toContain('secret-key-1')
  expect(table).not.toContain('hunter2')
})

test('docs/config.md has the same table', async () => {
  const doc = await readFile(fileURLToPath(new URL('../docs/config.md', import.meta.url)), 'utf8')
  for (const [name, setting] of Object.entries(SETTINGS)) {
    const row = doc.split('\n').find((line) => line.startsWith(`| \`${name}\` |`))
    const cells = row?.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll('\\|', '|'))
    expect(cells?.slice(2, 5)).toEqual([
      setting.default === '' ? '(empty)' : `\`${setting.default}\``,
      setting.unit ?? '',
      setting.meaning,
    ])
  }
  expect(doc.match(/^\| `/gm)).toHaveLength(Object.keys(SETTINGS).length)
})
