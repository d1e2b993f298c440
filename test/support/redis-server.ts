import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { Redis, type RedisOptions } from 'ioredis'

import { findRedis } from '../../src/local/embedded-redis.js'
import { userFolders } from '../../src/local/folders.js'
import { freePort, freePorts } from '../../src/local/free-port.js'
import { keep, type Kept } from '../../src/local/keep.js'
import { eventually } from './eventually.js'

/** PEM files of a server that speaks TLS only, on 127.0.0.1. */
export interface ServerTls {
  ca: string
  cert: string
  key: string
  /** Clients must show a certificate of the CA. Default: they need none. */
  clients?: 'required'
}

export interface RedisServerOptions {
  /** Default: any free one. */
  port?: number
  /** Where the data lies (append-only file, every second); default: a folder that goes with the server. */
  dir?: string
  /** Of the user `default`, for clients and between servers; default: none. */
  password?: string
  tls?: ServerTls
  /** Further arguments of redis-server; they win. */
  args?: readonly string[]
}

/** A real Redis of the test's own, on loopback. It ends with the process that started it, however that ends. */
export interface RedisServer extends AsyncDisposable {
  readonly url: string
  readonly port: number
  /** Another one after `restart`. */
  readonly pid: number
  /** A new connection as `default`; its opener ends it. */
  client(): Redis
  /** SIGTERM, or SIGKILL; resolves when the process has gone. The data stays. */
  terminate(): Promise<void>
  kill9(): Promise<void>
  /** SIGSTOP and SIGCONT. */
  freeze(): void
  thaw(): void
  /** In order, if it runs; resolves when the process has gone. The data stays until `stop`. */
  restart(): Promise<void>
  /** In order, and with its folder, unless that was given. */
  stop(): Promise<void>
}

/** A replica syncs at once, and nobody who is to end waits for a replica that is ending too. */
const IMPATIENT = ['--repl-diskless-sync-delay', '0', '--shutdown-timeout', '0']

/** What all servers of one test's Redis have in common. */
type Common = Pick<RedisServerOptions, 'password' | 'tls' | 'args'>

/**
 * Starts a Redis by rungs 2 and 3 of the ladder.
 * @throws SetUpError with the commands that install one when this machine has none.
 */
export async function startRedisServer(options: RedisServerOptions = {}): Promise<RedisServer> {
  const { password, args = [] } = options
  const auth = password === undefined ? [] : ['--requirepass', password, '--masterauth', password]
  return serverOf({ ...options, args: [...IMPATIENT, ...auth, ...args] })
}

async function serverOf(options: RedisServerOptions & { configFile?: string }): Promise<RedisServer> {
  const { port, dir, password, tls, args = [], configFile } = options
  const server = await findRedis({ ...userFolders(), allow: ['path', 'private-copy'], log: console.log })
  const dataDir = dir ?? (await mkdtemp(join(tmpdir(), 'throughline-test-redis-')))
  const at = port ?? (await freePort())
  // a file of its own, empty at first, so that CONFIG REWRITE works and a restart keeps whose replica it is
  const conf = configFile ?? join(dataDir, 'redis.conf')
  await appendFile(conf, '')
  const start = (): Promise<Kept> =>
    keep('redis-keeper', {
      server,
      port: at,
      dataDir,
      args: [...tlsArgs(at, tls), ...args],
      restart: false,
      configFile: conf,
    })
  const connect: RedisOptions = {
    port: at,
    host: '127.0.0.1',
    ...(password !== undefined && { password }),
    ...(tls && { tls: await clientTls(tls) }),
    maxRetriesPerRequest: null,
  }
  let kept = await start()
  const stop = async (): Promise<void> => {
    await kept.stop()
    if (dir === undefined) await rm(dataDir, { recursive: true, force: true })
  }
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    process.kill(kept.pid, signal)
    await kept.lost
  }
  const credentials = password === undefined ? '' : `:${encodeURIComponent(password)}@`
  return {
    url: `redis${tls ? 's' : ''}://${credentials}127.0.0.1:${at}`,
    port: at,
    get pid() {
      return kept.pid
    },
    client() {
      const client = new Redis(connect)
      client.on('error', () => {}) // tests take it away
      return client
    },
    terminate: () => end('SIGTERM'),
    kill9: () => end('SIGKILL'),
    freeze: () => void process.kill(kept.pid, 'SIGSTOP'),
    thaw: () => void process.kill(kept.pid, 'SIGCONT'),
    restart: async () => {
      await kept.stop()
      kept = await start()
    },
    stop,
    [Symbol.asyncDispose]: stop,
  }
}

