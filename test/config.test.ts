import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { configTable } from '../src/cli/config.js'
import { ConfigError, readConfig, SETTINGS } from '../src/config.js'
import { makeAuthority } from './support/certificates.js'

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

test('an address that others can reach is refused until clients and agents both need a key', () => {
  const outside = { HOST: '0.0.0.0' }
  expect(problemsOf(outside)).toEqual([
    expect.stringMatching(/^HOST: .*clients need no key: set CLIENT_KEYS.*; agents need no key: set AGENT_KEYS/),
  ])
  const clients = { CLIENT_KEYS: 'ann=secret-key-1' }
  const agents = { AGENT_KEYS: '*=secret-key-2' }
  const jwt = { JWT_JWKS_URL: 'https://x/jwks', JWT_ISSUER: 'https://x', JWT_AUDIENCE: 'me' }
  for (const half of [clients, agents, jwt]) {
    const side = half === agents ? 'clients' : 'agents'
    const other = half === agents ? 'agents' : 'clients'
    const [problem] = problemsOf({ ...outside, ...half })
    expect(problem).toContain(`${side} need no key`)
    expect(problem).not.toContain(`${other} need no key`)
    const { http } = readConfig(half)
    expect(http).toMatchObject({ host: '127.0.0.1', keyless: true })
    expect(http.keylessBecause).toContain(`${side} need no key`)
  }
  const enough: Record<string, string>[] = [
    { ...clients, ...agents },
    { ...jwt, ...agents },
    { KEY_STORE: 'on' },
    { ...clients, KEY_STORE: 'on' },
  ]
  for (const keys of enough) {
    expect(problemsOf({ ...outside, ...keys })).toEqual([])
    expect(readConfig(keys).http).toMatchObject({ host: '0.0.0.0', keyless: false })
  }
})

test('JWTs are accepted only with issuer and audience, by keys that nobody could have changed on the way', () => {
  const jwt = {
    JWT_JWKS_URL: 'https://issuer.example/jwks',
    JWT_ISSUER: 'https://issuer.example',
    JWT_AUDIENCE: 'a, b',
  }
  expect(readConfig(jwt).http.jwt).toEqual({
    jwksUrl: 'https://issuer.example/jwks',
    issuer: 'https://issuer.example',
    audience: ['a', 'b'],
    ownerClaim: 'sub',
  })
  expect(readConfig({}).http.jwt).toBeNull()
  expect(problemsOf({ JWT_JWKS_URL: jwt.JWT_JWKS_URL })).toEqual([
    expect.stringMatching(/^JWT_ISSUER: must be set/),
    expect.stringMatching(/^JWT_AUDIENCE: must be set/),
  ])
  expect(problemsOf({ JWT_ISSUER: jwt.JWT_ISSUER })[0]).toMatch(/^JWT_JWKS_URL: must be set/)
  for (const url of ['http://issuer.example/jwks', 'http://10.0.0.1/jwks', 'file:///jwks', 'issuer.example'])
    expect(problemsOf({ ...jwt, JWT_JWKS_URL: url })[0]).toMatch(/^JWT_JWKS_URL: /)
  for (const host of ['127.0.0.1', 'localhost', '[::1]'])
    expect(problemsOf({ ...jwt, JWT_JWKS_URL: `http://${host}:8081/jwks` })).toEqual([])
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

test('files for TLS are read and checked at start, and refused where nothing would be encrypted', async () => {
  await using ours = await makeAuthority()
  await using other = await makeAuthority()
  const [mine, another] = [await ours.sign('DNS:me'), await other.sign('DNS:me')]
  const tls = { REDIS_URL: 'rediss://redis', REDIS_CA_FILE: ours.ca }
  const pair = { REDIS_CERT_FILE: mine.cert, REDIS_KEY_FILE: mine.key }
  expect(readConfig({ ...tls, ...pair }).redis).toMatchObject({ ca: ours.pem, cert: await readFile(mine.cert, 'utf8') })
  expect(problemsOf({ ...tls, REDIS_CA_FILE: '/nowhere' })[0]).toMatch(/^REDIS_CA_FILE: cannot be read: ENOENT/)
  expect(problemsOf({ ...tls, REDIS_CA_FILE: mine.key })[0]).toMatch(/^REDIS_CA_FILE: /)
  expect(problemsOf({ ...tls, REDIS_CERT_FILE: mine.cert })).toEqual([
    'REDIS_CERT_FILE, REDIS_KEY_FILE: set both or none',
  ])
  expect(problemsOf({ ...tls, ...pair, REDIS_KEY_FILE: another.key })[0]).toMatch(/^REDIS_CERT_FILE.*mismatch/)
  expect(problemsOf({ ...tls, REDIS_URL: 'redis://redis' })[0]).toMatch(/^REDIS_CA_FILE: .*rediss/)
  expect(problemsOf({ REDIS_SENTINEL_PASSWORD: 'x' })[0]).toMatch(/names no Sentinels/)
})
