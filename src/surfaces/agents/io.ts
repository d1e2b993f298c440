import type { IncomingMessage, Server as HttpServer } from 'node:http'
import { createAdapter } from '@socket.io/redis-adapter'
import { Server, type Namespace } from 'socket.io'
import { z } from 'zod'
import { claimedAgentKeyId, mayJoin, mayServe, realmOf, type AgentPrincipal } from '../../auth/agent.js'
import type { PoolWatch } from '../../core/claim.js'
import type { Connection } from '../../core/connection.js'
import { join, part } from '../../core/join.js'
import type { Links, Station } from '../../core/links.js'
import type { Parts } from '../../core/parts.js'
import { WINDOW } from '../../core/writer.js'
import {
  AGENT_PROTOCOL,
  Hello,
  type AgentToGateway,
  type GatewayToAgent,
  type Refusal,
  type Welcome,
} from '../../protocol/agent-wire.js'
import { ThroughlineError } from '../../protocol/errors.js'
import { MAX_EVENT_BYTES } from '../../protocol/events.js'
import type { SessionId } from '../../protocol/ids.js'
import { refusesSocket, type OriginPolicy } from '../http/origins.js'
import { refuseUpgrade } from '../http/upgrade.js'
import { Fleet, type FleetEvents } from './fleet.js'
import { guarded } from './guarded-client.js'
import { hear, socketLink, type AgentSocket } from './socket.js'

/** A connection that has not said hello after this time is closed, ms. */
const HELLO_MS = 10_000

export interface AgentsDoor {
  fleet: Fleet
  /** Refuse new agents from now on. */
  close(): void
  stop(): Promise<void>
}

/**
 * The door of native agents: Socket.IO namespace `/agents`, websocket transport only (no sticky sessions needed). The
 * Redis adapter carries what concerns the set of connections over all replicas; turns do not ride on it.
 */
