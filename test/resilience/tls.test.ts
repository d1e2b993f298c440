import { outputText } from '../../src/protocol/fold.js'
import { post, watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { makeAuthority, type Authority } from '../support/certificates.js'
import { startNetwork } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'
import {
  ask,
  startRedisCluster,
  startRedisSentinels,
  startRedisServer,
  type RedisServer,
} from '../support/redis-server.js'
import type { Role } from '../../src/store/redis.js'

/** What a replica opens; some BullMQ's workers open once more. */
const ROLES: Role[] = [
  'commands',
  'subscriber',
  'adapter-pub',
  'adapter-sub',
  'sweep-queue',
  'sweep-worker',
  'webhook-queue',
  'webhook-worker',
]
const WEBHOOK_SECRET = `whsec_${Buffer.alloc(24, 7).toString('base64')}`
const PASSWORD = 'p@ss/w:o rd%'

let authority: Authority
let tls: { ca: string; cert: string; key: string; clients: 'required' }
beforeAll(async () => {
  authority = await makeAuthority()
  tls = { ca: authority.ca, ...(await authority.sign('IP:127.0.0.1')), clients: 'required' }
})
afterAll(() => authority?.[Symbol.asyncDispose]())

/** A turn from one replica over the other; then looks that every role's connections are at one of `servers`. */
async function worksOn(url: string, servers: readonly RedisServer[], more: Record<string, string> = {}): Promise<void> {
  await using net = await startNetwork({
    replicas: 2,
    redisUrl: url,
    env: {
      REDIS_CA_FILE: tls.ca,
      REDIS_CERT_FILE: tls.cert,
      REDIS_KEY_FILE: tls.key,
      WEBHOOK_SECRET,
      SWEEP_EVERY_MS: '300',
      ...more,
    },
  })
  const agent = await net.rawAgent({ pool: 'coder', replica: 0 })
  const { interaction } = await post(net.url(1), { pool: 'coder' }, 'go')
  const { request } = await agent.turn()
  agent.send(request, 1, text('by TLS'), completed)
  const seen = watch(net.url(1), interaction)
  await seen.done
  expect(outputText(seen.turn)).toBe('by TLS')
  await eventually(async () => {
    const lists = await Promise.all(servers.map((it) => ask(it, (client) => client.client('LIST') as Promise<string>)))
    for (const role of ROLES)
      if (!lists.join().includes(`:${role}`)) throw new Error(`nobody is ${role}: ${lists.join()}`)
  })
  await eventually(async () =>
    (await (await fetch(`${net.replicas[0]!.opsUrl}/metrics`)).text()).includes('by="clock"'),
  )
  expect(net.logged('bug')).toEqual([])
}

test('one server by TLS, with a certificate of ours and a password', async () => {
  await using redis = await startRedisServer({ tls, password: PASSWORD })
  await worksOn(redis.url, [redis])
})

test('Sentinels and their master by TLS, each with a password of its own', async () => {
  await using redis = await startRedisSentinels({
    replicas: 1,
    sentinels: 1,
    tls,
    password: 'of-redis',
    sentinelPassword: 'of-the-sentinels',
  })
  await worksOn(redis.url, [redis.servers[0]!], { REDIS_SENTINEL_PASSWORD: 'of-the-sentinels' })
})

test('a Cluster by TLS, with a password', async () => {
  await using cluster = await startRedisCluster({ tls, password: PASSWORD })
  await worksOn(cluster.url, cluster.nodes)
})
