import { io, type Socket } from 'socket.io-client'
import type { AgentToGateway, GatewayToAgent, Hello, Welcome } from '../protocol/agent-wire.js'

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

/** How long opening a connection may take, and then the answer to hello, ms: together well within the grace period. */
const PATIENCE_MS = { open: 3000, hello: 6000 }
/** Back-off between attempts, ms: full jitter, doubling; it starts over after a connection that lasted, since then the trouble is a new one. */
const BACK_OFF = { least: 500, most: 5000, lastedMs: 2000 }

const backOffMs = (failures: number): number => Math.random() * Math.min(BACK_OFF.least * 2 ** failures, BACK_OFF.most)

/**
 * The agent's connection to any replica: there is always one, or one is being made, until `close`. Socket.IO's own
 * reconnection is off: after some server disconnects it would stay away, and it cannot change the replica.
 */
export class AgentConnection {
  readonly #parts: ConnectionParts
  #current: AgentSocket | undefined
  /** A newer connection has said hello and waits for its answer. */
  #introduced = false
  /** A hello went out and no welcome came: whether that replica took our turns all the same is not known until the next one. */
  #unanswered = false
  #attempts = 0
  #upSince = 0
  #next = 0
  #closed = false
  #connecting: Promise<void> | undefined
  /** Ends the attempt or the pause under way. */
  #hurry = () => {}
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

  /**
   * Whether this socket's word counts: it is the one in use, and no newer one of ours has named the turns in hand. After
   * that only the newer one's welcome says what becomes of them; the old replica takes us for superseded.
   */
  isCurrent(socket: AgentSocket): boolean {
    return this.#current === socket && !this.#introduced
  }

  /** Whether "superseded" over this socket means somebody else, and no hello of our own that has not been answered. */
  isSuperseded(socket: AgentSocket): boolean {
    return this.isCurrent(socket) && !this.#unanswered
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#hurry()
    this.#current?.disconnect()
    this.#current = undefined
  }

  async #connect(): Promise<void> {
    const { urls, log } = this.#parts
    while (!this.#closed) {
      const url = urls[this.#next++ % urls.length]!
      try {
        return await this.#attempt(url)
      } catch (err) {
        if (this.#closed) return
        if (err instanceof AgentRefused) {
          this.close()
          return this.#parts.refused(err)
        }
        if (this.#attempts % 10 === 0) log.warn(`${url}: ${(err as Error).message}; trying again`)
        await this.#pause(backOffMs(this.#attempts++))
      }
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#hurry = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  /** Opens a connection and says hello on it. Resolves when it is the current one. */
  #attempt(url: string): Promise<void> {
    const { key, listen, hello } = this.#parts
    const { origin, pathname } = new URL(url)
    const socket: AgentSocket = io(`${origin}/agents`, {
      path: `${pathname.replace(/\/+$/, '')}/socket.io/`,
      transports: ['websocket'],
      forceNew: true,
      reconnection: false,
      timeout: PATIENCE_MS.open,
      auth: key === undefined ? {} : { key },
    })
    listen(socket)
    return new Promise<void>((resolve, reject) => {
      const fail = (err: Error) => {
        clearTimeout(patience)
        if (this.#introduced) this.#unanswered = true
        this.#introduced = false
        socket.off('disconnect', ended)
        socket.disconnect()
        reject(err)
      }
      const ended = (why: string) => fail(new Error(why)) // also between the transport's opening and the namespace's
      const impatience = (ms: number) => setTimeout(() => fail(new Error(`no answer within ${ms} ms`)), ms)
      let patience = impatience(PATIENCE_MS.open)
      this.#hurry = () => fail(new Error('closed'))
      socket.on('disconnect', ended)
      socket.once('connect_error', (err) => fail(new Error(reasonOf(err))))
      socket.once('connect', () => {
        clearTimeout(patience)
        patience = impatience(PATIENCE_MS.hello)
        this.#introduced = true
        // called back, not awaited: messages may follow the answer in the same packet
        socket.emit('hello', hello(), (reply) => {
          if (!socket.connected) return
          if (!reply.ok)
            return fail(reply.retry ? new Error(reply.message) : new AgentRefused(reply.code, reply.message))
          clearTimeout(patience)
          socket.off('disconnect', ended)
          this.#adopt(socket, url, reply)
          resolve()
        })
      })
    })
  }

  #adopt(socket: AgentSocket, url: string, welcome: Welcome): void {
    const old = this.#current
    this.#current = socket
    this.#introduced = this.#unanswered = false
    if (Date.now() - this.#upSince > BACK_OFF.lastedMs) this.#attempts = 0
    this.#upSince = Date.now()
    this.#hurry = () => {}
    socket.on('disconnect', (why) => this.#lost(socket, why))
    this.#parts.log.info(`connected to ${url} (replica ${welcome.replica})`)
    this.#parts.welcomed(welcome)
    old?.disconnect()
  }

  #lost(socket: AgentSocket, why: string): void {
    if (this.#closed || this.#current !== socket) return
    this.#current = undefined
    if (this.#introduced) return // the gateway closes it for the newer one, which is nearly there or tried again
    this.#parts.log.warn(`connection lost: ${why}`)
    const quick = Date.now() - this.#upSince < BACK_OFF.lastedMs
    this.#attempts = quick ? this.#attempts + 1 : 0
    this.#timer = setTimeout(
      () => void (this.#current ?? this.connect()), // a move that was under way may have brought one
      backOffMs(Math.max(this.#attempts - 1, 0)),
    )
  }
}

/** Socket.IO tells why a WebSocket could not be opened one level down. */
function reasonOf(err: Error & { description?: unknown }): string {
  const inner = (err.description as { message?: unknown } | undefined)?.message
  return typeof inner === 'string' && inner !== '' ? `${err.message}: ${inner}` : err.message
}
