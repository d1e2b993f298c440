import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocketServer, type WebSocket } from 'ws'
import { mayJoin, mayServe, type AgentPrincipal } from '../../auth/agent.js'
import type { PoolWatch } from '../../core/claim.js'
import { join, part } from '../../core/join.js'
import type { AgentLink } from '../../core/link.js'
import type { Links, Station } from '../../core/links.js'
import { newName } from '../../core/mint.js'
import type { Parts } from '../../core/parts.js'
import { PoolName } from '../../protocol/agent-wire.js'
import { isSessionId, type RequestId, type SessionId } from '../../protocol/ids.js'
import { isLoopback } from '../http/limits.js'
import { HelixLink, type HelixSettings } from './link.js'

export const SYNC_PATH = '/api/v1/external-agents/sync'

/** Signs of life, ms: Zed answers pings and sends none; silence past the limit is a dead peer. */
const PING = { everyMs: 20_000, deadMs: 60_000 }
/** How long the replica of an older connection may take to bring what that one said into the log, ms. */
const HAND_OVER_MS = 1500
const MOST_CAPACITY = 10_000
const NO_MORE = 'This replica takes no more agents. Connect again.'

export interface HelixDoor {
  /** Refuse new agents from now on. Resolves when those that were being welcomed are in. */
  close(): Promise<void>
  stop(): Promise<void>
}

export interface HelixOptions extends HelixSettings {
  authenticate: (key: string | undefined) => Promise<AgentPrincipal | undefined>
  /** Without keys only this machine may connect, and no web page. */
  loopbackOnly: boolean
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
}

/**
 * The door of Helix's agents (Zed): the WebSocket `/api/v1/external-agents/sync?session_id=ses_…`, on the port of
 * everything else. A session's agent serves that session and what branches off it; an agent of any other name joins a
 * pool (`?pool=`, `?capacity=`). What it says goes the same way as a native agent's words: there is no second routing.
 */
export function helixDoor(
  server: Server,
  parts: Parts,
  links: Links,
  pools: PoolWatch,
  options: HelixOptions,
): HelixDoor {
  const { observe, store, settings } = parts
  const sockets = new WebSocketServer({
    noServer: true,
    clientTracking: true,
    perMessageDeflate: false,
    maxPayload: options.maxFrameBytes,
  })
  const arriving = new Set<Promise<unknown>>()
  const parting = new Set<Promise<void>>()
  let closed = false

  server.on('upgrade', (req: IncomingMessage, socket: Duplex, head: Buffer) => {
    const { pathname } = new URL(req.url ?? '/', 'http://x')
    if (pathname.startsWith('/socket.io')) return // the other door's
    socket.on('error', () => {}) // the caller left before it was answered
    if (pathname !== SYNC_PATH) return refuse(socket, 404, 'not found')
    const since = parts.clock.now() // before anything that takes time: who comes after it is newer
    admit(req)
      .then((caller) => {
        if (typeof caller !== 'string' && !closed)
          return sockets.handleUpgrade(req, socket, head, (peer) => void welcome(peer, caller, since))
        if (typeof caller !== 'string') return refuse(socket, 503, NO_MORE)
        const status = /^\d+/.exec(caller)![0]
        refuse(socket, Number(status), caller.slice(status.length + 1))
      })
      .catch((err: unknown) => {
        observe.outage('helix hello', err)
        refuse(socket, 503, 'Redis cannot be reached at the moment. Connect again.')
      })
  })

  /** Who is calling, or why not: status and sentence. */
  async function admit(req: IncomingMessage): Promise<Caller | string> {
    const { authorization, origin, host } = req.headers
    if (options.loopbackOnly && (origin !== undefined || !isLoopback(host)))
      return '403 Without configured keys this gateway takes agents of this machine only.'
    if (closed || links.all.length >= options.maxAgents) return `503 ${NO_MORE}`
    if (!options.loopbackOnly && !authorization) return '401 Authorization header required'
    const token = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1]
    const principal = await options.authenticate(token)
    if (!principal) return '401 Invalid token'
    const query = new URL(req.url!, 'http://x').searchParams
    const agent = query.get('session_id') || query.get('agent_id') || newName('external-agent')
    if (!/^[A-Za-z0-9._:-]{1,128}$/.test(agent)) return '400 session_id is not 1 to 128 letters, digits or ._:-'
    if (isSessionId(agent)) {
      const stored = await store.sessions.read(agent)
      if (!mayServe(principal, agent, stored?.pool)) return '401 Invalid token'
      return { agent, pool: null, capacity: 0, session: agent }
    }
    const pool = query.get('pool') || options.pool
    if (!PoolName.safeParse(pool).success)
      return '400 Name the session (session_id=ses_…), or a pool (pool=…) whose sessions this agent takes.'
    if (!mayJoin(principal, pool)) return '401 Invalid token'
    const capacity = Number(query.get('capacity') ?? 1)
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > MOST_CAPACITY)
      return `400 capacity is a whole number from 1 to ${MOST_CAPACITY}`
    return { agent, pool, capacity, session: undefined }
  }

  async function welcome(socket: WebSocket, caller: Caller, since: number): Promise<void> {
    const { agent, pool, capacity } = caller
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
    const gone = new Promise<string>((resolve) => socket.once('close', (code) => resolve(`code ${code}`)))
    const arrived = arrive()
    arriving.add(arrived)
    const station = await arrived.finally(() => arriving.delete(arrived))
    const why = await gone
    if (!station) return
    observe.agentLeft({ agent, connection: link.connection, why, holding: station.holds.size })
    const done = part(parts, links, pools, station, 'lost')
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
        observe.agentJoined({ agent, connection: link.connection, pool, capacity, resumed: joined.resumed.length })
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

  /** What an older connection had received goes into the log before this one takes over. */
  async function handedOver(sessions: SessionId[], agent: string): Promise<void> {
    const end = Date.now() + HAND_OVER_MS
    for (const session of sessions)
      while (Date.now() < end) {
        const holder = await store.leases.holder(session)
        if (!holder?.connected || holder.agent !== agent) break
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
    async close() {
      closed = true
      await Promise.all(arriving)
    },
    async stop() {
      closed = true
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

function refuse(socket: Duplex, status: number, sentence: string): void {
  const reason = { 400: 'Bad Request', 401: 'Unauthorized', 403: 'Forbidden', 404: 'Not Found' }[status]
  socket.end(
    `HTTP/1.1 ${status} ${reason ?? 'Service Unavailable'}\r\nContent-Type: text/plain\r\nConnection: close\r\n` +
      `${status === 503 ? 'Retry-After: 1\r\n' : ''}Content-Length: ${Buffer.byteLength(sentence)}\r\n\r\n${sentence}`,
  )
}
