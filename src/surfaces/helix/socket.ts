import type { IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocketServer, type WebSocket } from 'ws'
import { claimedAgentKeyId, mayJoin, mayServe, type AgentPrincipal } from '../../auth/agent.js'
import { bearerOf } from '../../auth/client.js'
import type { PoolWatch } from '../../core/claim.js'
import { join, part } from '../../core/join.js'
import type { AgentLink } from '../../core/link.js'
import type { Links, Station } from '../../core/links.js'
import { newName } from '../../core/mint.js'
import type { Parts } from '../../core/parts.js'
import { AGENT_NAME, PoolName } from '../../protocol/agent-wire.js'
import { ThroughlineError } from '../../protocol/errors.js'
import { isSessionId, type RequestId, type SessionId } from '../../protocol/ids.js'
import { refuseUpgrade, type TakeUpgrade } from '../http/upgrade.js'
import { HelixLink, type HelixSettings } from './link.js'

export const SYNC_PATH = '/api/v1/external-agents/sync'

/** Signs of life, ms: Zed answers pings and sends none; silence past the limit is a dead peer. */
const PING = { everyMs: 20_000, deadMs: 60_000 }
/**
 * How long the replica of an older connection may take to bring what that one said into the log, ms; where its lease ended
 * meanwhile, since Redis was away, the pause between two of its attempts comes on top.
 */
const HAND_OVER_MS = { usual: 1500, afterOutage: 3000 }
const MOST_CAPACITY = 10_000
const NO_MORE = 'This replica takes no more agents. Connect again.'

export interface HelixDoor {
  upgrade: TakeUpgrade
  /** Refuse new agents from now on. Resolves when those that were being welcomed are in. */
  close(): Promise<void>
  stop(): Promise<void>
}

export interface HelixOptions extends HelixSettings {
  /** Throws `rate_limit_exceeded`. */
  authenticate: (key: string | undefined, req: IncomingMessage) => Promise<AgentPrincipal | undefined>
  /** Nobody is asked for a key. */
  keyless: boolean
  maxAgents: number
  /** Largest message of an agent, bytes: whole answers come in one. */
  maxFrameBytes: number
  /** Pool of agents that name neither a session nor a pool. */
  pool: string
  /** Closes older connections of the agent, on any replica. */
  evict: (link: AgentLink) => void
}

interface Caller {
  agent: string
  pool: string | null
  capacity: number
  session: SessionId | undefined
  principal: AgentPrincipal
}

/**
 * The door of Helix's agents (Zed): the WebSocket `/api/v1/external-agents/sync?session_id=ses_…`, on the port of
 * everything else. A session's agent serves that session and what branches off it; an agent of any other name joins a
 * pool (`?pool=`, `?capacity=`). What it says goes the same way as a native agent's words: there is no second routing.
 */
