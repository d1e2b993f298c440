import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { Redis } from 'ioredis'

import { startEmbeddedRedis, type EmbeddedRedis, type EmbeddedRedisOptions } from '../../src/local/embedded-redis.js'
import { onPath } from '../../src/local/redis-binary.js'
import { eventually } from '../support/eventually.js'
import { isRunning, startProgram } from './processes.js'

let folder: string
let lines: string[]
const running: EmbeddedRedis[] = []
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'throughline-embedded-'))
  lines = []
})
afterEach(async () => {
  for (const redis of running.splice(0)) await redis.stop()
  await rm(folder, { recursive: true, force: true })
})

describe('a server on PATH', () => {
  test('starts on loopback, keeps its data over a restart and leaves nothing behind', async () => {
    const first = await start()
    expect(first.rung).toBe('path')
    expect(first.describe).toContain(`data in ${join(folder, 'redis')}`)
    expect(first.describe).toContain(`REDIS_URL=${first.url}`)
    await withClient(first.url, async (client) => {
      await client.set('kept', 'yes')
      expect(await client.config('GET', 'maxmemory-policy')).toContain('noeviction')
    })
    expect(await isOnLoopbackOnly(first.url)).toBe(true)
    await first.stop()
    expect(isRunning(first.pid)).toBe(false)

    const second = await start()
    expect(await valueOf(second.url, 'kept')).toBe('yes')
  })

  test('comes back with its data, at the same place, when it is killed', async () => {
    const redis = await start()
    await withClient(redis.url, (client) => client.set('kept', 'yes'))
    const before = redis.pid
    process.kill(before, 'SIGKILL')
    await eventually(() => redis.pid !== before)
    expect(await valueOf(redis.url, 'kept')).toBe('yes')
  })

  test('a second start at the same time keeps away from the data of the first, and says so', async () => {
    const first = await start()
    const second = await start()
    expect(second.dataDir).toBeNull()
    expect(lines.join('\n')).toContain('is in use by another start')
    await withClient(second.url, (client) => client.set('mine', 'yes'))
    expect(await valueOf(first.url, 'mine')).toBeNull()
  })

  test('ends when its parent is killed with -9, and the next start has the data', async () => {
    await using parent = startProgram('redis-parent', [folder])
    const { url, pid } = await parent.says<{ url: string; pid: number }>()
    await withClient(url, (client) => client.set('kept', 'yes'))
    process.kill(parent.pid, 'SIGKILL')
    await eventually(() => !isRunning(pid))
    expect(await valueOf((await start()).url, 'kept')).toBe('yes')
  })

  test('an orphan, whose parent and keeper were killed, is ended by the next start', async () => {
    await using parent = startProgram('redis-parent', [folder])
    const { url, pid } = await parent.says<{ url: string; pid: number }>()
    await withClient(url, (client) => client.set('kept', 'yes'))
    const keeper = await parentOf(pid)
    if (keeper === null) return console.warn('skipped: no /proc on this system')
    process.kill(parent.pid, 'SIGSTOP') // or it would end the server in place of the keeper
    process.kill(keeper, 'SIGKILL')
    process.kill(parent.pid, 'SIGKILL')
    await parent.exited
    expect(isRunning(pid)).toBe(true)

    const next = await start()
    expect(isRunning(pid)).toBe(false)
    expect(next.dataDir).not.toBeNull()
    expect(await valueOf(next.url, 'kept')).toBe('yes')
  })

  test('data that it cannot read is set aside, not lost and not in the way', async () => {
    const first = await start()
    await withClient(first.url, (client) => client.set('kept', 'yes'))
    await first.stop()
    const aof = join(folder, 'redis', 'appendonlydir')
    for (const name of await readdir(aof)) await writeFile(join(aof, name), 'not what Redis wrote')

    const second = await start()
    expect(lines.join('\n')).toContain('could not read its data, which now lies in')
    expect(await valueOf(second.url, 'kept')).toBeNull()
    expect((await readdir(join(folder, 'redis'))).some((name) => name.startsWith('unreadable-'))).toBe(true)
  })

  test('tells when its keeper has been killed, and nothing is left', async () => {
    const redis = await start()
    const keeper = await parentOf(redis.pid)
    if (keeper === null) return console.warn('skipped: no /proc on this system')
    process.kill(keeper, 'SIGKILL')
    await redis.lost
    await eventually(() => !isRunning(redis.pid))
  })

  test('a start that is broken off leaves nothing running', async () => {
    const signal = AbortSignal.timeout(1)
    await expect(start({ signal })).rejects.toThrow()
  })
})

