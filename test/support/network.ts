import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Redis } from 'ioredis'
import { pino } from 'pino'
import { readConfig } from '../../src/config.js'
import { startGateway } from '../../src/gateway.js'
import { freePorts } from '../../src/local/free-port.js'
import { connector } from '../../src/store/redis.js'
import { eventually } from './eventually.js'
import { startRawAgent, type RawAgent, type RawAgentOptions } from './raw-agent.js'

/** One gateway replica of a test. */
export interface Replica {
  id: string
  url: string
  opsUrl: string
  /** Every HTTP route of clients; in-process replicas only. */
  routes: string[]
  /** Log lines so far. */
  logs: Record<string, unknown>[]
  /** Whether `/readyz` knows of no trouble, not even of one that it bears. */
  well(): Promise<boolean>
  /** SIGTERM; resolves with the exit code. In-process replicas drain and give 0. */
  drain(): Promise<number | null>
  /** Resolves with the exit code when it has ended, by itself or otherwise; processes only. */
  ended(): Promise<number | null>
  /** SIGKILL; processes only. */
  kill9(): Promise<void>
  /** SIGSTOP and SIGCONT; processes only. */
  freeze(): void
  thaw(): void
  /** Starts again on the same ports after `kill9` or `drain`; processes only. */
  restart(): Promise<void>
}

export interface NetworkOptions {
  replicas?: number
  /** Each replica a process of its own (`dist/main.js serve`), so that it can be killed. */
  processes?: boolean
  redisUrl?: string
  /** Settings as in the environment. */
  env?: Record<string, string>
  /** Another build's main.js; processes only. */
  main?: string
}

/** Some replicas on one Redis, with a key prefix of their own. Whatever is started through it ends with it. */
export interface Network extends AsyncDisposable {
  replicas: Replica[]
  url(replica: number): string
  redis: Redis
  redisUrl: string
  prefix: string
  /** An agent that does exactly what the test says; connects to the given replica, default 0. */
  rawAgent(options: Omit<RawAgentOptions, 'url'> & { replica?: number }): Promise<RawAgent>
  /** Log lines with this `event`, over all replicas. */
  logged(event: string): Record<string, unknown>[]
  /** Something to end before the replicas. */
  onDispose(stop: () => unknown): void
}

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))

export async function startNetwork(options: NetworkOptions = {}): Promise<Network> {
  const { replicas: count = 1, processes = false, env = {}, main = MAIN } = options
  const redisUrl = options.redisUrl ?? process.env['TEST_REDIS_URL']!
  const prefix = `test-${randomBytes(6).toString('hex')}:`
  const settings = {
    REDIS_URL: redisUrl,
    KEY_PREFIX: prefix,
    LOG_LEVEL: 'info',
    POOLS: 'coder',
    HOST: '127.0.0.1',
    DRAIN_MS: '5000',
    ...env,
  }
  const redis = redisOf(settings)
  const stops: (() => unknown)[] = []
  const ports = processes ? await freePorts(count * 2) : []
  const started = Array.from({ length: count }, (_, i) => {
    const id = `r${i}`
    return processes
      ? processReplica(
          id,
          { ...settings, REPLICA_ID: id, PORT: String(ports[2 * i]), OPS_PORT: String(ports[2 * i + 1]) },
          stops,
          main,
        )
      : localReplica(id, { ...settings, REPLICA_ID: id, PORT: '0', OPS_PORT: '0' }, stops)
  })
  const replicas = await Promise.all(started).catch(async (err: unknown) => {
    for (const stop of stops.reverse()) await stop()
    redis.disconnect()
    throw err
  })
  const before: (() => unknown)[] = []
  return {
    replicas,
    url: (i) => replicas[i]!.url,
    redis,
    redisUrl,
    prefix,
    async rawAgent({ replica = 0, ...rest }) {
      const agent = await startRawAgent({ url: replicas[replica]!.url, ...rest })
      before.push(() => agent.close())
      return agent
    },
    logged: (event) => replicas.flatMap((replica) => replica.logs).filter((line) => line['event'] === event),
    onDispose: (stop) => void before.push(stop),
    async [Symbol.asyncDispose]() {
      for (const stop of before.reverse()) await stop()
      for (const stop of stops.reverse()) await stop()
      if (redis.status === 'ready' && !redisUrl.includes('cluster')) await removeKeys(redis, prefix)
      redis.disconnect()
    },
  }
}

