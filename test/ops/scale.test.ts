import { startRedisServer } from '../support/redis-server.js'
import { act, expectNothingLost } from './act.js'

/** What is left to a replica that does not go by itself when somebody is in a hurry: `kubectl delete --grace-period`. */
const HURRY_MS = 9000

test('from 1 replica to 4, to 2, and one of those hangs and is killed by its grace period: nothing is lost', async () => {
  await using redis = await startRedisServer()
  const outcome = await act({
    name: 'scale 1→4→2',
    redisUrl: redis.url,
    replicas: 1,
    async happens({ deployment, load }) {
      await deployment.scale(4)
      await load.goesOn()
      deployment.pods.at(-1)!.hang()
      await deployment.scale(2, HURRY_MS)
    },
  })
  expectNothingLost(outcome)
  const { verdict, tally, deployment } = outcome
  expect(verdict.snapshots).toBe(0)
  expect([...tally.fatal]).toEqual([])
  expect(new Set(deployment.ends.map(({ code }) => code))).toEqual(new Set([0, null]))
})