function tlsArgs(port: number, tls: ServerTls | undefined): string[] {
  if (!tls) return []
  return [
    ...['--port', '0', '--tls-port', String(port), '--tls-replication', 'yes', '--tls-cluster', 'yes'],
    ...['--tls-ca-cert-file', tls.ca, '--tls-cert-file', tls.cert, '--tls-key-file', tls.key],
    ...['--tls-auth-clients', tls.clients === 'required' ? 'yes' : 'no'],
  ]
}

async function clientTls({ ca, cert, key }: ServerTls): Promise<NonNullable<RedisOptions['tls']>> {
  const [caPem, certPem, keyPem] = await Promise.all([ca, cert, key].map((file) => readFile(file, 'utf8')))
  return { ca: caPem!, cert: certPem!, key: keyPem! }
}

/** Works with a connection to the server. */
export async function ask<T>(server: RedisServer, work: (client: Redis) => Promise<T>): Promise<T> {
  const client = server.client()
  try {
    return await work(client)
  } finally {
    client.disconnect()
  }
}

/** A field of what INFO says. */
export async function infoOf(server: RedisServer, field: string): Promise<string> {
  return ask(server, async (client) => new RegExp(`^${field}:(.*?)\r?$`, 'm').exec(await client.info())?.[1] ?? '')
}

export interface RedisCluster extends AsyncDisposable {
  /** Those that begin as masters; node i serves the i-th equal part of the slots. */
  readonly nodes: readonly RedisServer[]
  /** Those that begin as replicas: one after the other round the masters, so replica i has master i modulo their number. */
  readonly replicas: readonly RedisServer[]
  /** For REDIS_URL. */
  readonly url: string
  stop(): Promise<void>
}

const SLOTS = 16_384

/** Starts a real Redis Cluster and waits until every node says that it is whole, and every replica that it follows. */
export async function startRedisCluster({
  masters = 3,
  replicasEach = 0,
  args = [],
  ...common
}: { masters?: number; replicasEach?: number } & Common = {}): Promise<RedisCluster> {
  const count = masters * (1 + replicasEach)
  // The bus ports by name: the default, port + 10000, may lie beyond the last one.
  const ports = await freePorts(count * 2)
  const all = await startAll(
    Array.from({ length: count }, (_, i) => () => {
      const cluster = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '2000']
      return startRedisServer({
        ...common,
        port: ports[i]!,
        args: [...cluster, '--cluster-port', `${ports[count + i]}`, ...args],
      })
    }),
  )
  const nodes = all.slice(0, masters)
  const replicas = all.slice(masters)
  const firstSlot = (i: number): number => Math.ceil((i * SLOTS) / masters)
  const stop = async (): Promise<void> => {
    await Promise.all(all.map((node) => node.stop()))
  }
  const clients = all.map((node) => node.client())
  const saysAll = (field: string) =>
    eventually(
      async () => {
        for (const client of clients) {
          const info = String(await client.call('CLUSTER', 'INFO'))
          if (!info.includes(field) || !info.includes(`cluster_known_nodes:${count}`)) throw new Error(info)
        }
      },
      { limitMs: 30_000 },
    )
  try {
    await Promise.all(
      nodes.map((_, i) => clients[i]!.call('CLUSTER', 'ADDSLOTSRANGE', firstSlot(i), firstSlot(i + 1) - 1)),
    )
    for (let i = 1; i < count; i++) {
      await clients[0]!.call('CLUSTER', 'MEET', '127.0.0.1', ports[i]!, ports[count + i]!)
    }
    await saysAll('cluster_state:ok')
    for (const [i, replica] of replicas.entries()) {
      const id = (await clients[i % masters]!.call('CLUSTER', 'MYID')) as string
      await clients[masters + i]!.call('CLUSTER', 'REPLICATE', id)
      await follows(replica)
    }
    await saysAll('cluster_state:ok')
  } catch (err) {
    await stop()
    throw err
  } finally {
    for (const client of clients) client.disconnect()
  }
  const url = urlOf('cluster', common, all)
  return { nodes, replicas, url, stop, [Symbol.asyncDispose]: stop }
}

export interface RedisSentinels extends AsyncDisposable {
  /** The name that the Sentinels know the master by. */
  readonly name: string
  /** The one that begins as master, then its replicas. */
  readonly servers: readonly RedisServer[]
  readonly sentinels: readonly RedisServer[]
  /** For REDIS_URL. */
  readonly url: string
  /** The server that most Sentinels call the master now. */
  master(): Promise<RedisServer>
  /** Asks a Sentinel for a failover, and waits until another server is the master. */
  failover(): Promise<void>
  stop(): Promise<void>
}

const MASTER_NAME = 'throughline'

/**
 * Starts a master, replicas and Sentinels that know each other. Without its master for a second, a replica takes its place.
 */