/** Redis as the replicas have it; of a Cluster the first node. It waits while Redis is away. */
function redisOf(settings: Record<string, string>): Redis {
  const { redis } = readConfig(settings)
  const url = redis.url.includes('+cluster') ? redis.url.split(',')[0]!.replace('+cluster', '') : redis.url
  return connector({ ...redis, url }, 'test', { info: () => {}, warn: () => {} })('sweep-queue') as Redis
}

async function localReplica(id: string, env: Record<string, string>, stops: (() => unknown)[]): Promise<Replica> {
  const logs: Record<string, unknown>[] = []
  const log = pino(
    { level: 'debug', base: { replica: id } },
    { write: (line: string) => void logs.push(JSON.parse(line) as Record<string, unknown>) },
  )
  const gateway = await startGateway(readConfig(env), log, 'test')
  stops.push(() => gateway.close())
  const unable = () => {
    throw new Error('start the network with processes: true for this')
  }
  return {
    id,
    url: `http://127.0.0.1:${gateway.port}`,
    opsUrl: `http://127.0.0.1:${gateway.opsPort}`,
    routes: gateway.routes,
    logs,
    well: () => isWell(`http://127.0.0.1:${gateway.opsPort}`),
    async drain() {
      await gateway.drain()
      return 0
    },
    ended: unable,
    kill9: unable,
    freeze: unable,
    thaw: unable,
    restart: unable,
  }
}

async function processReplica(
  id: string,
  env: Record<string, string>,
  stops: (() => unknown)[],
  main: string,
): Promise<Replica> {
  const logs: Record<string, unknown>[] = []
  const opsUrl = `http://127.0.0.1:${env['OPS_PORT']}`
  let child: ChildProcess
  let gone: Promise<number | null>
  async function start(): Promise<void> {
    child = spawn(process.execPath, [main, 'serve'], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    })
    gone = once(child, 'exit').then(([code]) => code as number | null)
    let rest = ''
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n')
      rest = lines.pop()!
      for (const line of lines) if (line.startsWith('{')) logs.push(JSON.parse(line) as Record<string, unknown>)
    })
    const running = child
    await eventually(
      async () => {
        if (running.exitCode !== null) throw new Error(`replica ${id} ended: ${JSON.stringify(logs.at(-1))}`)
        return isWell(opsUrl)
      },
      { limitMs: 45_000 }, // many start at once on a busy machine; less than a test has, so that it is heard of
    ).catch((err: unknown) => {
      throw new Error(`replica ${id} did not get well; its last word: ${JSON.stringify(logs.at(-1))}`, { cause: err })
    })
  }
  async function end(signal: NodeJS.Signals): Promise<number | null> {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal)
    return gone
  }
  stops.push(() => end('SIGKILL'))
  await start()
  return {
    id,
    url: `http://127.0.0.1:${env['PORT']}`,
    opsUrl,
    routes: [],
    logs,
    well: () => isWell(opsUrl),
    drain: () => end('SIGTERM'),
    ended: () => gone,
    kill9: async () => void (await end('SIGKILL')),
    freeze: () => void child.kill('SIGSTOP'),
    thaw: () => void child.kill('SIGCONT'),
    restart: start,
  }
}

/** An answer that does not come is no answer: a test that waits for it could not say what it waits for. */
async function isWell(opsUrl: string): Promise<boolean> {
  const answer = await fetch(`${opsUrl}/readyz`, { signal: AbortSignal.timeout(5_000) })
  return (await answer.text()) === 'ok\n'
}

async function removeKeys(redis: Redis, prefix: string): Promise<void> {
  for (const pattern of [`${prefix}*`, `{${prefix}*`]) {
    for (const key of await keysLike(redis, pattern)) await redis.unlink(key)
  }
}

/** Every key that matches, by SCAN. */
export async function keysLike(redis: Redis, pattern: string): Promise<string[]> {
  const keys: string[] = []
  for (let cursor = '0'; ;) {
    const [next, found] = await redis.scan(cursor, 'MATCH', pattern, 'COUNT', 1000)
    keys.push(...found)
    cursor = next
    if (cursor === '0') return keys
  }
}
