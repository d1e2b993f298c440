import { Redis } from 'ioredis'
import { examine } from '../../src/doctor/examine.js'
import { checkFiles, checkSettings } from '../../src/doctor/settings.js'
import { readConfig } from '../../src/config.js'
import { freePort } from '../../src/local/free-port.js'
import { aclOf } from '../../src/store/commands.js'
import { keysOf } from '../../src/store/keys.js'
import { post } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { operator } from '../support/operator.js'
import { startRedisServer, type RedisServer } from '../support/redis-server.js'

let server: RedisServer
let root: Redis
beforeAll(async () => {
  server = await startRedisServer({ args: ['--maxmemory', '1gb'] })
  root = new Redis(server.url)
})
afterAll(async () => {
  root?.disconnect()
  await server?.stop()
})

const KEYS = { CLIENT_KEYS: 'ann=12345678', AGENT_KEYS: '*=12345678', MAX_CONNECTIONS: '100', POOLS: 'coder' }
const look = (env: Record<string, string> = {}) =>
  examine({ ...KEYS, REDIS_URL: server.url, KEY_PREFIX: 'p:', ...env }, 'test')
/** What is not well, as `check: status`. */
const bad = async (env?: Record<string, string>) =>
  (await look(env)).filter((it) => it.status !== 'ok').map((it) => `${it.check}: ${it.status}`)

test('with a good Redis and a living replica all is well, and every check has been made', async () => {
  await using net = await startNetwork({ redisUrl: server.url, env: { SWEEP_EVERY_MS: '200' } })
  const findings = await look({ KEY_PREFIX: net.prefix })
  expect(findings.filter((it) => it.status !== 'ok')).toEqual([])
  expect([...new Set(findings.map((it) => it.check))]).toEqual(
    expect.arrayContaining(
      [
        'config',
        'keys',
        'redis.reach',
        'redis.version',
        'redis.eviction',
        'redis.memory',
        'redis.persistence',
        'clock',
      ].concat(['redis.acl', 'replicas', 'versions', 'sweep', 'bus', 'turns', 'pools']),
    ),
  )
  // of another version; a session that waits for nobody; then nobody who sweeps
  expect(
    (await examine({ ...KEYS, REDIS_URL: server.url, KEY_PREFIX: net.prefix }, '9.9.9')).find(
      (it) => it.check === 'versions',
    ),
  ).toMatchObject({
    status: 'warn',
    found: expect.stringMatching(/9\.9\.9, test/) as string,
  })
  await post(net.url(0), { pool: 'coder' }, 'anyone?')
  expect(await bad({ KEY_PREFIX: net.prefix })).toEqual(['pools: warn'])
  await net.replicas[0]!.drain()
  await eventually(async () => {
    const later = await bad({ KEY_PREFIX: net.prefix, SWEEP_EVERY_MS: '100', AGENT_WAIT_MS: '1' })
    expect(later).toEqual(expect.arrayContaining(['replicas: warn', 'sweep: fail', 'turns: warn']))
  })
})

test('a Redis that evicts, keeps nothing and has no limit is told so, with the cure', async () => {
  await root.config('SET', 'maxmemory-policy', 'allkeys-lru')
  await root.config('SET', 'maxmemory', '0')
  await root.config('SET', 'appendonly', 'no')
  await root.config('SET', 'save', '')
  try {
    const findings = await look()
    for (const check of ['redis.eviction', 'redis.persistence'])
      expect(findings.find((it) => it.check === check)).toMatchObject({
        status: 'fail',
        cure: expect.stringMatching(/CONFIG SET/) as string,
      })
    expect(findings.find((it) => it.check === 'redis.memory')).toMatchObject({ status: 'warn' })
    await root.config('SET', 'save', '3600 1')
    expect((await look()).find((it) => it.check === 'redis.persistence')).toMatchObject({ status: 'warn' })
  } finally {
    await root.config('SET', 'maxmemory-policy', 'noeviction')
    await root.config('SET', 'maxmemory', '1gb')
    await root.config('SET', 'appendonly', 'yes')
  }
})

