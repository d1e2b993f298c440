import type { Hello, TurnMessage, Welcome } from '../protocol/agent-wire.js'
import type { RequestId } from '../protocol/ids.js'
import { AgentConnection, AgentRefused, type AgentSocket, type ConnectionLog } from './agent-connection.js'
import { Outbox, TAIL, type Window } from '../protocol/outbox.js'
import { introductionOf, type ServeOptions } from './agent-options.js'
import { Turn } from './agent-turn.js'

/*
 * The agent's half of Throughline: serve turns, over any number of broken connections and restarted gateways.
 */
export { AgentRefused, type ConnectionLog } from './agent-connection.js'
export { TurnEnded, type ToolCall, type Turn } from './agent-turn.js'
export type { ServeOptions } from './agent-options.js'
export type { Ask, Decision } from './agent-permission.js'
export type { EntryKind, EntryStatus, PermissionKind, PermissionOption, StopReason, Usage } from '../protocol/events.js'
export type { InteractionId, RequestId, SessionId } from '../protocol/ids.js'

export interface Agent extends AsyncDisposable {
  /** The agent's id. */
  readonly id: string
  readonly connected: boolean
  /**
   * Resolves after `close`; rejects with `AgentRefused` when the gateway will not have this agent, or another process with
   * its id keeps taking over.
   */
  readonly closed: Promise<void>
  /**
   * Takes no new sessions, finishes the turns in hand (for `limitMs` at most, default 30 s; then they are aborted),
   * disconnects. What was not finished goes to another agent where that is possible.
   */
  close(limitMs?: number): Promise<void>
}

/** Answers one turn. Returning completes it, throwing fails it with code `agent_error`. */
export type Handler = (turn: Turn) => Promise<void> | void

/** A new turn of a session whose former handler does not return starts after this time all the same, ms. */
const HANDOVER_MS = 10_000
/** Ended requests that are remembered, so that one delivered again is not run again; the tails of the last of them. */
const REMEMBERED = 10_000
const TAILS = 1000
/** Ended turns that a `hello` names, in case Redis has lost their end. The gateway looks at each. */
const ENDED_HELD = 32
/** A second process with our id takes over once more within this time of the last: one of us must go, ms. */
const RIVAL_MS = 30_000
/** How long a gateway may take to take note that we leave, ms. */
const LEAVE_MS = 2000
/** How long handlers may take to return after `close` has aborted them, ms. */
const ABORTED_MS = 2000

interface InHand {
  turn: Turn
  outbox: Outbox
  /** The handler has returned, or will not be started. */
  returned: boolean
  /** Settles when the handler has returned. */
  running: Promise<void>
  endedAt: number
  /** The gateway will never take what was sent, and why: an older one, perhaps, that does not know it. */
  unsendable?: { code: string; message: string }
}

/**
 * Serves turns until `close`. Connects, and connects again, to any replica; numbers what handlers say, keeps it until it
 * is safe, sends it again where that is asked for; recognises a turn that is delivered twice.
 */
