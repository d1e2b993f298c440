import { eventually } from '../support/eventually.js'
import { act, expectNothingLost } from './act.js'
import { startSentinelsAsInInfra } from './infra.js'

test('kill -9 of the master, Sentinel makes a replica the master: nothing is lost, with durability safe', async () => {
  await using redis = await startSentinelsAsInInfra()
  const outcome = await act({
    name: 'Sentinel: kill -9 of the master',
    redisUrl: redis.url,
    env: { DURABILITY: 'safe' },
    async happens({ deployment, load }) {
      const master = await redis.master()
      await master.kill9()
      deployment.note('the master is killed')
      await eventually(async () => (await redis.master()) !== master, { limitMs: 30_000, everyMs: 100 })
      deployment.note('another is the master')
      await load.goesOn()
      deployment.note('all are served')
      await master.restart()
    },
  })
  expectNothingLost(outcome)
})
