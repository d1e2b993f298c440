import { AGENT_PROTOCOL, type Hello, type TurnMessage, type Welcome } from '../protocol/agent-wire.js'
import type { RequestId, SessionId } from '../protocol/ids.js'
import { AgentConnection, AgentRefused, type AgentSocket, type ConnectionLog } from './agent-connection.js'
import { Outbox, TAIL } from './agent-outbox.js'
import { Turn, TurnEnded } from './agent-turn.js'

/*
 * The agent's half of Throughline: serve turns, over any number of broken connections and restarted gateways.
 */
export { AgentRefused } from './agent-connection.js'
export { Turn, TurnEnded, type ToolCall } from './agent-turn.js'

export interface ServeOptions {
  /** Where the gateway is, such as `https://agents.example.com`, or several addresses that are tried in turn. */
  url: string | string[]
  /** The pool to join: the agent gets any session of it. */
  pool?: string
  /** Turns at a time, default 1. */
  capacity?: number
  /** Sessions to serve by name, without a pool. */
  sessions?: SessionId[]
  /** Agent key. */
  key?: string
  /** A name that stays the same over restarts brings running turns back at once. Default: a new one per process. */
  agent?: string
  log?: ConnectionLog
}

export interface Agent {
  /** The agent's id. */
  readonly id: string
  /** Resolves after `close`; rejects with `AgentRefused` when the gateway will not have this agent. */
  readonly closed: Promise<void>
  /** Takes no new turns, finishes those in hand (at most `limitMs`, default 30 s), disconnects. */
  close(limitMs?: number): Promise<void>
}

/** Answers one turn. Returning completes it, throwing fails it with code `agent_error`. */
export type Handler = (turn: Turn) => Promise<void> | void

/** Most events and bytes of one message. */
const BATCH = { events: 256, bytes: 512 * 1024 }
/** A new turn of a session whose former handler does not return starts after this time all the same, ms. */
const HANDOVER_MS = 10_000
/** Ended requests that are remembered, so that one delivered again is not run again. */
const REMEMBERED = 10_000

interface InHand {
  turn: Turn
  outbox: Outbox
  /** The handler has returned, or will not be started. */
  returned: boolean
  /** Settles when the handler has returned. */
  running: Promise<void>
  endedAt: number
}

/**
 * Serves turns until `close`. Connects, and connects again, to any replica; numbers what handlers say, keeps it until it
 * is safe, sends it again where that is asked for; recognises a turn that is delivered twice.
 */