export function serve(options: ServeOptions, handler: Handler): Agent {
  const urls = [options.url].flat()
  const introduction = introductionOf(options)
  const id = introduction.agent
  const log: ConnectionLog = options.log ?? {
    info: () => {},
    warn: (message) => void process.stderr.write(`throughline agent: ${message}\n`),
  }
  const inHand = new Map<RequestId, InHand>()
  const finished = new Set<RequestId>()
  const dirty = new Set<RequestId>()
  let window: Window = { events: 256, bytes: 1024 * 1024 }
  let flushing = false
  let closing: Promise<void> | undefined
  let supersededAt = -Infinity
  let settle = { resolve: () => {}, reject: (_: Error) => {} }
  const closed = new Promise<void>((resolve, reject) => (settle = { resolve, reject }))
  closed.catch(() => {}) // whoever wants to know awaits it

  const connection = new AgentConnection({
    urls,
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
    const all = [...inHand.values()]
    const ended = all.filter(({ turn, outbox }) => outbox.over && !turn.signal.aborted).slice(-ENDED_HELD)
    const holding = [...ended, ...all.filter(({ outbox }) => !outbox.over)]
    return {
      ...introduction,
      ...(closing && { capacity: 0 }),
      holding: holding.map(({ turn, outbox }) => ({
        session: turn.session,
        request: turn.request,
        acked: outbox.acked,
      })),
    }
  }

  function welcomed(welcome: Welcome): void {
    window = welcome.window
    for (const { request } of welcome.ended) takeAway(request, 'ended')
    for (const { request, after } of welcome.resumed) rewind(request, after)
    if (closing) connection.socket?.emit('leave', {}, () => {})
  }

  function listen(socket: AgentSocket): void {
    socket.on('turn', (message) => {
      if (!connection.isCurrent(socket)) return // our newer connection has not named it: it comes again over that one
      socket.emit('accepted', { request: message.request })
      const known = inHand.get(message.request)
      if (known && (!known.turn.signal.aborted || known.turn.ended)) return probe(known)
      if (!finished.has(message.request)) begin(message) // taken away once and delivered anew, it is run anew
    })
    socket.on('ack', ({ request, after }) => {
      const it = inHand.get(request)
      if (!it) return
      it.outbox.ack(after, Date.now())
      if (it.outbox.over) it.endedAt = Date.now()
      it.turn.room()
      flush(request) // the window has moved
    })
    socket.on('resend', ({ request, after }) => rewind(request, after))
    socket.on('cancel', ({ request, reason }) => {
      if (reason !== 'superseded' || connection.isSuperseded(socket)) takeAway(request, reason)
    })
    socket.on('answer', ({ request, permission, option }) => inHand.get(request)?.turn.answer(permission, option))
    socket.on('move', () => {
      if (connection.isCurrent(socket)) void connection.connect()
    })
    socket.on('notice', ({ code, message, request }) => {
      if (code === 'superseded') return void (connection.isSuperseded(socket) && superseded())
      log.warn(`${code}: ${message}`)
      const it = request && inHand.get(request)
      if (!it || it.outbox.over) return
      // sending it again would be refused again: the turn fails, after what the gateway says that it has
      it.unsendable = { code, message }
      probe(it)
    })
  }

  /** Once it may be a late word about a connection of our own; who is superseded again at once has a rival. */
  function superseded(): void {
    log.warn(`another connection uses the agent id "${id}"`)
    if (Date.now() - supersededAt < RIVAL_MS) {
      stop('superseded')
      settle.reject(new AgentRefused('superseded', `Another process uses the agent id "${id}".`))
    }
    supersededAt = Date.now()
  }

  /** Asks, by a sign of life, whether the gateway has all that was sent: if not, it says so. */
  function probe({ turn, outbox }: InHand): void {
    connection.socket?.emit('events', { request: turn.request, first: outbox.sent + 1, events: [] })
  }

  function begin(message: TurnMessage): void {
    const outbox = new Outbox()
    const turn = new Turn(message, outbox, {
      flush: () => flush(message.request),
      working: () => probe(it),
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
      const returned = Promise.all(before.map((old) => old.running))
      await within(HANDOVER_MS, returned, turn.signal)
    }
    try {
      if (!turn.signal.aborted) await handler(turn)
      if (!turn.ended && !turn.signal.aborted) await turn.complete()
    } catch (err) {
      if (turn.signal.aborted || turn.ended) {
        if (!(err instanceof Error && err.name === 'AbortError'))
          log.warn(`handler, after its turn was over: ${String(err)}`)
        return
      }
      log.warn(`a handler threw: ${(err instanceof Error && err.stack) || String(err)}`)
      await turn.fail('agent_error', err instanceof Error ? err.message : String(err)).catch(() => {}) // taken away meanwhile
    }
  }

  function rewind(request: RequestId, after: number): void {
    const it = inHand.get(request)
    if (!it) return
    if (it.unsendable && !it.outbox.over)
      return it.turn.failAfter(after, it.unsendable.code, it.unsendable.code, it.unsendable.message)
    if (!it.outbox.rewind(after, Date.now())) {
      log.warn(`${request}: the gateway needs events from ${after + 1} on, which are no longer kept; the turn fails`)
      return it.turn.failAfter(
        after,
        'lost',
        'agent_output_lost',
        'The gateway lost a part of the answer that the agent no longer keeps.',
      )
    }
    it.turn.room()
    flush(request)
  }

  function takeAway(request: RequestId, reason: string): void {
    const it = inHand.get(request)
    if (!it) return
    if (it.returned && it.turn.ended) return done(it.turn) // its handler is past being told
    it.turn.takeAway(reason)
    it.endedAt = Date.now()
  }

  /** Nothing of this turn will be asked for any more. */
  function done(turn: Turn): void {
    inHand.delete(turn.request)
    if (turn.ended) finished.add(turn.request)
    if (finished.size > REMEMBERED) finished.delete(finished.values().next().value!)
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
        for (let batch = outbox?.take(window); batch; batch = outbox!.take(window))
          socket.emit('events', { request: each, ...batch })
      }
      dirty.clear()
    })
  }

  function forget(): void {
    const tails = [...inHand.values()].filter((it) => it.returned && it.outbox.over)
    for (const { outbox } of inHand.values()) outbox.trim(Date.now())
    for (const [i, { turn, endedAt }] of tails.entries()) {
      if (tails.length - i <= TAILS && Date.now() - endedAt < TAIL.ms) continue
      done(turn)
    }
  }

  function stop(reason: string): void {
    clearInterval(housekeeping)
    connection.close()
    for (const { turn, returned } of inHand.values()) if (!returned && !turn.signal.aborted) turn.takeAway(reason)
  }

  async function leave(limitMs: number): Promise<void> {
    // heard before we disconnect, or we would count as lost and our turns wait for the grace period
    await new Promise<void>(
      (resolve) => connection.socket?.timeout(LEAVE_MS).emit('leave', {}, () => resolve()) ?? resolve(),
    )
    await until(() => [...inHand.values()].every((it) => it.returned && it.outbox.over), limitMs)
    stop('closed')
    await until(() => [...inHand.values()].every((it) => it.returned), ABORTED_MS)
    settle.resolve()
  }

  return {
    id,
    get connected() {
      return connection.socket !== undefined
    },
    closed,
    close(limitMs = 30_000) {
      closing ??= leave(limitMs)
      return closing
    },
    [Symbol.asyncDispose]() {
      return this.close()
    },
  }
}

/** Waits for something, at most so long, and not past an abort. */
async function within(ms: number, something: Promise<unknown>, signal: AbortSignal): Promise<void> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(ms)])
  await Promise.race([something, new Promise((resolve) => limit.addEventListener('abort', resolve, { once: true }))])
}

async function until(holds: () => boolean, limitMs: number): Promise<void> {
  for (const end = Date.now() + limitMs; !holds() && Date.now() < end;)
    await new Promise((resolve) => setTimeout(resolve, 20))
}
