import { setTimeout as sleep } from 'node:timers/promises'
import { startRedisServer } from '../support/redis-server.js'
import { act, expectNothingLost } from './act.js'

/** How long Redis stays away, ms: as a pod that starts anew. */
const AWAY_MS = 4000

test('Redis restarts, in order and by kill -9 with appendfsync always: nothing is lost', async () => {
  await using redis = await startRedisServer({ args: ['--appendfsync', 'always'] })
  const outcome = await act({
    name: 'restart of Redis, SIGTERM and kill -9',
    redisUrl: redis.url,
    async happens({ deployment, load }) {
      await redis.terminate()
      deployment.note('Redis has gone, as it was asked to')
      await sleep(AWAY_MS)
      await redis.restart()
      deployment.note('Redis is back')
      await load.goesOn()
      deployment.note('all are served again')
      await redis.kill9()
      deployment.note('Redis is killed')
      await sleep(AWAY_MS)
      await redis.restart()
      deployment.note('Redis is back')
    },
  })
  expectNothingLost(outcome)
  expect([...outcome.tally.fatal]).toEqual([])
})
