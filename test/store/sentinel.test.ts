import { once } from 'node:events'
import type { Redis } from 'ioredis'
import { Bus } from '../../src/store/bus.js'
import { connector } from '../../src/store/redis.js'
import { eventually } from '../support/eventually.js'
import { startRedisSentinels } from '../support/redis-server.js'
import { quiet } from './open.js'

test('a connection that is told to leave a dead master while it asks a Sentinel for the new one comes back, subscriptions too', async () => {
  await using redis = await startRedisSentinels({ replicas: 0, sentinels: 1 })
  const open = connector(redis.url, 'test', quiet)
  const [subscriber, publisher] = [open('subscriber') as Redis, open('adapter-pub') as Redis]
  const bus = new Bus(subscriber, publisher, { channel: 'probe', everyMs: 60_000 }, 2000, quiet)
  const heard: string[] = []
  try {
    await bus.listen('{a}:live', { message: ({ text }) => void heard.push(text), look: () => {} })
    await redis.servers[0]!.kill9()
    redis.sentinels[0]!.freeze()
    await once(subscriber, 'connecting') // a Sentinel is being asked
    const waiting = bus.listen('{b}:live', { message: () => {}, look: () => {} })
    subscriber.disconnect(true) // what ioredis does itself at +switch-master, and the bus when it hears nothing
    redis.sentinels[0]!.thaw()
    await expect(waiting).rejects.toMatchObject({ code: 'store_unavailable' })
    await redis.servers[0]!.restart()
    await eventually(() => subscriber.status === 'ready' && publisher.status === 'ready', { limitMs: 15_000 })
    await eventually(async () => {
      await publisher.spublish('{a}:live', 'again')
      return heard.includes('again')
    })
  } finally {
    bus.close()
    subscriber.disconnect()
    publisher.disconnect()
  }
})

test('one that is closed while it asks stays closed', async () => {
  await using redis = await startRedisSentinels({ replicas: 0, sentinels: 1 })
  redis.sentinels[0]!.freeze()
  const connection = connector(redis.url, 'test', quiet)('commands') as Redis
  await once(connection, 'connecting')
  const ended = once(connection, 'end')
  connection.disconnect()
  redis.sentinels[0]!.thaw()
  await ended
  const again = await Promise.race([
    once(connection, 'connecting'),
    new Promise((resolve) => setImmediate(resolve, 'no')),
  ])
  expect(again).toBe('no')
  expect(connection.status).toBe('end')
})
