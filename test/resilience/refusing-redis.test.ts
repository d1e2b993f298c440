import { api, post } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { startRedisServer } from '../support/redis-server.js'

test.each([
  ['is full', 'maxmemory', '1', '0'],
  ['has no replica that follows', 'min-replicas-to-write', '1', '0'],
])('a Redis that refuses writes because it %s is a 503; afterwards all goes on', async (_why, setting, bad, good) => {
  await using redis = await startRedisServer()
  await using net = await startNetwork({ redisUrl: redis.url })
  await post(net.url(0), { pool: 'coder' }, 'before')
  await net.redis.config('SET', setting, bad)
  const refused = await api(net.url(0), '/messages', { pool: 'coder', text: 'go' })
  expect(refused).toMatchObject({ status: 503, body: { error: { code: 'store_unavailable', retry: true } } })
  await net.redis.config('SET', setting, good)
  await eventually(async () => (await api(net.url(0), '/messages', { pool: 'coder', text: 'go' })).status === 202)
  expect(net.logged('bug')).toEqual([])
})
