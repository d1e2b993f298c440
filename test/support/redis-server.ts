import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { Redis } from 'ioredis'

import { findRedis } from '../../src/local/embedded-redis.js'
import { userFolders } from '../../src/local/folders.js'
import { freePort, freePorts } from '../../src/local/free-port.js'
import { keep, type Kept } from '../../src/local/keep.js'
import { eventually } from './eventually.js'

export interface RedisServerOptions {
  /** Default: any free one. */
  port?: number
  /** Where the data lies (append-only file, every second); default: a folder that goes with the server. */
  dir?: string
  /** Further arguments of redis-server; they win. */
  args?: readonly string[]
}

/** A real Redis of the test's own, on loopback. It ends with the process that started it, however that ends. */
export interface RedisServer extends AsyncDisposable {
  readonly url: string
  readonly port: number
  /** Another one after `restart`. */
  readonly pid: number
  /** SIGKILL; resolves when the process has gone. The data stays. */
  kill9(): Promise<void>
  /** In order, if it runs; resolves when the process has gone. The data stays until `stop`. */
  restart(): Promise<void>
  /** In order, and with its folder, unless that was given. */
  stop(): Promise<void>
}

/**
 * Starts a Redis by rungs 2 and 3 of the ladder.
 * @throws SetUpError with the commands that install one when this machine has none.
 */
export async function startRedisServer({ port, dir, args = [] }: RedisServerOptions = {}): Promise<RedisServer> {
  const server = await findRedis({ ...userFolders(), allow: ['path', 'private-copy'], log: console.log })
  const dataDir = dir ?? (await mkdtemp(join(tmpdir(), 'throughline-test-redis-')))
  const at = port ?? (await freePort())
  const start = (): Promise<Kept> =>
    keep('redis-keeper', { server, port: at, dataDir, args: [...args], restart: false })
  let kept = await start()
  const stop = async (): Promise<void> => {
    await kept.stop()
    if (dir === undefined) await rm(dataDir, { recursive: true, force: true })
  }
  return {
    url: `redis://127.0.0.1:${at}`,
    port: at,
    get pid() {
      return kept.pid
    },
    kill9: async () => {
      process.kill(kept.pid, 'SIGKILL')
      await kept.lost
    },
    restart: async () => {
      await kept.stop()
      kept = await start()
    },
    stop,
    [Symbol.asyncDispose]: stop,
  }
}

export interface RedisCluster extends AsyncDisposable {
  /** The masters; node i serves the i-th equal part of the slots. */
  readonly nodes: readonly RedisServer[]
  stop(): Promise<void>
}

const SLOTS = 16_384

/** Starts a real Redis Cluster of masters without replicas and waits until every node says that it is whole. */
export async function startRedisCluster({ masters = 3 } = {}): Promise<RedisCluster> {
  // The bus ports by name: the default, port + 10000, may lie beyond the last one.
  const ports = await freePorts(masters * 2)
  const nodes = await Promise.all(
    Array.from({ length: masters }, (_, i) =>
      startRedisServer({
        port: ports[i]!,
        args: ['--cluster-enabled', 'yes', '--cluster-node-timeout', '2000', '--cluster-port', `${ports[masters + i]}`],
      }),
    ),
  )
  const firstSlot = (i: number): number => Math.ceil((i * SLOTS) / masters)
  const stop = async (): Promise<void> => {
    await Promise.all(nodes.map((node) => node.stop()))
  }
  const clients = nodes.map((node) => new Redis(node.url))
  try {
    await Promise.all(
      clients.map((client, i) => client.call('CLUSTER', 'ADDSLOTSRANGE', firstSlot(i), firstSlot(i + 1) - 1)),
    )
    for (let i = 1; i < masters; i++) {
      await clients[0]!.call('CLUSTER', 'MEET', '127.0.0.1', ports[i]!, ports[masters + i]!)
    }
    await eventually(
      async () => {
        for (const client of clients) {
          const info = String(await client.call('CLUSTER', 'INFO'))
          if (!info.includes('cluster_state:ok') || !info.includes(`cluster_known_nodes:${masters}`))
            throw new Error(info)
        }
      },
      { limitMs: 30_000 },
    )
  } catch (err) {
    await stop()
    throw err
  } finally {
    for (const client of clients) client.disconnect()
  }
  return { nodes, stop, [Symbol.asyncDispose]: stop }
}
