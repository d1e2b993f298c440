import { io, type Socket } from 'socket.io-client'
import type {
  AckMessage,
  AgentToGateway,
  CancelMessage,
  GatewayToAgent,
  NoticeMessage,
  Refusal,
  TurnMessage,
  Welcome,
} from '../../src/protocol/agent-wire.js'
import type { AgentEvent } from '../../src/protocol/events.js'
import type { RequestId, SessionId } from '../../src/protocol/ids.js'
import { eventually } from './eventually.js'

export interface RawAgentOptions {
  url: string
  agent?: string
  pool?: string
  capacity?: number
  sessions?: SessionId[]
  holding?: { session: SessionId; request: RequestId; acked?: number }[]
  key?: string
  /** Answer `accepted` to every turn by itself; default true. */
  accepts?: boolean
}

/** An agent without a mind of its own, on the real wire: it records what comes and sends what the test says. */
export interface RawAgent {
  socket: Socket<GatewayToAgent, AgentToGateway>
  welcome: Welcome | Refusal
  turns: TurnMessage[]
  acks: AckMessage[]
  resends: AckMessage[]
  cancels: CancelMessage[]
  notices: NoticeMessage[]
  moves: number
  /** The n-th turn (from 0), once it has come. */
  turn(n?: number): Promise<TurnMessage>
  send(request: RequestId, first: number, ...events: AgentEvent[]): void
  /** Resolves when everything up to `after` is acknowledged. */
  acked(request: RequestId, after: number): Promise<void>
  close(): void
}

export const text = (said: string, entry = 't'): AgentEvent => ({ type: 'entry.append', entry, text: said })
export const completed: AgentEvent = { type: 'completed', reason: 'end_turn' }

let made = 0

export async function startRawAgent(options: RawAgentOptions): Promise<RawAgent> {
  const { url, accepts = true } = options
  const socket: RawAgent['socket'] = io(`${url}/agents`, {
    transports: ['websocket'],
    forceNew: true,
    reconnection: false,
    auth: options.key === undefined ? {} : { key: options.key },
  })
  const it: RawAgent = {
    socket,
    welcome: undefined as never,
    turns: [],
    acks: [],
    resends: [],
    cancels: [],
    notices: [],
    moves: 0,
    turn: (n = 0) => eventually(() => it.turns[n] ?? false, { limitMs: 15_000 }),
    send: (request, first, ...events) => void socket.emit('events', { request, first, events }),
    acked: async (request, after) => {
      await eventually(() => it.acks.some((ack) => ack.request === request && ack.after >= after), { limitMs: 15_000 })
    },
    close: () => void socket.disconnect(),
  }
  socket.on('turn', (turn) => {
    it.turns.push(turn)
    if (accepts) socket.emit('accepted', { request: turn.request })
  })
  socket.on('ack', (m) => void it.acks.push(m))
  socket.on('resend', (m) => void it.resends.push(m))
  socket.on('cancel', (m) => void it.cancels.push(m))
  socket.on('notice', (m) => void it.notices.push(m))
  socket.on('move', () => void it.moves++)
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('connect_error', reject)
  })
  it.welcome = await socket.timeout(10_000).emitWithAck('hello', {
    protocol: 1,
    agent: options.agent ?? `raw-${process.pid}-${++made}`,
    capacity: options.capacity ?? 1,
    ...(options.pool !== undefined && { pool: options.pool }),
    sessions: options.sessions ?? [],
    holding: options.holding ?? [],
  })
  return it
}