describe('a private copy', () => {
  test('is fetched once, without touching the system, and runs', async () => {
    if (!(await onPath('apt-get'))) return console.warn('skipped: no apt-get on this system')
    // As on a machine that has neither Redis nor its libraries.
    const status = join(folder, 'status')
    const known = (await readFile('/var/lib/dpkg/status', 'utf8')).split('\n\n')
    await writeFile(status, known.filter((it) => !/^Package: (redis|libjemalloc|liblzf|lua)/.test(it)).join('\n\n'))
    await writeFile(join(folder, 'apt.conf'), `Dir::State::status "${status}";`)
    process.env.APT_CONFIG = join(folder, 'apt.conf')
    try {
      const redis = await start({ allow: ['private-copy'] })
      expect(redis.rung).toBe('private-copy')
      expect(redis.describe).toContain(join(folder, 'redis'))
      await withClient(redis.url, (client) => client.set('kept', 'yes'))
      await redis.stop()
    } finally {
      delete process.env.APT_CONFIG
    }

    lines = []
    const again = await start({ allow: ['private-copy'] })
    expect(lines.join('\n')).not.toContain('fetching')
    expect(await valueOf(again.url, 'kept')).toBe('yes')
    expect((await readdir(folder)).filter((name) => name.startsWith('redis-building'))).toEqual([])
  }, 120_000)
})

describe('the stand-in in JavaScript', () => {
  test('runs scripts, on loopback only, and says that it keeps nothing', async () => {
    const redis = await start({ allow: ['javascript'] })
    expect(redis.describe).toMatch(/for trying out only.*nothing is kept/)
    await withClient(redis.url, async (client) => {
      const script =
        "redis.call('XADD', KEYS[1], '1-0', 'text', ARGV[1]); return redis.call('XRANGE', KEYS[1], '-', '+')"
      expect(await client.eval(script, 1, 'log', 'hello')).toEqual([['1-0', ['text', 'hello']]])
    })
    expect(await isOnLoopbackOnly(redis.url)).toBe(true)
    await redis.stop()
    expect(isRunning(redis.pid)).toBe(false)
  })
})

test('when nothing works, each way and its failure is told, and what to install', async () => {
  const path = process.env.PATH
  process.env.PATH = folder
  try {
    const message = await start({ allow: ['path', 'private-copy'] }).then(
      () => 'it works',
      (err: Error) => err.message,
    )
    expect(message).toContain('path: neither redis-server nor valkey-server is on PATH')
    expect(message).toContain('private-copy: there is no apt-get here')
    expect(message).toContain('apt-get install redis-server')
    expect(message).toContain('REDIS_URL=')
  } finally {
    process.env.PATH = path
  }
})

async function start(options: Partial<EmbeddedRedisOptions> = {}): Promise<EmbeddedRedis> {
  const cacheDir = join(folder, 'cache')
  const log = (line: string) => lines.push(line)
  const redis = await startEmbeddedRedis({ dataDir: folder, cacheDir, log, allow: ['path'], ...options })
  running.push(redis)
  return redis
}

async function withClient(url: string, work: (client: Redis) => Promise<unknown>): Promise<void> {
  const client = new Redis(url)
  try {
    await work(client)
  } finally {
    client.disconnect()
  }
}

async function valueOf(url: string, key: string): Promise<string | null> {
  let value: string | null = null
  await withClient(url, async (client) => (value = await client.get(key)))
  return value
}

/** Who listens on all interfaces also accepts at another address of this machine. */
async function isOnLoopbackOnly(url: string): Promise<boolean> {
  const socket = connect({ host: '127.0.0.2', port: Number(new URL(url).port), timeout: 2_000 })
  try {
    await Promise.race([
      once(socket, 'connect'),
      once(socket, 'timeout').then(() => Promise.reject(new Error('silence'))),
    ])
    return false
  } catch {
    return true
  } finally {
    socket.destroy()
  }
}

async function parentOf(pid: number): Promise<number | null> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null)
  return stat === null ? null : Number(/\) \w (\d+)/.exec(stat)![1])
}
