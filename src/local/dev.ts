import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'

import { checkRedis } from './check-redis.js'
import { banner } from './dev-banner.js'
import { startEmbeddedRedis } from './embedded-redis.js'
import { userFolders } from './folders.js'
import { claimPort, freePort, isFree } from './free-port.js'
import { startProxy } from './proxy.js'
import { startReplicas, type Replicas } from './replicas.js'
import { SetUpError } from './set-up-error.js'
import { supervise } from './supervise.js'

export interface DevOptions {
  replicas: number
  /** Where clients and agents connect; 0: any free port. */
  port: number
  /** `/livez`, `/readyz`, `/metrics` of the first replica; the others take the next ports, or any. 0: any free port. */
  opsPort: number
  /** A Redis that somebody named; without it one is found or started. */
  redisUrl?: string | undefined
  /** Whether an agent that answers everything joins the pool `demo`. */
  withAgent: boolean
  /** The program that is run as `serve` and `demo-agent`: our own dist/main.js. */
  mainPath: string
  log?: (line: string) => void
  /** How long replicas may take until they are ready (default 30 s) and to leave (default 10 s). */
  readyLimitMs?: number
  stopLimitMs?: number
}

/** Within this time it is the same Ctrl-C: npm sends its script once more what the terminal has sent already. */
const SAME_KEY_MS = 500

/** All replicas leave at once: their agents and readers have nowhere else to go, and are not waited for any longer. */
const DRAIN_MS = '4500'

/** What was started, so that it can be ended: in order, or at once. */
interface Part {
  stop(): Promise<void>
  kill(): void
}

/**
 * The whole of Throughline on this machine: Redis, replicas (each a process), a balancer when there are several, a demo
 * agent. Prints how to use it when it is ready. The first SIGINT or SIGTERM ends all in order, the second at once.
 * @returns the exit code, when nothing is left: 0 asked to end, 78 something on this machine or in the settings must
 * change, 1 it could not go on, 130 ended at once.
 */
export async function dev(options: DevOptions): Promise<number> {
  const log = options.log ?? console.log
  const parts: Part[] = []
  const interrupted = new AbortController()
  let hurried = false
  let askedAt = 0
  const onSignal = (): void => {
    if (!interrupted.signal.aborted) {
      log('Stopping … (Ctrl-C again: at once)')
      askedAt = performance.now()
      interrupted.abort()
    } else if (performance.now() - askedAt > SAME_KEY_MS) {
      hurried = true
      for (const part of parts) part.kill()
    }
  }
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal)
  let code: number
  try {
    code = await run(options, log, parts, interrupted.signal)
  } catch (err) {
    if (interrupted.signal.aborted) {
      code = 0 // what was under way broke off because of it
    } else if (err instanceof SetUpError) {
      log(err.message)
      code = err.exitCode
    } else {
      throw err
    }
  } finally {
    for (const part of [...parts].reverse()) await part.stop() // agent, replicas, balancer, Redis
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal)
  }
  return hurried ? 130 : code
}

