import { io, type Socket } from 'socket.io-client'
import type { AgentToGateway, GatewayToAgent, Hello, Refusal, Welcome } from '../protocol/agent-wire.js'

export type AgentSocket = Socket<GatewayToAgent, AgentToGateway>

/** The gateway will not have this agent; trying again will not help. */
export class AgentRefused extends Error {
  override readonly name = 'AgentRefused'
  readonly code: string

  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

export interface ConnectionLog {
  info(message: string): void
  warn(message: string): void
}

export interface ConnectionParts {
  /** Tried in turn. */
  urls: string[]
  key: string | undefined
  hello: () => Hello
  /** Called on every new socket before anything can arrive on it. */
  listen: (socket: AgentSocket) => void
  welcomed: (welcome: Welcome) => void
  /** Ends everything. */
  refused: (err: AgentRefused) => void
  log: ConnectionLog
}

/** Connecting and saying hello may each take so long, ms. */
const PATIENCE_MS = 10_000
/** Back-off between attempts, ms: full jitter, doubling; it starts over after a connection that lasted, since then the trouble is a new one. */
const BACK_OFF = { least: 500, most: 5000, lastedMs: 2000 }

/**
 * The agent's connection to any replica: there is always one, or one is being made, until `close`. Socket.IO's own
 * reconnection is off: after some server disconnects it would stay away, and it cannot change the replica.
 */
export class AgentConnection {
  readonly #parts: ConnectionParts
  #current: AgentSocket | undefined
  #attempts = 0
  #upSince = 0
  #next = 0
  #closed = false
  #connecting: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(parts: ConnectionParts) {
    this.#parts = parts
    this.#next = Math.floor(Math.random() * parts.urls.length)
  }

  /** The socket to send on, when there is one. */
  get socket(): AgentSocket | undefined {
    return this.#current?.connected ? this.#current : undefined
  }

  /** Makes a new connection, then leaves the old one: nothing is missed in between. */
  connect(): Promise<void> {
    return (this.#connecting ??= this.#connect().finally(() => (this.#connecting = undefined)))
  }

  async #connect(): Promise<void> {
    while (!this.#closed) {
      const { urls, log } = this.#parts
      const url = urls[this.#next++ % urls.length]!
      try {
        await this.#attempt(url)
        return
      } catch (err) {
        if (err instanceof AgentRefused) {
          this.#closed = true
          return this.#parts.refused(err)
        }
        const pause = Math.random() * Math.min(BACK_OFF.least * 2 ** this.#attempts, BACK_OFF.most)
        if (this.#attempts++ % 10 === 0) log.warn(`${url}: ${(err as Error).message}; trying again`)
        await new Promise((resolve) => (this.#timer = setTimeout(resolve, pause)))
      }
    }
  }

  async #attempt(url: string): Promise<void> {
    const { key, listen, hello, welcomed, log } = this.#parts
    const socket: AgentSocket = io(`${url.replace(/\/$/, '')}/agents`, {
      transports: ['websocket'],
      forceNew: true,
      reconnection: false,
      timeout: PATIENCE_MS,
      auth: key === undefined ? {} : { key },
    })
    listen(socket)
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('connect', resolve)
        socket.once('connect_error', reject)
      })
      const reply: Welcome | Refusal = await socket.timeout(PATIENCE_MS).emitWithAck('hello', hello())
      if (!reply.ok && !reply.retry) throw new AgentRefused(reply.code, reply.message)
      if (!reply.ok) throw new Error(reply.message)
      if (this.#closed) throw new Error('closed')
      const old = this.#current
      this.#current = socket
      if (Date.now() - this.#upSince > BACK_OFF.lastedMs) this.#attempts = 0
      this.#upSince = Date.now()
      socket.once('disconnect', (why) => this.#lost(socket, why))
      welcomed(reply)
      old?.disconnect()
      if (!socket.connected) this.#lost(socket, 'before it was used')
      else log.info(`connected to ${url} (replica ${reply.replica})`)
    } catch (err) {
      socket.disconnect()
      throw err
    }
  }

  #lost(socket: AgentSocket, why: string): void {
    if (this.#closed || this.#current !== socket) return
    this.#current = undefined
    this.#parts.log.warn(`connection lost: ${why}`)
    const quick = Date.now() - this.#upSince < BACK_OFF.lastedMs
    this.#attempts = quick ? this.#attempts + 1 : 0
    this.#timer = setTimeout(() => void this.connect(), Math.random() * Math.min(BACK_OFF.least * 2 ** (this.#attempts - 1), BACK_OFF.most))
  }

  isCurrent(socket: AgentSocket): boolean {
    return this.#current === socket
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#current?.disconnect()
    this.#current = undefined
  }
}
