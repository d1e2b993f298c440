import { startRedisServer } from '../support/redis-server.js'
import { act, expectNothingLost } from './act.js'

test('a rolling update of three replicas under load: no client notices more than it can retry', async () => {
  await using redis = await startRedisServer()
  const outcome = await act({
    name: 'rolling update of 3',
    redisUrl: redis.url,
    happens: ({ deployment }) => deployment.roll(),
  })
  expectNothingLost(outcome)
  const { verdict, tally, deployment } = outcome
  expect(verdict.snapshots).toBe(0)
  expect([...tally.fatal]).toEqual([])
  expect(deployment.ends).toHaveLength(3)
  for (const { code } of deployment.ends) expect(code).toBe(0)
  expect(deployment.ends.some(({ saidNotReady }) => saidNotReady)).toBe(true) // others may be gone before they are asked
})