async function run(
  options: DevOptions,
  log: (line: string) => void,
  parts: Part[],
  signal: AbortSignal,
): Promise<number> {
  const { replicas: count, withAgent, mainPath, stopLimitMs = 10_000, readyLimitMs = 30_000 } = options
  // Ports before everything: a fetch of Redis for nothing would be a bad joke.
  const port = await claimPort(options.port, 'PORT')
  const opsPorts = await portsFrom(await claimPort(options.opsPort, 'OPS_PORT'), count, [port])
  // Not any free ones: those the system gives to outgoing connections too, maybe while a replica is away.
  const ports = count === 1 ? [port] : await portsFrom(port + 1, count, [port, ...opsPorts])

  const redis = options.redisUrl ? await namedRedis(options.redisUrl) : await ownRedis(log, parts, signal)

  if (count > 1) {
    const proxy = await startProxy({ port, targets: () => ports.map((it) => ({ host: '127.0.0.1', port: it })), log })
    parts.push({ stop: proxy.close, kill: () => {} })
  }

  const url = `http://127.0.0.1:${port}`
  const { LOG_LEVEL = 'warn', DRAIN_MS: drainMs = DRAIN_MS } = process.env
  const env = { ...process.env, LOG_LEVEL, DRAIN_MS: drainMs, REDIS_URL: redis.url, HOST: '127.0.0.1' }
  const replicas = startReplicas({
    count,
    name: (i) => `dev-${i + 1}`,
    command: (i) => ({
      file: process.execPath,
      args: [mainPath, 'serve'],
      env: { ...env, PORT: String(ports[i]), OPS_PORT: String(opsPorts[i]), REPLICA_ID: `dev-${i + 1}` },
    }),
    log,
  })
  parts.push({ stop: () => replicas.stop(stopLimitMs), kill: replicas.kill })

  let over = false
  const ending = Promise.race([
    aborted(signal).then(() => 0),
    redis.lost.then((why) => (log(`Redis is gone: ${why}`), 1)),
    replicas.misconfigured.then(() => 78), // it has said why
  ]).finally(() => (over = true))

  const deadline = performance.now() + readyLimitMs
  const crashing = (): boolean => replicas.all.some((it) => it.restarts >= 3)
  const missing = await notReady(opsPorts, () => over || crashing() || performance.now() > deadline)
  if (over) return await ending
  if (missing.length > 0) {
    log(
      crashing()
        ? 'The replicas do not stay up; what they said stands above.'
        : `Not ready: ${missing.map(readyUrl).join(', ')}`,
    )
    return 1
  }

  if (withAgent) {
    const args = [mainPath, 'demo-agent', '--url', url, '--pool', 'demo']
    const agent = supervise({ name: 'demo-agent', command: { file: process.execPath, args, env }, log })
    parts.push({ stop: () => agent.stop(stopLimitMs), kill: agent.kill })
    await poolIsKnown(url, 'demo', () => over)
  }
  if (over) return await ending
  log(banner({ url, redis: redis.describe, pool: withAgent ? 'demo' : null, replicas: described(replicas, opsPorts) }))
  return await ending
}

interface UsedRedis {
  url: string
  describe: string
  lost: Promise<string>
}

async function ownRedis(log: (line: string) => void, parts: Part[], signal: AbortSignal): Promise<UsedRedis> {
  const redis = await startEmbeddedRedis({ ...userFolders(), log, signal })
  parts.push(redis)
  return redis
}

async function namedRedis(url: string): Promise<UsedRedis> {
  const several = /^rediss?\+(sentinel|cluster):/.test(url) // the replicas look at these themselves
  const what = several ? 'more than one' : `version ${(await checkRedis(url)).version}`
  const lost = new Promise<never>(() => {}) // not ours to watch: replicas say when it is away and go on when it is back
  return { url, describe: `Redis: ${what}, from REDIS_URL.`, lost }
}

/** `first` and those that follow it, where they are free and not `taken` by ourselves, else any. */
async function portsFrom(first: number, count: number, taken: readonly number[]): Promise<number[]> {
  const ports: number[] = []
  while (ports.length < count) {
    const wanted = first + ports.length
    const port = !taken.includes(wanted) && (await isFree(wanted)) ? wanted : await freePort()
    if (![...taken, ...ports].includes(port)) ports.push(port)
  }
  return ports
}

const readyUrl = (opsPort: number): string => `http://127.0.0.1:${opsPort}/readyz`

/** Waits until every replica says that it is ready, or `giveUp`; gives the ops ports of those that are not. */
async function notReady(opsPorts: number[], giveUp: () => boolean): Promise<number[]> {
  const missing = new Set(opsPorts)
  for (;;) {
    for (const opsPort of missing) {
      const answer = await fetch(readyUrl(opsPort), { signal: AbortSignal.timeout(1_000) }).catch(() => null)
      await answer?.body?.cancel()
      if (answer?.ok) missing.delete(opsPort)
    }
    if (missing.size === 0 || giveUp()) return [...missing]
    await sleep(50)
  }
}

/** The first command of the banner must find the agent; when it does not come (5 s) its own output says more. */
async function poolIsKnown(url: string, pool: string, giveUp: () => boolean): Promise<void> {
  const deadline = performance.now() + 5_000
  while (!giveUp() && performance.now() < deadline) {
    const answer = await fetch(`${url}/v1/models`, { signal: AbortSignal.timeout(1_000) }).catch(() => null)
    const text = await answer?.text().catch(() => '')
    if (answer?.status === 401 || text?.includes(`"${pool}"`)) return // with keys it is not for us to see
    await sleep(50)
  }
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort')
}

function described(replicas: Replicas, opsPorts: number[]): { name: string; pid: number; opsUrl: string }[] {
  return replicas.all.map((it, i) => ({ name: it.name, pid: it.pid ?? 0, opsUrl: `http://127.0.0.1:${opsPorts[i]}` }))
}
