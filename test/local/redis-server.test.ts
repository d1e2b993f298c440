import { Cluster, Redis } from 'ioredis'

import { eventually } from '../support/eventually.js'
import { ask, infoOf, startRedisCluster, startRedisSentinels, startRedisServer } from '../support/redis-server.js'
import { isRunning } from './processes.js'

test('a server of a test is killed, comes back with its data, and leaves nothing', async () => {
  const server = await startRedisServer()
  const first = server.pid
  const client = new Redis(server.url)
  client.on('error', () => {}) // while it is away
  try {
    await client.set('kept', 'yes')
    await server.kill9()
    expect(isRunning(first)).toBe(false)
    await server.restart()
    expect(server.pid).not.toBe(first)
    expect(await client.get('kept')).toBe('yes')
  } finally {
    client.disconnect()
    await server.stop()
  }
  expect(isRunning(server.pid)).toBe(false)
})

test('a cluster of a test serves all slots', async () => {
  await using cluster = await startRedisCluster({ masters: 3 })
  const client = new Cluster(cluster.nodes.map((node) => node.url))
  try {
    await Promise.all(Array.from({ length: 50 }, (_, i) => client.set(`key-${i}`, i)))
    const sizes = await Promise.all(client.nodes('master').map((node) => node.dbsize()))
    expect(sizes.reduce((all, size) => all + size, 0)).toBe(50)
    expect(Math.min(...sizes)).toBeGreaterThan(0)
  } finally {
    client.disconnect()
  }
})

test('in a cluster with replicas one takes the place of a master that was killed', async () => {
  await using cluster = await startRedisCluster({ masters: 3, replicasEach: 1 })
  const client = new Cluster(cluster.nodes.map((node) => node.url))
  client.on('error', () => {})
  try {
    await client.set('kept', 'yes')
    await ask(cluster.nodes[client.nodes('master').length - 1]!, (it) => it.wait(1, 5000))
    await cluster.nodes[0]!.kill9()
    await eventually(async () => (await infoOf(cluster.replicas[0]!, 'role')) === 'master', { limitMs: 20_000 })
    await eventually(() => client.get('kept'), { limitMs: 20_000 })
    expect(await client.get('kept')).toBe('yes')
  } finally {
    client.disconnect()
  }
})

test('Sentinels make a replica the master, when they are asked to and when the master was killed', async () => {
  await using redis = await startRedisSentinels({ replicas: 2 })
  const [first] = redis.servers
  expect((await redis.master()).port).toBe(first!.port)
  await redis.failover()
  const second = await redis.master()
  expect(second.port).not.toBe(first!.port)
  await eventually(async () => (await infoOf(second, 'connected_slaves')) === '2', { limitMs: 30_000 })
  await second.kill9()
  await eventually(async () => (await redis.master()).port !== second.port, { limitMs: 30_000 })
})
