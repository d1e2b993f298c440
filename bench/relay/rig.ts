import { Child } from '../processes.js'
import { startRedis, type Rig } from '../rig.js'

/** Baseline B: agent → Socket.IO replica A → Redis adapter → replica B → Socket.IO client. Nothing is kept or checked. */
export async function startRelay(): Promise<Rig> {
  const redis = await startRedis()
  const [a, b] = await Promise.all([startReplica(redis.url), startReplica(redis.url)])
  const speaker = await Child.start('relay/agent', { url: a.url })
  const listener = await Child.start('relay/viewers', { url: b.url })
  return {
    name: 'Socket.IO relay',
    speaker,
    listener,
    pids: {
      agent: speaker.pid,
      'replica A': a.child.pid,
      Redis: redis.pid,
      'replica B': b.child.pid,
      viewers: listener.pid,
    },
    redisUrl: redis.url,
    async stop() {
      await Promise.all([speaker.stop(), listener.stop(), a.child.stop(), b.child.stop()])
      await redis.stop()
    },
  }
}

async function startReplica(redisUrl: string): Promise<{ child: Child; url: string }> {
  const child = await Child.start('relay/replica', { redisUrl })
  return { child, url: `http://127.0.0.1:${await child.ask<number>('listen')}` }
}
