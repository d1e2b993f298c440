import { readFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { connector } from '../../src/store/redis.js'
import { RedisRequired, type RedisSettings } from '../../src/store/redis-where.js'
import { requireRedis } from '../../src/store/require-redis.js'
import { makeAuthority, type Authority } from '../support/certificates.js'
import {
  ask,
  startRedisCluster,
  startRedisSentinels,
  startRedisServer,
  type RedisCluster,
  type RedisSentinels,
  type RedisServer,
} from '../support/redis-server.js'
import { quiet } from './open.js'

/** What a replica says that cannot start for its Redis, after `patienceMs` at the latest; undefined when it can. */
async function refusal(settings: RedisSettings, patienceMs = 60_000): Promise<string | undefined> {
  const redis = connector(settings, 'r', quiet)('commands')
  try {
    await requireRedis(redis, settings, quiet, patienceMs)
    return undefined
  } catch (err) {
    expect(err).toBeInstanceOf(RedisRequired)
    return (err as Error).message
  } finally {
    redis.disconnect()
  }
}

const SECRET = 'p@ss/w:o rd%&#?'
let ours: Authority
let theirs: Authority
let certificate: { cert: string; key: string }
let plain: RedisServer
let secret: RedisServer
beforeAll(async () => {
  ours = await makeAuthority()
  theirs = await makeAuthority()
  certificate = await ours.sign('IP:127.0.0.1', 'DNS:localhost')
  plain = await startRedisServer()
  secret = await startRedisServer({ password: SECRET, tls: { ca: ours.ca, ...certificate } })
}, 60_000)
afterAll(async () => {
  await plain?.stop()
  await secret?.stop()
  await ours?.[Symbol.asyncDispose]()
  await theirs?.[Symbol.asyncDispose]()
})
const pem = (file: string) => readFileSync(file, 'utf8')

test('a Redis by TLS, with a password of special characters, by address and by name', async () => {
  expect(await refusal({ url: secret.url, ca: ours.pem })).toBeUndefined()
  expect(await refusal({ url: secret.url.replace('127.0.0.1', 'localhost'), ca: ours.pem })).toBeUndefined()
})

describe('what will not pass is said at once, with what to do', () => {
  const at = (change: (url: string) => string) => change(secret.url)
  const cases: [string, () => RedisSettings, RegExp][] = [
    ['the authority is unknown', () => ({ url: secret.url }), /signed by nobody who is known here\. Set REDIS_CA_FILE/],
    ['another authority', () => ({ url: secret.url, ca: theirs.pem }), /Set REDIS_CA_FILE/],
    ['TLS at a port without', () => ({ url: plain.url.replace('redis', 'rediss') }), /speak(s)? TLS/],
    ['a wrong password', () => ({ url: at((u) => u.replace(/:[^:@]+@/, ':nope@')), ca: ours.pem }), /percent-encoded/],
    ['no password', () => ({ url: at((u) => u.replace(/:[^:@]+@/, '')), ca: ours.pem }), /Put it into REDIS_URL/],
    [
      'an unknown user',
      () => ({ url: at((u) => u.replace('//:', '//who:')), ca: ours.pem }),
      /user or password is wrong/,
    ],
    ['no such database', () => ({ url: `${plain.url}/99` }), /no database of this number/],
    [
      'no Cluster',
      () => ({ url: plain.url.replace('redis', 'redis+cluster') }),
      /no Cluster\. Begin REDIS_URL with redis:/,
    ],
    ['no Sentinel', () => ({ url: `${plain.url.replace('redis', 'redis+sentinel')}/m` }), /is no Sentinel/],
  ]
  test.each(cases)('%s', async (what, settings, says) => {
    const message = await refusal(settings(), what.startsWith('TLS at') ? 100 : undefined) // that may be slowness
    expect(message).toMatch(says)
    for (const part of [SECRET, encodeURIComponent(SECRET), 'nope']) expect(message).not.toContain(part)
  })

  test('a certificate for another name', async () => {
    const other = await ours.sign('DNS:redis.example')
    await using server = await startRedisServer({ tls: { ca: ours.ca, ...other } })
    expect(await refusal({ url: server.url, ca: ours.pem })).toMatch(/its certificate is for other names/)
  })

  test('a server that asks for a certificate of ours', async () => {
    const tls = { ca: ours.ca, ...certificate, clients: 'required' as const }
    await using server = await startRedisServer({ tls })
    expect(await refusal({ url: server.url, ca: ours.pem }, 3000)).toMatch(/REDIS_CERT_FILE/)
    const own = { cert: pem(certificate.cert), key: pem(certificate.key) }
    expect(await refusal({ url: server.url, ca: ours.pem, ...own })).toBeUndefined()
  })
})

test('what may pass is waited for: nothing listens, no such host, TLS without our saying so, a replica', async () => {
  await using away = await startRedisServer()
  await away.kill9()
  expect(await refusal({ url: away.url }, 100)).toMatch(/nothing listens there/)
  expect(await refusal({ url: 'redis://nobody.invalid' }, 100)).toMatch(/no such host/)
  expect(await refusal({ url: secret.url.replace('rediss', 'redis') }, 100)).toMatch(/begin REDIS_URL with rediss/)
  const waiting = refusal({ url: away.url })
  await away.restart()
  expect(await waiting).toBeUndefined()
  await ask(away, (it) => it.call('REPLICAOF', '127.0.0.1', plain.port))
  expect(await refusal({ url: away.url }, 100)).toMatch(`Its master is 127.0.0.1:${plain.port}`)
})

test('a Redis that is too old is refused', async () => {
  const info = 'redis_version:6.2.14\r\n'
  const server = createServer((socket) => {
    socket.on('error', () => {}).setEncoding('utf8')
    socket.on('data', (text: string) => {
      for (const command of text.toUpperCase().split(/^\*/m).slice(1))
        socket.write(
          command.includes('INFO\r')
            ? `$${info.length}\r\n${info}\r\n`
            : command.includes('HELLO')
              ? '%0\r\n'
              : '+OK\r\n',
        )
    })
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const url = `redis://127.0.0.1:${(server.address() as AddressInfo).port}`
  expect(await refusal({ url })).toMatch(/is version 6\.2\.14; 7\.0 or newer is needed/)
  server.close()
})

describe('Sentinels, with TLS and passwords of their own', () => {
  let redis: RedisSentinels
  let settings: RedisSettings
  beforeAll(async () => {
    const tls = { ca: ours.ca, ...certificate }
    redis = await startRedisSentinels({
      replicas: 1,
      sentinels: 1,
      tls,
      password: 'of-redis',
      sentinelPassword: 'of-s',
    })
    settings = { url: redis.url, ca: ours.pem, sentinelPassword: 'of-s' }
  }, 60_000)
  afterAll(() => redis?.stop())

  test('they lead to the master', async () => {
    expect(await refusal(settings)).toBeUndefined()
  })

  const cases: [string, () => Partial<RedisSettings>, RegExp][] = [
    ['the name is wrong', () => ({ url: redis.url.replace(/\w+$/, 'other') }), /Sentinel .*no master by this name/],
    ['their password is missing', () => ({ sentinelPassword: '' }), /Sentinel .*Set REDIS_SENTINEL_PASSWORD/],
    ['their password is wrong', () => ({ sentinelPassword: 'x' }), /Correct REDIS_SENTINEL_USERNAME/],
    [
      "the master's password is wrong",
      () => ({ url: redis.url.replace('of-redis', 'x') }),
      /: Redis .*in REDIS_URL|Redis 127.*in REDIS_URL/,
    ],
    ['their authority is unknown', () => ({ ca: '' }), /Sentinel .*Set REDIS_CA_FILE/],
    [
      'a Sentinel is taken for Redis',
      () => ({ url: `rediss://:of-s@127.0.0.1:${redis.sentinels[0]!.port}` }),
      /is a Sentinel/,
    ],
  ]
  test.each(cases)('%s', async (_, change, says) => {
    expect(await refusal({ ...settings, ...change() })).toMatch(says)
  })
})

describe('a Cluster', () => {
  let cluster: RedisCluster
  let settings: RedisSettings
  beforeAll(async () => {
    const tls = { ca: ours.ca, ...certificate }
    cluster = await startRedisCluster({ replicasEach: 1, tls, password: 'pw' })
    settings = { url: cluster.url, ca: ours.pem }
  }, 60_000)
  afterAll(() => cluster?.stop())

  test('every node is looked at, whichever is named; one that evicts is told by its address', async () => {
    await ask(cluster.nodes[2]!, (it) => it.config('SET', 'maxmemory-policy', 'allkeys-lru'))
    await ask(cluster.replicas[0]!, (it) => it.config('SET', 'maxmemory-policy', 'volatile-ttl'))
    const told: object[] = []
    const log = { info: () => {}, warn: (fields: object) => void told.push(fields) }
    const redis = connector(
      { ...settings, url: `rediss+cluster://:pw@127.0.0.1:${cluster.nodes[0]!.port}` },
      'r',
      quiet,
    )('commands')
    await requireRedis(redis, settings, log)
    redis.disconnect()
    expect(told).toHaveLength(2)
    expect(told).toContainEqual({ node: `127.0.0.1:${cluster.nodes[2]!.port}`, policy: 'allkeys-lru' })
    expect(told).toContainEqual({ node: `127.0.0.1:${cluster.replicas[0]!.port}`, policy: 'volatile-ttl' })
  })

  test.each<[string, () => RedisSettings, RegExp]>([
    ['its authority is unknown', () => ({ url: cluster.url }), /Set REDIS_CA_FILE/],
    ['its password is wrong', () => ({ ...settings, url: cluster.url.replace(':pw@', ':x@') }), /user or password/],
    [
      'it is taken for one server',
      () => ({ ...settings, url: cluster.url.replace('+cluster', '').split(',')[0]! }),
      /\+cluster/,
    ],
  ])('%s', async (_, of, says) => {
    expect(await refusal(of())).toMatch(says)
  })
})