export function helixDoor(parts: Parts, links: Links, pools: PoolWatch, options: HelixOptions): HelixDoor {
  const { observe, store, settings } = parts
  const sockets = new WebSocketServer({
    noServer: true,
    clientTracking: true,
    perMessageDeflate: false,
    maxPayload: options.maxFrameBytes,
  })
  const arriving = new Set<Promise<unknown>>()
  const parting = new Set<Promise<void>>()
  const stopping = new AbortController()
  let closed = false

  const upgrade: TakeUpgrade = (req, socket, head) => {
    const since = parts.clock.now() // before anything that takes time: who comes after it is newer
    admit(req)
      .then((caller) => {
        if (typeof caller !== 'string' && !closed)
          return sockets.handleUpgrade(req, socket, head, (peer) => void welcome(peer, caller, since))
        if (typeof caller !== 'string') return refuseUpgrade(socket, 503, NO_MORE, 1)
        const status = /^\d+/.exec(caller)![0]
        const message = caller.slice(status.length + 1)
        const keyId = claimedAgentKeyId(bearerOf(req.headers.authorization))
        observe.agentRefused({ transport: 'helix', code: status, message, ...(keyId && { keyId }) })
        refuseUpgrade(socket, Number(status), message, status === '503' ? 1 : undefined)
      })
      .catch((err: unknown) => {
        if (err instanceof ThroughlineError && err.code === 'rate_limit_exceeded')
          return refuseUpgrade(socket, 429, err.message, err.retryAfterS)
        observe.outage('helix hello', err)
        refuseUpgrade(socket, 503, 'Redis cannot be reached at the moment. Connect again.', 1)
      })
  }

  /** Who is calling, or why not: status and sentence. */
  async function admit(req: IncomingMessage): Promise<Caller | string> {
    const { authorization } = req.headers
    if (closed || links.all.length >= options.maxAgents) return `503 ${NO_MORE}`
    if (!options.keyless && !authorization) return '401 Authorization header required'
    const principal = await options.authenticate(bearerOf(authorization), req)
    if (!principal) return '401 Invalid token'
    const query = new URL(req.url!, 'http://x').searchParams
    const agent = query.get('session_id') || query.get('agent_id') || newName('external-agent')
    if (!AGENT_NAME.test(agent)) return '400 session_id is not 1 to 128 letters, digits or ._:-'
    if (isSessionId(agent)) {
      const stored = await store.sessions.read(agent)
      if (!mayServe(principal, agent, stored?.pool)) return '401 Invalid token'
      return { agent, pool: null, capacity: 0, session: agent, principal }
    }
    const pool = query.get('pool') || options.pool
    if (!PoolName.safeParse(pool).success)
      return '400 Name the session (session_id=ses_…), or a pool (pool=…) whose sessions this agent takes.'
    if (!mayJoin(principal, pool)) return '401 Invalid token'
    const capacity = Number(query.get('capacity') ?? 1)
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > MOST_CAPACITY)
      return `400 capacity is a whole number from 1 to ${MOST_CAPACITY}`
    return { agent, pool, capacity, session: undefined, principal }
  }

  async function welcome(socket: WebSocket, caller: Caller, since: number): Promise<void> {
    const { agent, pool, capacity, principal } = caller
    const link = new HelixLink(parts, socket, options, {
      agent,
      pool,
      connection: newName('ws'),
      since,
    })
    socket.on('message', (data: Buffer, binary) => {
      if (binary) observe.badMessage({ agent, code: 'invalid_frame', detail: 'a binary frame' })
      else link.hear(data.toString('utf8'))
    })
    socket.on('error', (err) => observe.badMessage({ agent, code: 'invalid_frame', detail: err.message }))
    keepAlive(socket)
    const held = principal.hold?.((why) => link.close(why))
    const gone = new Promise<string>((resolve) => socket.once('close', (code) => resolve(`code ${code}`)))
    const arrived = arrive()
    arriving.add(arrived)
    const station = await arrived.finally(() => arriving.delete(arrived))
    const why = await gone
    held?.[Symbol.dispose]()
    if (!station) return link.abandon()
    observe.agentLeft({ agent, connection: link.connection, why, holding: station.holds.size })
    const done = link
      .outlast(stopping.signal)
      .then(() => part(parts, links, pools, station, 'lost'))
      .catch((err: unknown) => observe.outage('agent left', err)) // its leases expire by themselves
      .finally(() => parting.delete(done))
    parting.add(done)

    async function arrive(): Promise<Station | undefined> {
      try {
        const sessions = await sessionsOf(caller)
        options.evict(link)
        await handedOver(sessions, agent)
        const holding = (await Promise.all(sessions.map(inHand))).filter((it) => it !== undefined)
        const joined = await join(parts, links, pools, link, { capacity, sessions, holding })
        link.station = joined.station
        observe.agentJoined({
          agent,
          connection: link.connection,
          pool,
          capacity,
          resumed: joined.resumed.length,
          ...(principal.keyId && { keyId: principal.keyId }),
        })
        await joined.open()
        await link.open(joined.resumed)
      } catch (err) {
        observe.outage('helix hello', err)
        socket.close(1013, 'try again later') // it connects again by itself
      }
      return link.station
    }
  }

  /** The session that a connection is named after, and those that branched off it. */
  async function sessionsOf({ agent, pool, session }: Caller): Promise<SessionId[]> {
    const known = await store.pools.sessionsOf(pool ?? '', agent)
    return session === undefined ? known : [...new Set([session, ...known])]
  }

  /** What an older connection had received goes into the log before this one takes over, unless it died with its replica. */
  async function handedOver(sessions: SessionId[], agent: string): Promise<void> {
    const begun = Date.now()
    for (const session of sessions)
      for (;;) {
        const holder = await store.leases.holder(session)
        if (holder && (!holder.connected || holder.agent !== agent)) break
        if (Date.now() - begun > (holder ? HAND_OVER_MS.usual : HAND_OVER_MS.afterOutage)) break
        if ((await store.sessions.wake(session)) === 0) break
        await sleep(20)
      }
  }

  /** The turn that the agent should have in hand: it cannot say so itself. */
  async function inHand(session: SessionId) {
    const stored = await store.sessions.read(session)
    if (!stored?.waitingInteractionId || !stored.lastRequestId) return undefined
    return { session, request: stored.lastRequestId as RequestId, acked: 0 }
  }

  return {
    upgrade,
    async close() {
      closed = true
      await Promise.all(arriving)
    },
    async stop() {
      closed = true
      stopping.abort()
      for (const socket of sockets.clients) socket.terminate()
      await Promise.all(parting)
      sockets.close()
      observe.log.debug({ replica: settings.replica }, 'helix door closed')
    },
  }
}

function keepAlive(socket: WebSocket): void {
  let heardAt = Date.now()
  const heard = () => (heardAt = Date.now())
  socket.on('pong', heard)
  socket.on('message', heard)
  const timer = setInterval(() => {
    if (Date.now() - heardAt > PING.deadMs) socket.terminate()
    else if (socket.readyState === socket.OPEN) socket.ping()
  }, PING.everyMs).unref()
  socket.once('close', () => clearInterval(timer))
}
