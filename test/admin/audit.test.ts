import { openAdmin } from '../../src/admin.js'
import { readConfig } from '../../src/config.js'
import { freePort } from '../../src/local/free-port.js'
import { keysOf } from '../../src/store/keys.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'
import { operator } from '../support/operator.js'

const adminOf = (net: Network) =>
  openAdmin(readConfig({ REDIS_URL: net.redisUrl, KEY_PREFIX: net.prefix }), 'test', 'ann@desk')

test('an act is one entry of the trail, and one line in the log of one replica of three', async () => {
  await using net = await startNetwork({ replicas: 3 })
  await using admin = await adminOf(net)
  const before = Date.now()
  const entry = await admin.act('key.revoked', 'key_1', async () => 'done', 'lost laptop')
  await Promise.all(Array.from({ length: 20 }, (_, i) => admin.act('key.created', `key_${i}`, async () => 'done')))
  await eventually(() => net.logged('audit').length >= 21)
  expect(net.logged('audit').filter((line) => line['target'] === 'key_1' && line['act'] === 'key.revoked')).toEqual([
    expect.objectContaining({ by: 'ann@desk', outcome: 'done', detail: 'lost laptop', msg: 'audit' }),
  ])
  expect(entry.at).toBeGreaterThan(before - 5000)
  const trail = await admin.trail(100)
  expect(trail).toHaveLength(21)
  expect(trail.at(-1)).toEqual(entry)
  expect(await admin.trail(5, trail[4]!.id)).toEqual(trail.slice(5, 10))

  // and with every later look of any replica there is nothing more to tell
  const told = new Set(net.logged('audit').map((line) => line['id']))
  expect(told.size).toBe(21)
  await eventually(async () => expect(await pending(net)).toBe(0))
  expect(net.logged('audit')).toHaveLength(21)
})

test('an act that came to nothing stands in the trail too, with why', async () => {
  await using net = await startNetwork()
  await using admin = await adminOf(net)
  await admin.act('session.deleted', 'ses_x', async () => 'not_found')
  expect(await admin.trail(1)).toMatchObject([{ act: 'session.deleted', target: 'ses_x', outcome: 'not_found' }])
})

test('what was done while no replica lived is told by the first that comes; what one died over, by another', async () => {
  await using away = await startNetwork({ replicas: 0 })
  await using admin = await adminOf(away)
  await admin.act('session.deleted', 'ses_alone', async () => 'done')
  await admin.act('session.deleted', 'ses_dropped', async () => 'done')
  const key = keysOf(away.prefix).audit
  // a replica that read one of them and was killed before it told it
  await away.redis.xreadgroup('GROUP', 'log', 'log', 'COUNT', 1, 'STREAMS', key, '>')
  await away.redis.call('XCLAIM', key, 'log', 'log', '0', (await admin.trail(2))[1]!.id, 'IDLE', '61000', 'JUSTID')
  await using net = await startNetwork({ env: { KEY_PREFIX: away.prefix } })
  await eventually(() => net.logged('audit').length >= 2)
  expect(net.logged('audit').map((line) => line['target'])).toEqual(['ses_alone', 'ses_dropped'])
})

test('throughline audit lists it', async () => {
  await using net = await startNetwork({ replicas: 0 })
  await using admin = await adminOf(net)
  for (const key of ['a', 'b', 'c']) await admin.act('key.created', `key_${key}`, async () => 'done')
  const table = await operator(net, ['audit'])
  expect(table.code).toBe(0)
  expect(table.stdout.split('\n')[0]).toMatch(/^\d{4}-.*Z  ann@desk  key\.created  key_c  done$/)
  const first = await operator(net, ['audit', '--json', '--limit', '2'])
  const lines = first.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { id: string; target: string })
  expect(lines.map(({ target }) => target)).toEqual(['key_c', 'key_b'])
  const rest = await operator(net, ['audit', '--json', '--before', lines[1]!.id])
  expect(rest.stdout).toContain('key_a')
  expect(rest.stdout).not.toContain('key_b')
})

test('without Redis it says what is wrong, in one sentence and without the password', async () => {
  const gone = { redisUrl: `redis://ann:hush@127.0.0.1:${await freePort()}`, prefix: 'x:' }
  const { code, stdout, stderr } = await operator(gone, ['audit'])
  expect(code).toBe(1)
  expect(stdout).toBe('')
  expect(stderr).toMatch(
    /^Redis at redis:\/\/\*\*\*@127\.0\.0\.1:\d+ cannot be used\. .*ECONNREFUSED.* Nothing was done\.\n$/,
  )
}, 20_000)

async function pending(net: Network): Promise<number> {
  const [count] = (await net.redis.xpending(keysOf(net.prefix).audit, 'log')) as [number]
  return count
}
