import { post } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Replica } from '../support/network.js'
import { startRedisServer } from '../support/redis-server.js'

const scrape = async (replica: Replica) => (await fetch(`${replica.opsUrl}/metrics`)).text()

test('every replica shows who waits in a pool and which agents are there', async () => {
  await using net = await startNetwork({ replicas: 2 })
  await post(net.url(0), { pool: 'coder' }, 'go')
  for (const replica of net.replicas)
    await eventually(async () => {
      const metrics = await scrape(replica)
      return metrics.includes('throughline_pool_waiting{pool="coder"} 1') && metrics.includes('throughline_ready 1')
    })
  expect(await scrape(net.replicas[1]!)).toContain('throughline_pool_agents{pool="coder"} 0')

  const agent = await net.rawAgent({ pool: 'coder' })
  await agent.turn()
  for (const replica of net.replicas)
    await eventually(async () => {
      const metrics = await scrape(replica)
      return (
        metrics.includes('throughline_pool_waiting{pool="coder"} 0') &&
        metrics.includes('throughline_pool_agents{pool="coder"} 1')
      )
    })
})

test('while Redis is away a scrape answers, says not ready and nothing of what it cannot know', async () => {
  const redis = await startRedisServer()
  await using net = await startNetwork({ redisUrl: redis.url })
  expect(await scrape(net.replicas[0]!)).toMatch(/^throughline_ready 1$/m)
  expect(await scrape(net.replicas[0]!)).toContain('throughline_pool_waiting{pool="coder"} 0')
  await redis.stop()
  await eventually(async () => (await scrape(net.replicas[0]!)).includes('throughline_ready 0'))
  expect(await scrape(net.replicas[0]!)).not.toMatch(/throughline_pool_\w+\{/)
})
