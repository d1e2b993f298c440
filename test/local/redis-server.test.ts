import { Cluster, Redis } from 'ioredis'

import { startRedisCluster, startRedisServer } from '../support/redis-server.js'
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
