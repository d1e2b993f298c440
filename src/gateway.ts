import { setMaxListeners } from 'node:events'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { agentAuth } from './auth/agent.js'
import { clientAuth } from './auth/client.js'
import { Guesses } from './auth/guesses.js'
import { tokens } from './auth/token.js'
import type { Config } from './config.js'
import { buildCore } from './core/build.js'
import { PoolWatch } from './core/claim.js'
import { drain } from './core/drain.js'
import { Links } from './core/links.js'
import { SILENT } from './core/outbound.js'
import type { Parts } from './core/parts.js'
import { Places } from './core/places.js'
import { RedisClock } from './core/redis-clock.js'
import { startReplica, type ReplicaState } from './core/replica.js'
import { judgeOf, sweep } from './core/sweep.js'
import { Observe } from './observe/events.js'
import type { Logger } from './observe/logger.js'
import { createMetrics } from './observe/metrics.js'
import { ThroughlineError } from './protocol/errors.js'
import { connector, isUnavailable, maskUrl, type Connection, type Role } from './store/redis.js'
import { PATIENCE_MS, requireRedis } from './store/require-redis.js'
import { openStore } from './store/store.js'
import { agentsDoor } from './surfaces/agents/io.js'
import { helixSurface } from './surfaces/helix/chat.js'
import { helixDoor, SYNC_PATH } from './surfaces/helix/socket.js'
import { startSweeper } from './surfaces/clock/sweeper.js'
import { docsSurface } from './surfaces/docs/router.js'
import { addressOf, netOf } from './surfaces/http/address.js'
import { httpApp } from './surfaces/http/app.js'
import { openApiDocument } from './surfaces/http/openapi.js'
import type { HttpParts } from './surfaces/http/parts.js'
import { httpServer } from './surfaces/http/server.js'
import { routeUpgrades } from './surfaces/http/upgrade.js'
import { nativeDescription } from './surfaces/native/document.js'
import { nativeSurface } from './surfaces/native/router.js'
import { openAiSurface } from './surfaces/openai/router.js'
import { opsApp, type Check } from './surfaces/ops/server.js'
import { startWebhooks } from './surfaces/webhooks/door.js'

export { RedisRequired } from './store/require-redis.js'

export interface Gateway {
  replica: string
  port: number
  opsPort: number
  /** Leaves in order, within `DRAIN_MS`, then closes. */
  drain(): Promise<void>
  /** Closes everything at once. */
  close(): Promise<void>
}

/** Longest that closing one part may take, ms. */
const CLOSE_MS = 3000

/** Not ready when the bus has not delivered its own probe for so many periods. */
const PROBES_MISSED = 6

/**
 * Builds one replica from its configuration and starts it. What is opened here is closed here, in reverse.
 * Throws RedisRequired when Redis cannot be reached or is too old, and what `listen` throws for a taken port.
 */
