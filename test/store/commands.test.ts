import { readdirSync, readFileSync } from 'node:fs'
import { Redis } from 'ioredis'
import { openAdmin } from '../../src/admin.js'
import { readConfig } from '../../src/config.js'
import { aclOf, COMMANDS, sampleOf } from '../../src/store/commands.js'
import { keysOf } from '../../src/store/keys.js'
import { post, watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'
import { startRedisServer } from '../support/redis-server.js'
import { revokeKey, storedKey } from '../support/stored-key.js'

test('every command of our scripts is listed', () => {
  const folder = new URL('../../src/store/lua/', import.meta.url)
  const called = readdirSync(folder).flatMap((file) =>
    [...readFileSync(new URL(file, folder), 'utf8').matchAll(/redis\.call\((?:first and )?'([A-Z]+)'/g)].map(
      (it) => it[1]!,
    ),
  )
  expect(called.length).toBeGreaterThan(100)
  expect(
    [...new Set([...called, 'RPUSH'].map((name) => name.toLowerCase()))].filter((name) => !(name in COMMANDS)),
  ).toEqual([])
})

test('a Redis user with just these commands carries a deployment, and Redis has refused it nothing', async () => {
  await using server = await startRedisServer()
  const root = new Redis(server.url)
  const keys = keysOf('acl-test:')
  await root.call('ACL', 'SETUSER', 'gateway', '>hush', ...aclOf(keys))
  const env = { KEY_PREFIX: keys.prefix, SWEEP_EVERY_MS: '200', KEY_STORE: 'on' }
  const redisUrl = server.url.replace('//', '//gateway:hush@')
  await using net = await startNetwork({ replicas: 2, redisUrl, env })
  const stored = { redisUrl, prefix: keys.prefix }
  const ann = await storedKey(stored, { owner: 'ann' })
  const coder = await storedKey(stored, { pools: ['coder'] })
  const agent = await net.rawAgent({ pool: 'coder', agent: 'anna', key: coder.text })
  const { interaction } = await post(net.url(1), { pool: 'coder' }, 'hello', {}, ann.headers)
  const { request } = await agent.turn()
  const seen = watch(net.url(1), interaction, { key: ann.text })
  agent.send(request, 1, text('hi'), completed)
  await seen.done
  await using admin = await openAdmin(readConfig({ REDIS_URL: redisUrl, ...env }), 'test')
  await admin.act('key.created', 'key_1', async () => 'done')
  expect(await admin.trail(1)).toHaveLength(1)
  expect(await admin.parts.store.apiKeys.list(0)).toHaveLength(2)
  await revokeKey(stored, coder.id)
  await eventually(() => !agent.socket.connected)
  await net.replicas[0]!.drain()

  const refused = (await root.call('ACL', 'LOG')) as unknown[]
  expect(refused).toEqual([])
  await root.call('ACL', 'SETUSER', 'gateway', '+scan', '+unlink') // for the test's own tidying up
  root.disconnect()
})

test('a user that lacks any one of them is noticed by trying, and trying does nothing', async () => {
  await using server = await startRedisServer()
  const root = new Redis(server.url)
  const keys = keysOf('p:')
  await root.call('ACL', 'SETUSER', 'gateway', '>hush', ...aclOf(keys))
  const user = new Redis(server.url.replace('//', '//gateway:hush@'))
  const tried = async () => {
    await user.call('MULTI')
    const answers: string[] = []
    for (const [name, args] of Object.entries(COMMANDS).filter(
      ([name]) => !['multi', 'exec', 'discard'].includes(name),
    ))
      answers.push(
        await user.call(...sampleOf(name, args, keys)).then(
          () => '',
          (err: Error) => `${name}: ${err.message}`,
        ),
      )
    await user.call('DISCARD')
    return answers.filter(Boolean)
  }
  expect(await tried()).toEqual([])
  await root.call('ACL', 'SETUSER', 'gateway', '-xautoclaim', '-spublish')
  expect(await tried()).toEqual([
    expect.stringMatching(/^spublish: NOPERM/) as string,
    expect.stringMatching(/^xautoclaim: NOPERM/) as string,
  ])
  expect(await root.dbsize()).toBe(0)
  root.disconnect()
  user.disconnect()
})
