/**
 * The last rung: a Redis written in JavaScript, in a process of its own that ends with its parent. Started by `keep`.
 * As shipped it listens on every interface and waits 40 ms with each answer; so its own door is shut and ours, on
 * loopback and without delay, hands it the connections.
 */
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'

import { createRedisServer } from 'js-redis-server'

import type { KeeperNews } from './keeper-wire.js'

process.once('disconnect', () => process.exit(0))

const redis = await createRedisServer({ port: 0 })
redis.server.server.close()

const door = createServer({ noDelay: true, keepAlive: true }, (socket) => {
  redis.server.server.emit('connection', socket)
})
door.listen({ port: 0, host: '127.0.0.1' })
await once(door, 'listening')

const { port } = door.address() as AddressInfo
process.send?.({ ready: { port, pid: process.pid, dataDir: null, notes: [] } } satisfies KeeperNews)