export async function startRedisSentinels({
  replicas = 2,
  sentinels: count = 3,
  sentinelPassword,
  args = [],
  ...common
}: { replicas?: number; sentinels?: number; sentinelPassword?: string } & Common = {}): Promise<RedisSentinels> {
  const servers = await startAll(
    Array.from({ length: 1 + replicas }, () => () => startRedisServer({ ...common, args })),
  )
  let sentinels: RedisServer[] = []
  const dirs: string[] = []
  const stop = async (): Promise<void> => {
    await Promise.all([...sentinels, ...servers].map((server) => server.stop()))
    for (const dir of dirs) await rm(dir, { recursive: true, force: true })
  }
  const master = async (): Promise<RedisServer> => {
    const said = await Promise.all(
      sentinels.map((it) =>
        ask(it, (client) => client.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', MASTER_NAME) as Promise<string[]>),
      ),
    )
    const votes = said.map((address) => Number(address[1])).sort((a, b) => a - b)
    const most = votes[Math.floor(votes.length / 2)]
    return servers.find(({ port }) => port === most)!
  }
  try {
    const [first, ...others] = servers
    for (const replica of others) {
      await ask(replica, async (client) => {
        await client.call('REPLICAOF', '127.0.0.1', first!.port)
        await client.config('REWRITE')
      })
      await follows(replica)
    }
    sentinels = await startAll(
      Array.from({ length: count }, () => async () => {
        const dir = await mkdtemp(join(tmpdir(), 'throughline-test-sentinel-'))
        dirs.push(dir)
        const configFile = join(dir, 'sentinel.conf')
        await writeFile(
          configFile,
          [
            `sentinel monitor ${MASTER_NAME} 127.0.0.1 ${first!.port} ${Math.floor(count / 2) + 1}`,
            `sentinel down-after-milliseconds ${MASTER_NAME} 1000`,
            `sentinel failover-timeout ${MASTER_NAME} 5000`,
            ...(common.password === undefined ? [] : [`sentinel auth-pass ${MASTER_NAME} ${common.password}`]),
            ...(sentinelPassword === undefined
              ? []
              : [`requirepass ${sentinelPassword}`, `sentinel sentinel-pass ${sentinelPassword}`]),
          ].join('\n'),
        )
        return serverOf({
          dir,
          configFile,
          args: ['--sentinel'],
          ...(common.tls && { tls: common.tls }),
          ...(sentinelPassword !== undefined && { password: sentinelPassword }),
        })
      }),
    )
    for (const sentinel of sentinels)
      await eventually(
        async () => {
          const flat = await ask(sentinel, (it) => it.call('SENTINEL', 'MASTER', MASTER_NAME) as Promise<string[]>)
          const field = (name: string) => flat[flat.indexOf(name) + 1]
          if (field('num-slaves') === String(replicas) && field('num-other-sentinels') === String(count - 1)) return
          throw new Error(JSON.stringify(flat))
        },
        { limitMs: 30_000 },
      )
  } catch (err) {
    await stop()
    throw err
  }
  return {
    name: MASTER_NAME,
    servers,
    sentinels,
    url: `${urlOf('sentinel', common, sentinels)}/${MASTER_NAME}`,
    master,
    async failover() {
      const before = await master()
      // refused while a Sentinel has not made up its mind about a replica yet
      await eventually(() => ask(sentinels[0]!, (it) => it.call('SENTINEL', 'FAILOVER', MASTER_NAME)), {
        limitMs: 15_000,
        everyMs: 200,
      })
      await eventually(async () => (await master()).port !== before.port, { limitMs: 30_000, everyMs: 100 })
    },
    stop,
    [Symbol.asyncDispose]: stop,
  }
}

/** Waits until a replica follows its master. */
export async function follows(replica: RedisServer): Promise<void> {
  await eventually(async () => (await infoOf(replica, 'master_link_status')) === 'up', { limitMs: 20_000 })
}

/** Starts them side by side; when one does not start, those that did are stopped. */
async function startAll(starts: (() => Promise<RedisServer>)[]): Promise<RedisServer[]> {
  const results = await Promise.allSettled(starts.map((start) => start()))
  const failed = results.find((it) => it.status === 'rejected')
  const started = results.flatMap((it) => (it.status === 'fulfilled' ? [it.value] : []))
  if (!failed) return started
  await Promise.all(started.map((server) => server.stop()))
  throw failed.reason
}

function urlOf(kind: 'cluster' | 'sentinel', { password, tls }: Common, at: readonly RedisServer[]): string {
  const credentials = password === undefined ? '' : `:${encodeURIComponent(password)}@`
  return `redis${tls ? 's' : ''}+${kind}://${credentials}${at.map(({ port }) => `127.0.0.1:${port}`).join(',')}`
}
