import { setMaxListeners } from 'node:events'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { agentAuth } from './auth/agent.js'
import { bearerOf, clientAuth } from './auth/client.js'
import { jwtAuth } from './auth/jwt.js'
import { Guesses } from './auth/guesses.js'
import { FRESH_MS, StoredKeys } from './auth/stored-keys.js'
import { tokens, type Tokens } from './auth/token.js'
import type { Config } from './config.js'
import { auditTeller } from './core/audit.js'
import { buildCore } from './core/build.js'
import { PoolWatch } from './core/claim.js'
import { drain } from './core/drain.js'
import { Links } from './core/links.js'
import { hearOrders } from './core/orders.js'
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
import type { InteractionId } from './protocol/ids.js'
import type { TraceContext } from './protocol/trail.js'
import { keysOf } from './store/keys.js'
import { connector, isUnavailable, within, type Connection, type RedisObserver, type Role } from './store/redis.js'
import { withoutPassword } from './store/redis-where.js'
import { requireDurability } from './store/require-durability.js'
import { PATIENCE_MS, requireRedis } from './store/require-redis.js'
import { requireRights } from './store/require-rights.js'
import type { RateName } from './store/rates.js'
import { openStore, type Store } from './store/store.js'
import { agentsDoor } from './surfaces/agents/io.js'
import { helixSurface } from './surfaces/helix/chat.js'
import { helixDoor, SYNC_PATH } from './surfaces/helix/socket.js'
import { startSweeper } from './surfaces/clock/sweeper.js'
import { docsSurface } from './surfaces/docs/router.js'
import { addressOf, netOf } from './surfaces/http/address.js'
import { httpApp, routesOf } from './surfaces/http/app.js'
import { openApiDocument } from './surfaces/http/openapi.js'
import type { HttpParts } from './surfaces/http/parts.js'
import { httpServer } from './surfaces/http/server.js'
import { routeUpgrades } from './surfaces/http/upgrade.js'
import { nativeDescription } from './surfaces/native/document.js'
import { nativeSurface } from './surfaces/native/router.js'
import { openAiSurface } from './surfaces/openai/router.js'
import { opsApp, type Check } from './surfaces/ops/server.js'
import { startWebhooks } from './surfaces/webhooks/door.js'

export { RedisRequired } from './store/redis-where.js'

export interface Gateway {
  replica: string
  port: number
  opsPort: number
  /** Every HTTP route of clients, such as `GET /api/v1/sessions/:session`: so that a test can leave none out. */
  routes: string[]
  /** Aborts when an operator has asked this replica to leave. */
  asked: AbortSignal
  /** Leaves in order, within `DRAIN_MS`, then closes. */
  drain(): Promise<void>
  /** Closes everything at once. */
  close(): Promise<void>
}

/** Longest that closing one part may take, ms. */
const CLOSE_MS = 3000

/** How long a scrape waits for what is read from Redis, ms; Prometheus itself gives up after 10 s. */
const SCRAPE_MS = 2000

