import { Child } from '../processes.js'
import { startRedis, type Rig } from '../rig.js'

/** Baseline A: process → PUBLISH → Redis → SUBSCRIBE → process. The least that any way over Redis costs. */
export async function startPubSub(): Promise<Rig> {
  const redis = await startRedis()
  const speaker = await Child.start('pubsub/publisher', { redisUrl: redis.url })
  const listener = await Child.start('pubsub/subscriber', { redisUrl: redis.url })
  return {
    name: 'Redis pub/sub',
    speaker,
    listener,
    pids: { agent: speaker.pid, Redis: redis.pid, viewers: listener.pid },
    redisUrl: redis.url,
    async stop() {
      await Promise.all([speaker.stop(), listener.stop()])
      await redis.stop()
    },
  }
}
