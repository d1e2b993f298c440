/** Baseline: an agent that publishes to Redis itself, one PUBLISH an event. */
import { Redis } from 'ioredis'
import { eventOf } from '../load.js'
import { given } from '../orders.js'
import { speaker } from '../speaker.js'

const redis = new Redis(given<{ redisUrl: string }>().redisUrl)

speaker({
  async open() {
    await redis.ping()
  },
  say(session, text) {
    void redis.publish(`session:${session}`, JSON.stringify(eventOf(text)))
  },
  async close() {},
})