/**
 * Not ready when Redis has not delivered the bus' own probe for so many periods. Not sooner: Redis is the same for all
 * replicas, and if each failover took all of them out of the balancer, clients would meet the balancer's error page, at
 * which EventSource gives up for good, in place of ours.
 */
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
    const metrics = createMetrics({ version, pools: config.core.pools })
    const tracing =
      config.tracing &&
      (await import('./observe/otel.js')).startTracing({ ...config.tracing, replica: config.replica, version }, log)
    if (tracing) closers.push(() => tracing.stop())
    const observe = new Observe(log, metrics, tracing)

    const watch: RedisObserver = {
      called: (operation, seconds) => metrics.redisSeconds.observe({ operation }, seconds),
      unavailable: () => metrics.redisUnavailable.inc(),
      reconnected: (role) => metrics.redisReconnects.inc({ role }),
    }
    const open = connector(config.redis, config.replica, log, watch)
    const connections: { role: Role; redis: Connection }[] = []
    const opened = (role: Role): Connection => {
      const redis = open(role)
      connections.push({ role, redis })
      closers.push(() => redis.disconnect())
      return redis
    }

    const commands = opened('commands')
    await requireRedis(commands, config.redis, log)
    const safe = config.durability && (config.durability.replicas > 0 ? 'replicas' : 'file')
    await requireRights(commands, config.redis, keysOf(config.store.prefix), safe ?? undefined)
    const subscriber = opened('subscriber')
    const confirmation = config.durability
      ? await requireDurability(commands, config.redis, config.durability)
      : 'always'
    const waited = (seconds: number, confirmed: boolean) => observe.durabilityWaited(seconds, confirmed)
    const waiting = confirmation === 'always' ? undefined : { connection: opened('durability'), confirmation, waited }
    const store = openStore({ commands, subscriber }, config.store, config.replica, log, watch, waiting)
    closers.push(() => store.bus.close())
    await patiently(() => store.bus.start())

    const clock = new RedisClock(store.replicas)
    await patiently(() => clock.correct())
    const signer = tokens(config.http.tokenSecrets)
    let outbound = SILENT
    const queues: Counted[] = []
    if (config.webhooks.keys.length > 0 || config.webhooks.wanted) {
      const webhooks = startWebhooks(
        { queue: opened('webhook-queue'), worker: opened('webhook-worker') },
        { ...config.webhooks, prefix: store.keys.bullmq, redisDeadlineMs: config.store.redisDeadlineMs },
        signer && ((session, ttlMs) => signer.mint('agent', session, ttlMs)),
        observe,
      )
      closers.push(() => webhooks.stop())
      outbound = webhooks.outbound
      queues.push({ queue: 'webhooks', counts: webhooks.counts })
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
    const credentials = await openCredentials(config.http, { store, observe, signer, closers })
    const places = config.http.maxStreamsPerOwner > 0 ? new Places(parts, config.http.maxStreamsPerOwner) : undefined
    if (places) {
      await patiently(() => places.start())
      closers.push(() => places.stop())
    }
    const { rates } = config.http
    let streams = 0
    const http = {
      log,
      authenticate: credentials.asClient,
      attempt: credentials.attempt,
      rates: {
        ...(rates.requests > 0 && { requests: counterOf(store, 'requests', rates) }),
        ...(rates.messages > 0 && { messages: counterOf(store, 'messages', rates) }),
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
          metrics.requests.observe({ route, method: metrics.ofMethod(method), status: String(status) }, seconds),
        streamOpened: (surface: string) => metrics.streams.inc({ surface }),
        streamClosed: (surface: string, how: string) => {
          metrics.streams.dec({ surface })
          metrics.streamsClosed.inc({ surface, how })
        },
        streamBehind(surface: string) {
          metrics.streamsBehind.inc({ surface })
          return () => metrics.streamsBehind.dec({ surface })
        },
        trace: (incoming: TraceContext) => tracing?.request(incoming),
        trailOf: (interaction: InteractionId) => observe.trails.of(interaction),
      },
      core,
      tokens: signer,
    }
    const doors = [
      { path: '/', router: docsSurface(openApiDocument(version, [nativeDescription])) },
      { path: '/api/v1', router: helixSurface({ ...http, pool: config.helix.pool }) },
      { path: '/api/v1', router: nativeSurface(http) },
      { path: '/v1', router: openAiSurface(http) },
    ]
    const app = httpApp(http, doors)
    const server = httpServer(app, config.http.connections)
    server.on('request', (_req, res) => {
      streams++
      res.once('close', () => streams--)
    })
    closers.push(() => closed(server))

    const agents = agentsDoor(server, parts, links, pools, {
      adapter: { pub: opened('adapter-pub'), sub: opened('adapter-sub'), key: store.keys.sockets },
      authenticate: credentials.asAgent,
      origins: config.http.origins,
      maxAgents: config.http.maxAgents,
      maxFrameBytes: config.http.agentMaxFrameBytes,
    })
    closers.push(() => agents.stop())
    const editors = helixDoor(parts, links, pools, {
      ...config.helix,
      authenticate: credentials.asAgent,
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
    const asked = new AbortController()
    const tellAudit = auditTeller(parts, () => commands.status === 'end')
    const replica = startReplica(parts, links, viewers, judge, state, startedAt, {
      look: tellAudit,
      askedToLeave: () => asked.abort(),
    })
    await patiently(async () => {
      await store.bus.listen(store.keys.auditWake, { message: tellAudit, look: tellAudit })
      await hearOrders(parts, links, replica.beat)
    })
    queues.push({ queue: 'sweep', counts: sweeper.counts })
    closers.push(() => store.replicas.leave(config.replica).catch(() => {})) // else it fades by itself
    closers.push(() => replica.stop())

    const probeAgeMs = () => store.bus.probeAgeMs
    const delivers = () => probeAgeMs() < PROBES_MISSED * config.store.probeEveryMs
    const checks: Record<string, Check> = {
      redis: () =>
        store.db.available
          ? null
          : { what: 'Redis is not connected; check REDIS_URL and the Redis server', ready: delivers() },
      bus: () =>
        delivers()
          ? null
          : {
              what: `pub/sub has not delivered for ${Math.round(probeAgeMs() / 1000)} s; check the Redis server`,
              ready: false,
            },
      replica: () => (state.draining ? { what: 'draining', ready: false } : null),
    }
    /** A scrape waits for nobody. */
    async function whileThere<T>(work: () => Promise<T>): Promise<T> {
      if (!store.db.available) throw new ThroughlineError('store_unavailable')
      return within(SCRAPE_MS, work())
    }
    async function ofPools(count: (pool: string) => Promise<number>): Promise<Map<string, number>> {
      return whileThere(async () => {
        const pools = [...config.core.pools, ...(await store.pools.known()).map(({ name }) => name)]
        return new Map(await Promise.all(pools.map(async (pool) => [pool, await count(pool)] as const)))
      })
    }
    metrics.watch({
      agents: () => links.all.length,
      leases: () => links.leases,
      running: () => links.running,
      viewers: () => viewers.count,
      channels: () => store.bus.channels,
      busProbeAge: () => probeAgeMs() / 1000,
      sweepAge: () => (clock.now() - state.lastSweepAt) / 1000,
      ready: () => Object.values(checks).every((check) => check()?.ready ?? true),
      waiting: () => ofPools((pool) => store.pools.pendingCount(pool)),
      agentsOfPools: () => ofPools((pool) => store.pools.agentCount(pool, clock.now())),
      openTurns: () => whileThere(() => store.deadlines.count()),
      jobs: () => whileThere(() => jobsOf(queues)),
      connections: () => connections.map(({ role, redis }) => ({ role, connected: redis.status === 'ready' })),
    })
    const ops = createServer(opsApp({ registry: metrics.registry, checks }))
    closers.push(() => closed(ops))

    await listen(server, config.http.port, config.http.host)
    await listen(ops, config.http.opsPort, config.http.opsHost)
    const address = {
      port: (server.address() as AddressInfo).port,
      opsPort: (ops.address() as AddressInfo).port,
    }
    if (config.http.keyless) log.warn({ event: 'keyless' }, `listening on loopback only: ${config.http.keylessBecause}`)
    log.info({ event: 'ready', ...address, host: config.http.host, redis: withoutPassword(config.redis.url) }, 'ready')

    return {
      replica: config.replica,
      ...address,
      routes: routesOf(app, doors),
      asked: asked.signal,
      close,
      async drain() {
        const leaving = drain(
          parts,
          links,
          state,
          {
            close() {
              agents.close()
              return editors.close()
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
        void replica.beat().catch(() => {}) // to say so; else the next one does
        await leaving
        await close()
      },
    }
  } catch (err) {
    await close()
    throw err
  }
}

/** A BullMQ queue that is counted. */
interface Counted {
  queue: string
  counts: () => Promise<Record<string, number>>
}

async function jobsOf(queues: Counted[]) {
  const jobs = await Promise.all(
    queues.map(async ({ queue, counts }) =>
      Object.entries(await counts()).map(([state, count]) => ({ queue, state, count })),
    ),
  )
  return jobs.flat()
}

/** Counts one of what a rate limits, over all replicas. */
function counterOf(store: Store, name: RateName, rates: Config['http']['rates']) {
  const rate = store.rate(name, rates[name], rates.windowMs)
  return (subject: string) => rate.count(subject)
}

/** By what clients and agents come in, and the guard against who tries keys out. */
async function openCredentials(
  http: Config['http'],
  parts: { store: Store; observe: Observe; signer: Tokens | undefined; closers: (() => unknown)[] },
) {
  const { store, observe, signer, closers } = parts
  const { log } = observe
  const stored = http.keyStore ? new StoredKeys(store.apiKeys) : undefined
  if (stored) {
    const look = (how: 'check' | 'recheck') => stored[how]().catch((err: unknown) => observe.outage('keys in use', err)) // looked at again soon
    const revoked = (id: string) => {
      log.info({ event: 'key_revoked', keyId: id }, 'key revoked: what it held open is closed')
      stored.revoked(id)
    }
    await patiently(async () => {
      const heeding = await store.apiKeys.heed({ revoked, look: () => void look('recheck') })
      closers.push(() => heeding[Symbol.dispose]())
    })
    const timer = setInterval(() => void look('check'), FRESH_MS)
    closers.push(() => clearInterval(timer))
  }
  const verifyClient = clientAuth({
    keys: http.clientKeys,
    ...(stored && { stored }),
    ...(http.jwt && { jwt: jwtAuth(http.jwt, log) }),
  })
  const verifyAgent = agentAuth({
    keys: http.agentKeys,
    ...(stored && { stored }),
    ...(signer && { tokens: signer }),
  })

  const addressIn = addressOf(http.trustProxy)
  const failures = counterOf(store, 'failures', http.rates)
  const guesses = new Guesses(failures, (address, forMs) => observe.addressBlocked({ address, forMs }))
  const attempt: HttpParts['attempt'] = (req, credential, verify) => {
    if (credential === '') return verify() // who shows nothing tries nothing out
    return guesses.attempt(netOf(addressIn(req)), credential, verify).catch((thrown: unknown) => {
      if (thrown instanceof ThroughlineError && thrown.code === 'rate_limit_exceeded') observe.limited('failures')
      throw thrown
    })
  }
  return {
    attempt,
    asClient: (req: IncomingMessage) =>
      attempt(req, bearerOf(req.headers.authorization) ?? '', () => verifyClient(req.headers.authorization)),
    asAgent: (key: string | undefined, req: IncomingMessage) => attempt(req, key ?? '', () => verifyAgent(key)),
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
