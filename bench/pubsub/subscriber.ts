/** Baseline: viewers that subscribe to Redis themselves. The n-th viewers of all sessions share a connection. */
import { Redis } from 'ioredis'
import { listener } from '../listener.js'
import { given } from '../orders.js'

const { redisUrl } = given<{ redisUrl: string }>()
const open: Redis[] = []

listener({
  async open({ load }, heard) {
    const channels = Array.from({ length: load.sessions }, (_, session) => `session:${session}`)
    for (let viewer = 0; viewer < load.viewersPerSession; viewer++) {
      const redis = new Redis(redisUrl)
      open.push(redis)
      await redis.subscribe(...channels)
      redis.on('message', (_channel: string, message: string) => heard((JSON.parse(message) as { text: string }).text))
    }
  },
  async close() {
    for (const redis of open.splice(0)) redis.disconnect()
  },
})
