import type { TurnMessage } from '../../src/protocol/agent-wire.js'
import type { AgentEvent } from '../../src/protocol/events.js'
import type { RequestId } from '../../src/protocol/ids.js'
import { startRawAgent, type RawAgent } from '../support/raw-agent.js'

/** One turn of the trial: what the agent says, and how far the gateway has acknowledged it. */
export interface Script {
  turn: TurnMessage
  events: AgentEvent[]
  acked: number
  sent: number
}

/**
 * An agent with a known script per turn that is as untidy as real ones: it connects to any replica whenever the
 * connection breaks or it is told to move, and after each reconnect sends more than was asked for.
 */
export class TrialAgent {
  readonly scripts = new Map<RequestId, Script>()
  readonly #id: string
  readonly #urls: string[]
  readonly #capacity: number
  readonly #say: (turn: TurnMessage) => AgentEvent[]
  #connection: RawAgent | undefined
  #at: number
  #closed = false
  #connecting: Promise<void> | undefined
  moves = 0

  constructor(id: string, urls: string[], capacity: number, say: (turn: TurnMessage) => AgentEvent[]) {
    this.#id = id
    this.#urls = urls
    this.#capacity = capacity
    this.#say = say
    this.#at = Number(id.replace(/\D/g, '')) % urls.length
  }

  get finished(): number {
    return [...this.scripts.values()].filter((it) => it.acked === it.events.length).length
  }

  /** Which replica it is on. */
  get replica(): number {
    return this.#at
  }

  get connection(): RawAgent | undefined {
    return this.#connection
  }

  /** Connects until it has worked. */
  connect(): Promise<void> {
    return (this.#connecting ??= this.#connect().finally(() => (this.#connecting = undefined)))
  }

  async #connect(): Promise<void> {
    for (let tries = 0; !this.#closed && tries < 400; tries++) {
      try {
        const connection = await startRawAgent({
          url: this.#urls[this.#at]!,
          agent: this.#id,
          pool: 'coder',
          capacity: this.#capacity,
          holding: [...this.scripts.values()]
            .filter((it) => it.acked < it.events.length)
            .map(({ turn, acked }) => ({ session: turn.session, request: turn.request, acked })),
        })
        if (!connection.welcome.ok) throw new Error(connection.welcome.message)
        this.#adopt(connection)
        for (const { request, after } of connection.welcome.resumed) {
          const it = this.scripts.get(request)!
          it.acked = after
          // more than was asked for: what is known already must be recognised
          const from = Math.max(0, after - 7)
          connection.send(request, from + 1, ...it.events.slice(from, Math.max(it.sent, after)))
        }
        return
      } catch {
        this.#at = (this.#at + 1) % this.#urls.length
        await new Promise((resolve) => setTimeout(resolve, 25))
      }
    }
  }

  #adopt(connection: RawAgent): void {
    this.#connection = connection
    connection.socket.on('turn', (turn) => {
      if (!this.scripts.has(turn.request))
        this.scripts.set(turn.request, { turn, events: this.#say(turn), acked: 0, sent: 0 })
    })
    for (const turn of connection.turns)
      if (!this.scripts.has(turn.request))
        this.scripts.set(turn.request, { turn, events: this.#say(turn), acked: 0, sent: 0 })
    connection.socket.on('ack', ({ request, after }) => {
      const it = this.scripts.get(request)
      if (it) it.acked = Math.max(it.acked, after)
    })
    connection.socket.on('resend', ({ request, after }) => {
      const it = this.scripts.get(request)
      if (!it) return
      it.acked = after
      connection.send(request, after + 1, ...it.events.slice(after, it.sent))
    })
    connection.socket.on('disconnect', () => {
      if (this.#connection !== connection || this.#closed) return
      this.#at = (this.#at + 1) % this.#urls.length
      void this.connect()
    })
  }

  /** Says the next `count` events of every turn, at most 200 ahead of the acknowledgement, but not the last `keep`. */
  speak(count: number, keep: number): void {
    const connection = this.#connection
    if (!connection?.socket.connected) return
    for (const it of this.scripts.values()) {
      const to = Math.min(it.events.length - keep, it.sent + count, it.acked + 200)
      if (to <= it.sent) continue
      connection.send(it.turn.request, it.sent + 1, ...it.events.slice(it.sent, to))
      it.sent = to
    }
  }

  /** Goes to another replica in mid-turn; the old connection stays open and is given back. */
  async move(to: number): Promise<RawAgent | undefined> {
    const old = this.#connection
    this.#connection = undefined
    this.#at = to
    this.moves++
    await this.connect()
    return old
  }

  close(): void {
    this.#closed = true
    this.#connection?.close()
  }
}
