import { ask } from '../support/redis-server.js'
import { act, expectNothingLost } from './act.js'
import { startSentinelsAsInInfra } from './infra.js'

/** As docs/operations.md says it: replication does not wait, so writes do, until the replicas have everything. */
const PAUSE_MS = 10_000

test('SENTINEL FAILOVER while writes are held back: nothing is lost, with durability fast', async () => {
  await using redis = await startSentinelsAsInInfra()
  const outcome = await act({
    name: 'Sentinel: FAILOVER',
    redisUrl: redis.url,
    async happens({ deployment, load }) {
      const master = await redis.master()
      await ask(master, (it) => it.client('PAUSE', PAUSE_MS, 'WRITE'))
      deployment.note('writes wait')
      await redis.failover()
      deployment.note('another is the master')
      await load.goesOn()
      deployment.note('all are served')
    },
  })
  expectNothingLost(outcome)
})