export function agentsDoor(
  server: HttpServer,
  parts: Parts,
  links: Links,
  pools: PoolWatch,
  options: {
    adapter: { pub: Connection; sub: Connection; key: string }
    /** Throws `rate_limit_exceeded`. */
    authenticate: (key: string | undefined, req: IncomingMessage) => Promise<AgentPrincipal | undefined>
    origins: OriginPolicy
    maxAgents: number
    /** Largest frame of an agent, bytes; a larger one ends its connection. */
    maxFrameBytes: number
  },
): AgentsDoor {
  const { observe, settings } = parts
  const dropped = () => observe.metrics.adapterDropped.inc()
  const io = new Server(server, {
    transports: ['websocket'],
    serveClient: false,
    destroyUpgrade: false, // other doors have WebSockets too
    pingInterval: 10_000,
    pingTimeout: 10_000,
    maxHttpBufferSize: options.maxFrameBytes,
    allowRequest: (req, answer) => {
      const refused = refusesSocket(options.origins, req.headers)
      if (refused !== undefined) refuseUpgrade(req.socket, 403, refused) // Engine.IO would call it a 400
      answer(null, refused === undefined)
    },
    adapter: createAdapter(guarded(options.adapter.pub, dropped), guarded(options.adapter.sub, dropped), {
      key: options.adapter.key,
    }),
  })
  const agents = io.of('/agents') as Namespace<AgentToGateway, GatewayToAgent, FleetEvents>
  io.use((_socket, next) => next(new Error('Agents connect to the namespace /agents'))) // where nobody asks for a key
  const fleet = new Fleet(agents, links)
  const parting = new Set<Promise<void>>()
  let closed = false

  agents.on('connection', (socket: AgentSocket) => {
    const impatience = setTimeout(() => socket.conn.close(), HELLO_MS)
    let station: Station | undefined
    let opened = false
    let left: string | undefined // gone before it was welcome: then it is parted from as soon as it has come
    socket.once('hello', (message, answer) => {
      clearTimeout(impatience)
      if (typeof answer !== 'function') return void socket.conn.close()
      welcome(socket, message)
        .then((reply) => {
          answer(reply.reply)
          if (!reply.reply.ok) {
            const { code, message } = reply.reply
            const keyId = claimedAgentKeyId(keyOf(socket))
            observe.agentRefused({ transport: 'socket.io', code, message, ...(keyId && { keyId }) })
            return void setTimeout(() => socket.conn.close(), 500).unref()
          }
          station = reply.station
          return reply.open?.().finally(() => {
            opened = true
            if (left !== undefined) leave(left)
          })
        })
        .catch((err: unknown) => {
          observe.outage('agent hello', err)
          answer(refusal('unavailable', 'Redis cannot be reached at the moment. Connect again.', true))
          socket.conn.close()
        })
    })
    socket.once('disconnect', (why) => {
      clearTimeout(impatience)
      if (opened) leave(why)
      else left = why
    })

    function leave(why: string): void {
      if (!station) return
      observe.agentLeft({ agent: station.link.agent, connection: socket.id, why, holding: station.holds.size })
      const done = part(parts, links, pools, station, station.leaving && !closed ? 'left' : 'lost')
        .catch((err: unknown) => observe.outage('agent left', err)) // its leases expire by themselves
        .finally(() => parting.delete(done))
      parting.add(done)
    }
  })

  async function welcome(
    socket: AgentSocket,
    message: unknown,
  ): Promise<{ reply: Welcome | Refusal; station?: Station; open?: () => Promise<void> }> {
    const version = (message as { protocol?: unknown } | null)?.protocol
    if (typeof version === 'number' && version !== AGENT_PROTOCOL)
      return { reply: refusal('unsupported_protocol', `This gateway speaks protocol ${AGENT_PROTOCOL}.`, false) }
    const parsed = Hello.safeParse(message)
    if (!parsed.success) return { reply: refusal('invalid_hello', z.prettifyError(parsed.error).slice(0, 1000), false) }
    const hello = parsed.data
    const principal = await options.authenticate(keyOf(socket), socket.request).catch((thrown: unknown) => {
      if (thrown instanceof ThroughlineError && thrown.code === 'rate_limit_exceeded') return thrown
      throw thrown
    })
    if (principal instanceof ThroughlineError) return { reply: refusal('unavailable', principal.message, true) }
    if (!principal)
      return {
        reply: refusal('unauthorized', 'No valid agent key or session token in auth.key of the handshake.', false),
      }
    if (hello.pool !== undefined && !mayJoin(principal, hello.pool))
      return { reply: refusal('unauthorized', `This key may not join pool ${hello.pool}.`, false) }
    if (closed || links.all.length >= options.maxAgents)
      return { reply: refusal('unavailable', 'This replica takes no more agents. Connect again.', true) }
    const served = await servable(principal, [...hello.sessions, ...hello.holding.map((held) => held.session)])
    const sessions = hello.sessions.filter((session) => served.has(session))
    const holding = hello.holding.filter((held) => served.has(held.session))
    if (hello.pool === undefined && sessions.length === 0)
      return {
        reply: refusal('unauthorized', 'This key may serve none of the named sessions, or they are gone.', false),
      }

    const link = socketLink(socket, {
      agent: hello.agent,
      run: hello.run ?? '',
      pool: hello.pool ?? null,
      since: parts.clock.now(),
      realm: hello.pool === undefined ? realmOf(principal) : '',
    })
    const held = principal.hold?.((why) => link.close(why))
    const release = () => held?.[Symbol.dispose]()
    socket.once('disconnect', release)
    if (!socket.connected) release()
    const joined = await join(parts, links, pools, link, { capacity: hello.capacity, sessions, holding })
    const backlog: (() => void)[] = []
    const opened = holdBack(socket, backlog)
    observe.agentJoined({
      agent: hello.agent,
      connection: socket.id,
      pool: link.pool,
      capacity: hello.capacity,
      resumed: joined.resumed.length,
      ...(principal.keyId && { keyId: principal.keyId }),
    })
    return {
      station: joined.station,
      reply: {
        ok: true,
        protocol: AGENT_PROTOCOL,
        replica: settings.replica,
        resumed: joined.resumed,
        ended: [
          ...joined.ended,
          // gone, or never this agent's to serve: it is not told which
          ...hello.holding
            .filter((held) => !served.has(held.session))
            .map(({ session, request }) => ({ session, request })),
        ],
        window: WINDOW,
        maxEventBytes: MAX_EVENT_BYTES,
      },
      async open() {
        await joined.open()
        fleet.evict(link)
        hear(parts, socket, joined.station)
        opened()
      },
    }
  }

  /** Which of these sessions the agent may serve. */
  async function servable(principal: AgentPrincipal, sessions: SessionId[]): Promise<Set<SessionId>> {
    const stored = await Promise.all(
      [...new Set(sessions)].map(async (session) => ({
        session,
        pool: (await parts.store.sessions.read(session))?.pool,
      })),
    )
    return new Set(
      stored.filter(({ session, pool }) => mayServe(principal, session, pool)).map(({ session }) => session),
    )
  }

  return {
    fleet,
    close() {
      closed = true
    },
    async stop() {
      closed = true
      agents.local.disconnectSockets(true)
      await Promise.all(parting)
      await io.close()
    },
  }
}

/** What the handshake shows for a key. */
function keyOf(socket: AgentSocket): string | undefined {
  const { key } = Object(socket.handshake.auth) as { key?: unknown }
  return typeof key === 'string' ? key : undefined
}

const refusal = (code: Refusal['code'], message: string, retry: boolean): Refusal => ({
  ok: false,
  code,
  message,
  retry,
})

/** Keeps what an agent says between its welcome and its sessions being taken up; the given function plays it back. */
function holdBack(socket: AgentSocket, backlog: (() => void)[]): () => void {
  const names = ['accepted', 'events', 'settled', 'leave'] as const
  const keep = names.map((name) => {
    const listener = (...args: unknown[]) =>
      void backlog.push(() => socket.listeners(name).forEach((hears) => (hears as (...a: unknown[]) => void)(...args)))
    socket.on(name, listener as never)
    return () => void socket.off(name, listener as never)
  })
  return () => {
    keep.forEach((stop) => stop())
    backlog.splice(0).forEach((say) => say())
  }
}
