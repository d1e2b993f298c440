import type { Socket } from 'socket.io'
import { z } from 'zod'
import {
  Accepted,
  Events,
  Settled,
  type AgentToGateway,
  type GatewayToAgent,
  type NoticeMessage,
} from '../../protocol/agent-wire.js'
import { MAX_EVENT_BYTES, type AgentEvent } from '../../protocol/events.js'
import { isRequestId, sessionOf, type RequestId } from '../../protocol/ids.js'
import { fenced } from '../../core/deliver.js'
import { leave } from '../../core/presence.js'
import type { AgentLink } from '../../core/link.js'
import type { Station } from '../../core/links.js'
import type { Parts } from '../../core/parts.js'

export type AgentSocket = Socket<AgentToGateway, GatewayToAgent>

/** Requests whose late output this connection was told about; one telling is enough. */
const TOLD_LIMIT = 1000

/** What an agent is told before its connection is closed; where there is nothing, it just connects again. */
const NOTICES: Record<Parameters<AgentLink['close']>[0], NoticeMessage | null> = {
  superseded: {
    code: 'superseded',
    message: 'Another connection uses this agent id; it has the sessions now.',
  },
  revoked: { code: 'unauthorized', message: 'The key of this agent was revoked.' },
  expired: { code: 'unauthorized', message: 'The key of this agent has expired.' },
  unaccepted: null,
  drain: null,
  operator: null,
}

/** A Socket.IO connection as core sees an agent. */
export function socketLink(
  socket: AgentSocket,
  { agent, run, pool, since, realm }: Pick<AgentLink, 'agent' | 'pool' | 'since' | 'realm'> & { run: string },
): AgentLink {
  return {
    agent,
    run,
    pool,
    since,
    realm,
    connection: socket.id,
    transport: 'socket.io',
    confirms: true,
    turn: (message) => void socket.emit('turn', message),
    ack: (request, after) => void socket.emit('ack', { request, after }),
    resend: (request, after) => void socket.emit('resend', { request, after }),
    cancel: (session, request, reason) => void socket.emit('cancel', { session, request, reason }),
    answer: (session, request, permission, option) =>
      void socket.emit('answer', { session, request, permission, option }),
    move: () => void socket.emit('move', { reason: 'drain' }),
    close(why) {
      const notice = NOTICES[why]
      if (notice) socket.emit('notice', notice)
      socket.conn.close() // not disconnect(): that tells the client to stay away
    },
  }
}

/** Hears what an agent says once it has joined. */
export function hear(parts: Parts, socket: AgentSocket, station: Station): void {
  const { observe } = parts
  const told = new Set<RequestId>()
  const agent = station.link.agent

  function dropped(code: NoticeMessage['code'], detail: string, request?: RequestId): void {
    observe.badMessage({ agent, code, detail })
    socket.emit('notice', { code, message: detail, ...(request && { request }) })
  }

  function parse<T>(schema: z.ZodType<T>, message: unknown): T | undefined {
    const parsed = schema.safeParse(message)
    if (parsed.success) return parsed.data
    const { request } = Object(message) as { request?: unknown }
    const known = typeof request === 'string' && isRequestId(request) ? request : undefined
    dropped('invalid_message', z.prettifyError(parsed.error).slice(0, 500), known)
    return undefined
  }

  socket.on('accepted', (message) => {
    const said = parse(Accepted, message)
    const it = said && station.holds.get(sessionOf(said.request))
    if (it && it.request === said.request) it.accepted = true
  })

  socket.on('events', (message) => {
    const said = parse(Events, message)
    if (!said) return
    const { request, first, events } = said
    const large = events.find(tooLarge)
    if (large)
      return dropped(
        'event_too_large',
        `An event is at most ${MAX_EVENT_BYTES} bytes; this ${large.type} is larger.`,
        request,
      )
    const it = station.holds.get(sessionOf(request))
    if (it?.request === request && it.writer) {
      it.accepted = true
      it.writer.push(first, events)
      return
    }
    const why = it && it.overtaken !== request ? 'ended' : 'superseded'
    if (events.length > 0) fenced(parts, station, request, why, events.length)
    if (told.has(request)) return
    if (told.size >= TOLD_LIMIT) told.clear()
    told.add(request)
    station.link.cancel(sessionOf(request), request, why)
  })

  socket.on('settled', (message) => {
    const said = parse(Settled, message)
    const it = said && station.holds.get(sessionOf(said.request))
    if (!it?.settling || it.request !== '') return
    it.settling = false
    it.deliver()
  })

  socket.on('leave', (_message, answer) => {
    leave(parts, station).catch((err: unknown) => observe.outage('agent leaves', err)) // its entry fades by itself
    if (typeof answer === 'function') answer()
  })
}

function tooLarge(event: AgentEvent): boolean {
  const units = 'text' in event ? event.text.length : 'message' in event ? event.message.length : 0
  // a UTF-16 unit is at most six bytes of JSON; only large candidates are measured
  return units * 6 + 2048 > MAX_EVENT_BYTES && Buffer.byteLength(JSON.stringify(event)) > MAX_EVENT_BYTES
}