export async function startGateway(config: Config, log: Logger, version: string): Promise<Gateway> {
  const startedAt = Date.now()
  const closers: (() => unknown)[] = []
  async function close(): Promise<void> {
    for (const stop of closers.splice(0).reverse()) {
      const late = new AbortController()
      const limit = sleep(CLOSE_MS, undefined, { signal: late.signal }).catch(() => {}) // with Redis away some would wait for it
      await Promise.race([Promise.resolve().then(stop), limit])
        .catch((err: unknown) => log.warn({ err }, 'closing'))
        .finally(() => late.abort())
    }
  }

  try {
    const open = connector(config.redisUrl, config.replica, log)
    const opened = (role: Role): Connection => {
      const redis = open(role)
      closers.push(() => redis.disconnect())
      return redis
    }
    const metrics = createMetrics()
    const observe = new Observe(log, metrics)

    const commands = opened('commands')
    await requireRedis(commands, config.redisUrl, log)
    const subscriber = opened('subscriber')
    const store = openStore({ commands, subscriber }, config.store, config.replica, log)
    closers.push(() => store.bus.close())
    await patiently(() => store.bus.start())

    const clock = new RedisClock(store.replicas)
    await patiently(() => clock.correct())
    const signer = tokens(config.http.tokenSecrets)
    let outbound = SILENT
    if (config.webhooks.keys.length > 0 || config.webhooks.wanted) {
      const webhooks = startWebhooks(
        { queue: opened('webhook-queue'), worker: opened('webhook-worker') },
        { ...config.webhooks, prefix: store.keys.bullmq, redisDeadlineMs: config.store.redisDeadlineMs },
        signer && ((session, ttlMs) => signer.mint('agent', session, ttlMs)),
        observe,
      )
      closers.push(() => webhooks.stop())
      outbound = webhooks.outbound
    }
    const settings = { ...config.core, replica: config.replica, version }
    const parts: Parts = { store, observe, clock, outbound, settings }
    const links = new Links()
    const pools = new PoolWatch(parts, links)
    const viewers = { count: 0 }
    const judge = judgeOf(parts)
    const core = buildCore(parts, judge, viewers)
    const state: ReplicaState = { draining: false, lastSweepAt: clock.now() }

    const moving = new AbortController()
    const hardStop = new AbortController()
    setMaxListeners(0, moving.signal, hardStop.signal) // every open stream listens
    const asClient = clientAuth(config.http.clientKeys)
    const addressIn = addressOf(config.http.trustProxy)
    const { rates } = config.http
    const counter = (name: 'requests' | 'messages' | 'failures') => {
      const rate = store.rate(name, rates[name], rates.windowMs)
      return (subject: string) => rate.count(subject)
    }
    const guesses = new Guesses(counter('failures'), (address, forMs) => observe.addressBlocked({ address, forMs }))
    const attempt: HttpParts['attempt'] = (req, credential, verify) =>
      guesses.attempt(netOf(addressIn(req)), credential, verify).catch((thrown: unknown) => {
        if (thrown instanceof ThroughlineError && thrown.code === 'rate_limit_exceeded') observe.limited('failures')
        throw thrown
      })
    const places = config.http.maxStreamsPerOwner > 0 ? new Places(parts, config.http.maxStreamsPerOwner) : undefined
    if (places) {
      await patiently(() => places.start())
      closers.push(() => places.stop())
    }
    let streams = 0
    const http = {
      log,
      authenticate: (req: IncomingMessage) =>
        attempt(req, req.headers.authorization ?? '', async () => ({ owner: asClient(req.headers.authorization) })),
      attempt,
      rates: {
        ...(rates.requests > 0 && { requests: counter('requests') }),
        ...(rates.messages > 0 && { messages: counter('messages') }),
      },
      ...(places && { enterPlace: (owner: string, resumable: boolean) => places.enter(owner, resumable) }),
      draining: moving.signal,
      hardStop: hardStop.signal,
      origins: config.http.origins,
      limits: {
        maxBodyBytes: config.http.maxBodyBytes,
        waitLimitMs: config.http.waitLimitMs,
        keepAliveMs: 15_000,
        slowViewerMs: config.http.slowViewerMs,
        retryMs: 1000,
      },
      observe: {
        limited: (limit: 'requests' | 'messages' | 'streams') => observe.limited(limit),
        request: (route: string, method: string, status: number, seconds: number) =>
          metrics.requests.observe({ route, method, status: String(status) }, seconds),
        streamOpened: (surface: string) => metrics.streams.inc({ surface }),
        streamClosed: (surface: string, how: string) => {
          metrics.streams.dec({ surface })
          metrics.streamsClosed.inc({ surface, how })
        },
      },
      core,
      tokens: signer,
    }
    const app = httpApp(http, [
      { path: '/', router: docsSurface(openApiDocument(version, [nativeDescription])) },
      { path: '/api/v1', router: helixSurface({ ...http, pool: config.helix.pool }) },
      { path: '/api/v1', router: nativeSurface(http) },
      { path: '/v1', router: openAiSurface(http) },
    ])
    const server = httpServer(app, config.http.connections)
    server.on('request', (_req, res) => {
      streams++
      res.once('close', () => streams--)
    })
    closers.push(() => closed(server))

    const verifyAgent = agentAuth(config.http.agentKeys, signer)
    const asAgent = (key: string | undefined, req: IncomingMessage) => attempt(req, key ?? '', () => verifyAgent(key))
    const agents = agentsDoor(server, parts, links, pools, {
      adapter: { pub: opened('adapter-pub'), sub: opened('adapter-sub'), key: store.keys.sockets },
      authenticate: asAgent,
      origins: config.http.origins,
      maxAgents: config.http.maxAgents,
      maxFrameBytes: config.http.agentMaxFrameBytes,
    })
    closers.push(() => agents.stop())
    const editors = helixDoor(parts, links, pools, {
      ...config.helix,
      authenticate: asAgent,
      keyless: config.http.keyless,
      maxAgents: config.http.maxAgents,
      evict: (link) => agents.fleet.evict(link),
    })
    closers.push(() => editors.stop())
    routeUpgrades(server, config.http.origins, { [SYNC_PATH]: editors.upgrade })
    closers.push(() => server.closeAllConnections()) // else Socket.IO, which closes the server, waits for open requests

    const sweeper = await startSweeper(
      { queue: opened('sweep-queue'), worker: opened('sweep-worker') },
      { prefix: store.keys.bullmq, everyMs: config.core.sweepEveryMs },
      () => sweep(parts, judge),
      observe,
    )
    closers.push(() => sweeper.stop())
    const replica = startReplica(parts, links, viewers, judge, state, startedAt)
    closers.push(() => store.replicas.leave(config.replica).catch(() => {})) // else it fades by itself
    closers.push(() => replica.stop())

    const probeAgeMs = () => store.bus.probeAgeMs
    const checks: Record<string, Check> = {
      redis: () => (store.db.available ? null : 'Redis is not connected; check REDIS_URL and the Redis server'),
      bus: () =>
        probeAgeMs() < PROBES_MISSED * config.store.probeEveryMs
          ? null
          : `pub/sub has not delivered for ${Math.round(probeAgeMs() / 1000)} s; check the Redis server`,
      replica: () => (state.draining ? 'draining' : null),
    }
    async function ofPools(count: (pool: string) => Promise<number>): Promise<Map<string, number>> {
      if (!store.db.available) return new Map()
      const pools = [...config.core.pools, ...(await store.pools.known()).map(({ name }) => name)]
      return new Map(await Promise.all(pools.map(async (pool) => [pool, await count(pool)] as const)))
    }
    metrics.watch({
      agents: () => links.all.length,
      leases: () => links.leases,
      viewers: () => viewers.count,
      channels: () => store.bus.channels,
      busProbeAge: () => probeAgeMs() / 1000,
      sweepAge: () => (clock.now() - state.lastSweepAt) / 1000,
      ready: () => Object.values(checks).every((check) => check() === null),
      waiting: () => ofPools((pool) => store.pools.pendingCount(pool)),
      agentsOfPools: () => ofPools((pool) => store.pools.agentCount(pool, clock.now())),
    })
    const ops = createServer(opsApp({ registry: metrics.registry, checks }))
    closers.push(() => closed(ops))

    await listen(server, config.http.port, config.http.host)
    await listen(ops, config.http.opsPort, config.http.opsHost)
    const address = {
      port: (server.address() as AddressInfo).port,
      opsPort: (ops.address() as AddressInfo).port,
    }
    if (config.http.keyless)
      log.warn(
        { event: 'keyless' },
        'CLIENT_KEYS or AGENT_KEYS are not set: listening on loopback only, no key is asked for',
      )
    log.info({ event: 'ready', ...address, host: config.http.host, redis: maskUrl(config.redisUrl) }, 'ready')

    return {
      replica: config.replica,
      ...address,
      close,
      async drain() {
        await drain(
          parts,
          links,
          state,
          {
            close() {
              agents.close()
              editors.close()
            },
            moveViewers: () => moving.abort(),
            open: () => streams,
            destroy() {
              hardStop.abort()
              server.closeAllConnections()
            },
          },
          config.drainMs,
        )
        await close()
      },
    }
  } catch (err) {
    await close()
    throw err
  }
}

/** A replica that starts while Redis is slow waits for it, as long as `requireRedis` would. */
async function patiently(work: () => Promise<void>): Promise<void> {
  for (const end = Date.now() + PATIENCE_MS; ;) {
    try {
      return await work()
    } catch (err) {
      if (!isUnavailable(err) || Date.now() > end) throw err
      await sleep(100)
    }
  }
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
