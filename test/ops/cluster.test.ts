import { eventually } from '../support/eventually.js'
import { ask, startRedisCluster } from '../support/redis-server.js'
import { act, expectNothingLost } from './act.js'
import { argsOf } from './infra.js'

test('a master of a Cluster is killed and its replica takes its place: nothing is lost', async () => {
  await using redis = await startRedisCluster({
    masters: 3,
    replicasEach: 1,
    args: argsOf('cluster.conf', 'cluster-node-timeout'),
  })
  const outcome = await act({
    name: 'Cluster: kill -9 of a master',
    redisUrl: redis.url,
    env: { DURABILITY: 'safe' },
    async happens({ deployment, load }) {
      await redis.nodes[0]!.kill9()
      deployment.note('a master is killed')
      await eventually(async () => (await roleOf(redis.replicas[0]!)) === 'master', { limitMs: 30_000, everyMs: 100 })
      deployment.note('its replica is a master')
      await redis.nodes[0]!.restart() // as its pod would; with durability safe a master without a replica takes nothing
      deployment.note('the old one is its replica')
      await load.goesOn()
    },
  })
  expectNothingLost(outcome)
})

const roleOf = (server: Parameters<typeof ask>[0]): Promise<string> =>
  ask(server, async (client) => ((await client.role()) as [string])[0])
