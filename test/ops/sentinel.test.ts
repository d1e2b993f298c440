import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { eventually } from '../support/eventually.js'
import { ask, startRedisSentinels } from '../support/redis-server.js'
import { act, expectNothingLost } from './act.js'

/** As `infra/` has them. */
const conf = (name: string) =>
  readFileSync(fileURLToPath(new URL(`../../infra/redis/${name}`, import.meta.url)), 'utf8')
const downAfterMs = /^sentinel down-after-milliseconds throughline (\d+)$/m.exec(conf('sentinel.conf'))![1]!
const argsOf = (name: string) =>
  conf(name)
    .split('\n')
    .filter((line) => line.startsWith('min-replicas'))
    .flatMap((line) => `--${line}`.split(' '))

test('Sentinel makes a replica the master, by SENTINEL FAILOVER and after kill -9 of the master: nothing is lost', async () => {
  await using redis = await startRedisSentinels({ args: argsOf('replicated.conf') })
  for (const sentinel of redis.sentinels)
    await ask(sentinel, (it) => it.call('SENTINEL', 'SET', redis.name, 'down-after-milliseconds', downAfterMs))
  const outcome = await act({
    name: 'Sentinel: FAILOVER, kill -9 of the master',
    redisUrl: redis.url,
    env: { DURABILITY: 'safe' },
    async happens({ deployment, load }) {
      await redis.failover()
      deployment.note('another is the master, by word')
      await load.goesOn()
      deployment.note('all are served')
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