export function serve(options: ServeOptions, handler: Handler): Agent {
  const id = options.agent ?? `agent_${globalThis.crypto.randomUUID()}`
  const log: ConnectionLog = options.log ?? { info: () => {}, warn: (message) => console.warn(`throughline agent: ${message}`) }
  const inHand = new Map<RequestId, InHand>()
  const over = new Set<RequestId>()
  const dirty = new Set<RequestId>()
  let window: Welcome['window'] = { events: 256, bytes: 1024 * 1024 }
  let flushing = false
  let settle = { resolve: () => {}, reject: (_: Error) => {} }
  const closed = new Promise<void>((resolve, reject) => (settle = { resolve, reject }))
  closed.catch(() => {}) // whoever wants to know awaits it

  const connection = new AgentConnection({
    urls: [options.url].flat(),
    key: options.key,
    hello,
    listen,
    welcomed,
    refused(err) {
      log.warn(err.message)
      stop('refused')
      settle.reject(err)
    },
    log,
  })
  const housekeeping = setInterval(forget, 5000)
  housekeeping.unref?.()
  void connection.connect()

  function hello(): Hello {
    return {
      protocol: AGENT_PROTOCOL,
      agent: id,
      capacity: options.capacity ?? 1,
      sessions: options.sessions ?? [],
      ...(options.pool !== undefined && { pool: options.pool }),
      holding: [...inHand.values()]
        .filter((it) => !isDone(it))
        .map(({ turn, outbox }) => ({ session: turn.session, request: turn.request, acked: outbox.acked })),
    }
  }

  function welcomed(welcome: Welcome): void {
    window = welcome.window
    for (const { request } of welcome.ended) takeAway(request, 'ended')
    for (const { request, after } of welcome.resumed) rewind(request, after)
  }

  function listen(socket: AgentSocket): void {
    socket.on('turn', (message) => {
      socket.emit('accepted', { request: message.request })
      if (!inHand.has(message.request) && !over.has(message.request)) begin(message)
    })
    socket.on('ack', ({ request, after }) => {
      const it = inHand.get(request)
      it?.outbox.ack(after, Date.now())
      it?.turn.room()
    })
    socket.on('resend', ({ request, after }) => rewind(request, after))
    socket.on('cancel', ({ request, reason }) => takeAway(request, reason))
    socket.on('move', () => {
      if (connection.isCurrent(socket)) void connection.connect()
    })
    socket.on('notice', ({ code, message, request }) => {
      log.warn(`${code}: ${message}`)
      if (code === 'superseded' && connection.isCurrent(socket)) {
        stop('superseded')
        settle.reject(new AgentRefused(code, `Another process uses the agent id "${id}".`))
      } else if (request && (code === 'event_too_large' || code === 'invalid_message')) {
        // sending it again would be refused again
        takeAway(request, code)
      }
    })
  }

  function begin(message: TurnMessage): void {
    const outbox = new Outbox()
    const turn = new Turn(message, outbox, {
      flush: () => flush(message.request),
      working: () => connection.socket?.emit('events', { request: message.request, first: outbox.last + 1, events: [] }),
      window: () => window,
    })
    const before = [...inHand.values()].filter((it) => it.turn.session === message.session && !it.returned)
    const it: InHand = { turn, outbox, returned: false, running: Promise.resolve(), endedAt: 0 }
    inHand.set(message.request, it)
    it.running = run(it, before).finally(() => {
      it.returned = true
      it.endedAt = Date.now()
      connection.socket?.emit('settled', { request: message.request })
    })
  }

  async function run({ turn }: InHand, before: InHand[]): Promise<void> {
    if (before.length > 0) {
      for (const old of before) old.turn.takeAway('superseded')
      const patience = new Promise<void>((resolve) => setTimeout(resolve, HANDOVER_MS).unref?.())
      await Promise.race([Promise.all(before.map((old) => old.running)), patience])
    }
    try {
      if (!turn.signal.aborted) await handler(turn)
      if (!turn.ended && !turn.signal.aborted) await turn.complete()
    } catch (err) {
      if (turn.signal.aborted || turn.ended) {
        if (!(err instanceof Error && err.name === 'AbortError')) log.warn(`handler, after its turn was over: ${String(err)}`)
        return
      }
      await turn.fail('agent_error', err instanceof Error ? err.message : String(err)).catch(() => {}) // taken away meanwhile
    }
  }

  function rewind(request: RequestId, after: number): void {
    const it = inHand.get(request)
    if (!it) return
    if (!it.outbox.rewind(after, Date.now())) {
      log.warn(`${request}: the gateway needs events from ${after + 1} on, which are no longer kept; the turn is given up`)
      return takeAway(request, 'lost')
    }
    it.turn.room()
    flush(request)
  }

  function takeAway(request: RequestId, reason: string): void {
    const it = inHand.get(request)
    if (!it || it.turn.signal.aborted) return
    it.turn.takeAway(reason)
    it.endedAt = Date.now()
  }

  /** Sends what is there at the end of this tick: what was said meanwhile goes together. */
  function flush(request: RequestId): void {
    dirty.add(request)
    if (flushing) return
    flushing = true
    setImmediate(() => {
      flushing = false
      const socket = connection.socket
      if (!socket) return // after the next hello the gateway says from where to go on
      for (const each of dirty) {
        const outbox = inHand.get(each)?.outbox
        for (let batch = outbox?.take(BATCH); batch; batch = outbox!.take(BATCH)) socket.emit('events', { request: each, ...batch })
      }
      dirty.clear()
    })
  }

  function forget(): void {
    for (const [request, it] of inHand) {
      it.outbox.trim(Date.now())
      if (!it.returned || !isDone(it) || Date.now() - it.endedAt < TAIL.ms) continue
      inHand.delete(request)
      over.add(request)
      if (over.size > REMEMBERED) over.delete(over.values().next().value!)
    }
  }

  function stop(reason: string): void {
    clearInterval(housekeeping)
    connection.close()
    for (const { turn } of inHand.values()) if (!turn.signal.aborted) turn.takeAway(reason)
  }

  return {
    id,
    closed,
    async close(limitMs = 30_000) {
      const until = Date.now() + limitMs
      const busy = () => [...inHand.values()].some((it) => !it.returned || !isDone(it))
      connection.socket?.emit('leave', {}, () => {})
      while (busy() && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 20))
      stop('closed')
      settle.resolve()
    },
  }
}

/** Nothing of this turn is left to send or to be acknowledged. */
const isDone = ({ turn, outbox }: InHand): boolean => turn.signal.aborted || (turn.ended && outbox.pending.events === 0)

