import { mkdtemp, rm } from 'node:fs/promises'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import type { DevOptions } from '../../src/local/dev.js'
import { freePort, isFree } from '../../src/local/free-port.js'
import { eventually } from '../support/eventually.js'
import { isRunning, startProgram, type Program } from './processes.js'

let home: string
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'throughline-dev-'))
})
afterEach(async () => {
  await rm(home, { recursive: true, force: true })
})

test('starts all, tells how to use it, and a signal leaves nothing', async () => {
  await using it = start({ replicas: 2, withAgent: true })
  const { url, pids, redisUrl } = await up(it)
  const names = new Set<string>()
  for (let i = 0; i < 4; i++) names.add((await ask(url)).replica)
  expect([...names].sort()).toEqual(['dev-1', 'dev-2'])
  expect((await ask(url)).redis).toBe(redisUrl)
  await eventually(() => it.output.includes(`[demo-agent] demo-agent --url ${url} --pool demo`))

  it.child.kill('SIGINT')
  it.child.kill('SIGINT') // npm passes on what the terminal has sent already
  expect(await it.exited).toBe(0)
  expect(pids.map(isRunning)).toEqual([false, false])
  await expect(fetch(url)).rejects.toThrow()
})

test('a killed replica is back on its port, and meanwhile the other one answers', async () => {
  await using it = start({ replicas: 2 })
  const { url, pids } = await up(it)
  process.kill(pids[0]!, 'SIGKILL')
  await eventually(() => !isRunning(pids[0]!)) // until then the kernel accepts in its name
  for (let i = 0; i < 3; i++) expect((await ask(url)).replica).toBeTruthy()
  await eventually(async () => (await ask(url)).replica === 'dev-1')
})

test('one replica listens itself', async () => {
  await using it = start({ replicas: 1 })
  const { url, pids } = await up(it)
  expect((await ask(url)).replica).toBe('dev-1')
  expect(pids).toHaveLength(1)
})

test('replicas have time to leave in order before they are killed, and no more: all leave at once', async () => {
  await using it = start({})
  const { url } = await up(it)
  expect(Number((await ask(url)).drainMs)).toBeLessThan(10_000) // the default stopLimitMs
  await using other = start({}, { DRAIN_MS: '77' })
  expect((await ask((await up(other)).url)).drainMs).toBe('77')
})

test('a Redis that was named is used, and one that does not answer ends the start', async () => {
  const redisUrl = process.env.TEST_REDIS_URL!
  await using it = start({ redisUrl })
  expect((await ask((await up(it)).url)).redis).toBe(redisUrl)

  await using other = start({ redisUrl: 'redis://127.0.0.1:1' })
  expect(await other.exited).toBe(78)
  expect(other.output.join('\n')).toContain('cannot be used')
})

test.each(['PORT', 'OPS_PORT'])('a port in use is named by its variable: %s', async (variable) => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await using it = start(variable === 'PORT' ? { port } : { opsPort: port })
  expect(await it.exited).toBe(78)
  expect(it.output).toEqual([
    `Port ${port} is in use by another program. Stop that program, or choose another port: ${variable}=<port>.`,
  ])
  server.close()
})

test('replicas get ports next to PORT, and none that is taken by another part', async () => {
  const port = await freePort()
  await using it = start({ replicas: 2, port, opsPort: port + 1 })
  await up(it)
  const opsPorts = [...it.output.join('\n').matchAll(/:(\d+)\/readyz/g)].map((found) => Number(found[1]))
  expect(opsPorts[0]).toBe(port + 1)
  expect((await ask(`http://127.0.0.1:${port}`)).replica).toBe('dev-1')
})

test('replicas that do not stay up end the start', async () => {
  await using it = start({}, { FAKE_EXIT: '3' })
  expect(await it.exited).toBe(1)
  expect(it.output.at(-1)).toContain('do not stay up')
})

test('replicas that refuse their settings end the start', async () => {
  await using it = start({}, { FAKE_EXIT: '78' })
  expect(await it.exited).toBe(78)
})

test('when it is killed with -9 nothing stays behind', async () => {
  await using it = start({ replicas: 2, withAgent: true })
  const { pids, redisUrl } = await up(it)
  process.kill(it.pid, 'SIGKILL')
  await eventually(() => !pids.some(isRunning))
  await eventually(() => isFree(Number(new URL(redisUrl).port)))
})

function start(options: Partial<DevOptions>, env: NodeJS.ProcessEnv = {}): Program {
  const all = { replicas: 1, port: 0, opsPort: 0, withAgent: false, ...options }
  return startProgram('dev-parent', [JSON.stringify(all)], { XDG_DATA_HOME: home, XDG_CACHE_HOME: home, ...env })
}

/** Waits for the banner and reads what it tells. */
async function up(it: Program): Promise<{ url: string; pids: number[]; redisUrl: string }> {
  const text = await eventually(
    () => {
      const all = it.output.join('\n')
      return all.includes('Ctrl-C stops everything') && all
    },
    { limitMs: 20_000 },
  )
  return {
    url: /Throughline is up: (\S+)/.exec(text)![1]!,
    pids: [...text.matchAll(/dev-\d: pid (\d+)/g)].map((found) => Number(found[1])),
    redisUrl: /REDIS_URL=(\S+);/.exec(text)?.[1] ?? '',
  }
}

async function ask(url: string): Promise<{ replica: string; redis: string; drainMs: string }> {
  const answer = await fetch(url, { headers: { connection: 'close' } })
  return (await answer.json()) as { replica: string; redis: string; drainMs: string }
}