test('a user without a command, or for other keys, is noticed before a replica would be', async () => {
  await root.call('ACL', 'SETUSER', 'some', '>hush', ...aclOf(keysOf('p:')), '-spublish', '-xautoclaim')
  const REDIS_URL = server.url.replace('//', '//some:hush@')
  const findings = await look({ REDIS_URL })
  expect(findings.find((it) => it.check === 'redis.acl')).toMatchObject({
    status: 'fail',
    found: expect.stringMatching(/: spublish, xautoclaim\.$/) as string,
    cure: expect.stringMatching(/\+spublish \+xautoclaim/) as string,
  })
  expect(JSON.stringify(findings)).not.toContain('hush')
  expect(await bad({ REDIS_URL, KEY_PREFIX: 'other:' })).toContain('redis.acl: fail')
})

test('a Redis that cannot be reached: each reason has its cure', async () => {
  const reach = async (REDIS_URL: string) => (await look({ REDIS_URL })).at(-1)
  expect(await reach(`redis://127.0.0.1:${await freePort()}`)).toMatchObject({
    check: 'redis.reach',
    status: 'fail',
    found: expect.stringMatching(/nothing listens there/) as string,
    cure: expect.stringMatching(/^Start it, or set REDIS_URL/) as string,
  })
  expect(await reach(server.url.replace('//', '//nobody:wrong@'))).toMatchObject({
    found: expect.stringMatching(/user or password is wrong/) as string,
    cure: expect.stringMatching(/^Correct them in REDIS_URL/) as string,
  })
}, 30_000)

test('every mistake in the settings is told, and the rest is looked at all the same', async () => {
  const findings = await look({ PORT: 'x', LEASE_TTL_MS: '1', HELIX_POOL: '!' })
  expect(findings.filter((it) => it.check === 'config').map((it) => it.found.split(':')[0])).toEqual([
    'PORT',
    'LEASE_TTL_MS',
    'HELIX_POOL',
  ])
  expect(findings.find((it) => it.check === 'redis.version')).toMatchObject({ status: 'ok' })
})

test('settings that do not go together', () => {
  const of = (env: Record<string, string>) =>
    checkSettings(readConfig({ ...KEYS, ...env }))
      .filter((it) => it.status !== 'ok')
      .map((it) => `${it.check}: ${it.status}`)
  expect(of({})).toEqual([])
  expect(of({ CLIENT_KEYS: '' })).toEqual(['keys: warn'])
  expect(of({ CLIENT_KEYS: '', OPS_HOST: '0.0.0.0' })).toEqual(['keys: fail'])
  expect(of({ HELIX_READY_MS: '200000' })).toEqual(['settings.helix: warn'])
  expect(of({ AGENT_GRACE_MS: '500' })).toEqual(['settings.grace: warn'])
  expect(of({ LEASE_TTL_MS: '5000' })).toEqual(['settings.lease: warn'])
  expect(of({ STALE_AFTER_MS: '20000' })).toEqual(['settings.loss: warn'])
  const limits = (soft: string) =>
    `Limit  Soft Limit  Hard Limit  Units\nMax open files            ${soft}   1048576   files\n`
  expect(checkFiles(readConfig({}), limits('1024'))).toMatchObject([{ status: 'warn' }])
  expect(checkFiles(readConfig(KEYS), limits('1048576'))).toMatchObject([{ status: 'ok' }])
})

test('throughline doctor ends with 1 when something is wrong; a clock that is off is noticed', async () => {
  const off = 'data:text/javascript,globalThis.real=Date.now;Date.now=()=>real()-60000'
  const net = { redisUrl: server.url, prefix: 'p:' }
  const late = await operator(net, ['doctor'], { ...KEYS, NODE_OPTIONS: `--import=${off}` })
  expect(late.stdout).toMatch(/WARN  clock +this machine is \d+ ms behind Redis/)
  expect(late.code).toBe(0)
  const wrong = await operator(net, ['doctor', '--json'], { PORT: 'x' })
  expect(wrong.code).toBe(1)
  expect(JSON.parse(wrong.stdout)).toContainEqual(expect.objectContaining({ check: 'config', status: 'fail' }))
}, 30_000)
