import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Server, type Socket } from 'socket.io'
import {
  Accepted,
  Events,
  Hello,
  Settled,
  type AgentToGateway,
  type CancelMessage,
  type GatewayToAgent,
  type NoticeMessage,
  type Refusal,
  type TurnMessage,
  type Welcome,
} from '../../src/protocol/agent-wire.js'
import type { AgentEvent } from '../../src/protocol/events.js'
import {
  interactionId,
  requestOf,
  sessionId,
  sessionOf,
  type RequestId,
  type SessionId,
} from '../../src/protocol/ids.js'
import { eventually } from '../support/eventually.js'

/** One connection of an agent, as the gateway side sees it. */
export interface Seat {
  readonly hello: Hello
  readonly socket: Socket<AgentToGateway, GatewayToAgent>
  /** What came over this connection. */
  readonly batches: { request: RequestId; first: number; events: AgentEvent[] }[]
  readonly accepted: RequestId[]
  readonly settled: RequestId[]
  left: boolean
  closed: boolean
  turn(message: TurnMessage): void
  ack(request: RequestId, after: number): void
  /** The log is cut down to `after` and its rest asked for. */
  resend(request: RequestId, after: number): void
  cancel(request: RequestId, reason?: CancelMessage['reason']): void
  move(): void
  notice(message: NoticeMessage): void
  /** Ends the connection: `cut` as a dying replica does, `kick` so that Socket.IO clients would stay away. */
  end(how: 'cut' | 'kick'): void
}

/** The gateway's side of the wire with a log in memory, doing what the test says. */
export interface ScriptedGateway extends AsyncDisposable {
  readonly url: string
  /** Connections that have said hello, in order. */
  readonly seats: Seat[]
  /** Attempts to connect. */
  attempts: number
  /** Answers `hello`; null: never. Default: goes on with every request that it has a log of. */
  answer: (hello: Hello) => Partial<Welcome> | Refusal | null | Promise<Partial<Welcome> | Refusal>
  /** Whether events are acknowledged as they come. */
  acks: boolean
  window: Welcome['window']
  /** Events that it does not know, as an older one: a batch with one of them is dropped, which the agent is told. */
  refuses: (event: AgentEvent) => boolean
  /** What was taken of a request, in order. */
  log(request: RequestId): AgentEvent[]
  /** Messages that broke the rules: a hole in the numbers, something malformed. */
  readonly faults: string[]
  /** The n-th connection, from 0, once it has said hello. */
  seat(n: number): Promise<Seat>
}

export async function startScriptedGateway({ path = '/socket.io/' } = {}): Promise<ScriptedGateway> {
  const http = createServer()
  const io = new Server<AgentToGateway, GatewayToAgent>(http, { path, transports: ['websocket'], serveClient: false })
  const logs = new Map<RequestId, AgentEvent[]>()
  const refused = new Set<RequestId>()
  const it: ScriptedGateway = {
    url: '',
    seats: [],
    attempts: 0,
    acks: true,
    window: { events: 512, bytes: 2 * 1024 * 1024 },
    refuses: () => false,
    faults: [],
    log: (request) => logs.get(request) ?? [],
    seat: (n) => eventually(() => it.seats[n] ?? false),
    answer: (hello) => ({
      resumed: hello.holding.map(({ session, request }) => ({ session, request, after: it.log(request).length })),
    }),
    async [Symbol.asyncDispose]() {
      await io.close()
    },
  }

  io.of('/agents').on('connection', (socket: Socket<AgentToGateway, GatewayToAgent>) => {
    it.attempts++
    socket.once('hello', (message, reply) => {
      const hello = Hello.parse(message)
      const seat = seatOf(socket, hello)
      it.seats.push(seat)
      const answer = it.answer(hello)
      if (answer === null) return
      void Promise.resolve(answer).then((said) => {
        if (said.ok === false) return reply(said as Refusal)
        reply({
          ok: true,
          protocol: 1,
          replica: 'scripted',
          resumed: [],
          ended: [],
          window: it.window,
          maxEventBytes: 256 * 1024,
          ...said,
        })
      })
    })
  })

  function seatOf(socket: Seat['socket'], hello: Hello): Seat {
    const seat: Seat = {
      hello,
      socket,
      batches: [],
      accepted: [],
      settled: [],
      left: false,
      closed: false,
      turn: (message) => void socket.emit('turn', message),
      ack: (request, after) => void socket.emit('ack', { request, after }),
      resend(request, after) {
        logs.set(request, it.log(request).slice(0, after))
        socket.emit('resend', { request, after })
      },
      cancel: (request, reason = 'cancelled') =>
        void socket.emit('cancel', { session: sessionOf(request), request, reason }),
      move: () => void socket.emit('move', { reason: 'drain' }),
      notice: (message) => void socket.emit('notice', message),
      end: (how) => void (how === 'cut' ? socket.conn.close() : socket.disconnect(true)),
    }
    socket.on('accepted', (m) => void seat.accepted.push(Accepted.parse(m).request))
    socket.on('settled', (m) => void seat.settled.push(Settled.parse(m).request))
    socket.on('leave', (_m, answer) => {
      seat.left = true
      answer()
    })
    socket.on('disconnect', () => (seat.closed = true))
    socket.on('events', (m) => {
      const parsed = Events.safeParse(m)
      if (!parsed.success) return void it.faults.push(parsed.error.message)
      const { request, first, events } = parsed.data
      seat.batches.push({ request, first, events })
      const log = it.log(request)
      if (events.some((event) => it.refuses(event))) {
        refused.add(request)
        return seat.notice({ code: 'invalid_message', message: 'There is no such event.', request })
      }
      if (first > log.length + 1 && refused.has(request)) return seat.resend(request, log.length)
      if (first > log.length + 1) return void it.faults.push(`hole: ${first} after ${log.length}`)
      logs.set(request, [...log, ...events.slice(log.length + 1 - first)])
      if (it.acks) seat.ack(request, it.log(request).length)
    })
    return seat
  }

  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  return Object.assign(it, { url: `http://127.0.0.1:${(http.address() as AddressInfo).port}` })
}

let made = 0

/** A turn as the gateway sends it: of a new session, or the next one (or the next attempt) of a known one. */
export function newTurn(more: Partial<TurnMessage> = {}): TurnMessage {
  const random = (length: number) => crypto.getRandomValues(new Uint8Array(length))
  const session: SessionId = more.session ?? sessionId(++made, random(16))
  const interaction = more.interaction ?? interactionId(session, random(10))
  const attempt = more.attempt ?? 1
  return {
    session,
    interaction,
    attempt,
    request: requestOf(interaction, attempt),
    pool: 'coder',
    thread: null,
    input: 'hello',
    metadata: {},
    ...more,
  }
}

/** The text of what was said, and the last event's type. */
export function told(events: AgentEvent[]): { text: string; end: string | undefined } {
  const last = events.at(-1)
  return {
    text: events.map((event) => (event.type === 'entry.append' ? event.text : '')).join(''),
    end: last?.type === 'completed' || last?.type === 'failed' ? last.type : undefined,
  }
}
