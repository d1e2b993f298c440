import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { freePorts } from '../../src/local/free-port.js'
import { Child } from '../processes.js'
import { startRedis, type Rig } from '../rig.js'

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
const READY_LIMIT_MS = 20_000

/** Agent (our SDK) → replica A → Redis → replica B → viewers by SSE, everything as it is deployed. */
export async function startThroughline(): Promise<Rig> {
  const redis = await startRedis()
  const pool = 'bench'
  const [a, b] = await Promise.all(['a', 'b'].map((id) => startReplica(id, redis.url, pool)))
  const speaker = await Child.start('throughline/agent', { url: a!.url, pool })
  const listener = await Child.start('throughline/viewers', { url: b!.url, pool })
  return {
    name: 'Throughline',
    speaker,
    listener,
    pids: {
      agent: speaker.pid,
      'replica A': a!.process.pid!,
      Redis: redis.pid,
      'replica B': b!.process.pid!,
      viewers: listener.pid,
    },
    redisUrl: redis.url,
    async stop() {
      await Promise.all([speaker.stop(), listener.stop(), end(a!.process), end(b!.process)])
      await redis.stop()
    },
  }
}

/** `throughline serve` as a child: it leaves when this process does. */
async function startReplica(id: string, redisUrl: string, pool: string) {
  const [port, opsPort] = await freePorts(2)
  const child = fork(MAIN, ['serve'], {
    execArgv: process.env['BENCH_REPLICA_NODE_ARGS']?.split(' ') ?? [], // such as --cpu-prof
    stdio: ['ignore', 2, 2, 'ipc'],
    env: {
      ...process.env,
      NODE_ENV: 'production',
      LOG_LEVEL: 'error',
      REDIS_URL: redisUrl,
      HOST: '127.0.0.1',
      PORT: String(port),
      OPS_PORT: String(opsPort),
      REPLICA_ID: `bench-${id}`,
      POOLS: pool,
    },
  })
  const giveUpAt = Date.now() + READY_LIMIT_MS
  while (!(await isReady(opsPort!))) {
    if (child.exitCode !== null || Date.now() > giveUpAt) throw new Error(`replica ${id} did not start`)
    await sleep(50)
  }
  return { process: child, url: `http://127.0.0.1:${port}` }
}

async function isReady(opsPort: number): Promise<boolean> {
  const answer = await fetch(`http://127.0.0.1:${opsPort}/readyz`).catch(() => null) // not listening yet
  await answer?.body?.cancel()
  return answer?.ok === true
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGTERM')
  const hard = setTimeout(() => child.kill('SIGKILL'), 5000)
  await gone
  clearTimeout(hard)
}
