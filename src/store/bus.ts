import type { EventEmitter } from 'node:events'
import type { Redis } from 'ioredis'
import { isCluster, outageOf, within, type Connection } from './redis.js'

/** A message on a channel. Its JSON is parsed once, however many listen. */
export class Message {
  readonly text: string
  #json: unknown

  constructor(text: string) {
    this.text = text
  }

  json<T>(): T {
    return (this.#json ??= JSON.parse(this.text)) as T
  }
}

export interface Listener {
  message(message: Message): void
  /** Messages may have been lost: read the truth again before trusting the channel. */
  look(): void
}

interface Topic {
  listeners: Set<Listener>
  subscribed: Promise<unknown>
  linger?: NodeJS.Timeout
}

export interface BusLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}

/** A channel is kept this long after its last listener: viewers come back. */
const LINGER_MS = 5000

/**
 * One subscriber connection, many listeners. After every resubscription each listener is told to look again: Redis cuts
 * slow subscribers without an error and writers are often back before subscribers, so that is the main path of recovery.
 * A probe of the delivery path catches a connection that looks alive and delivers nothing.
 */
export class Bus {
  readonly #sub: Connection
  readonly #pub: Connection
  readonly #probe: { channel: string; everyMs: number }
  readonly #deadlineMs: number
  readonly #log: BusLog
  readonly #topics = new Map<string, Topic>()
  #probeTimer: NodeJS.Timeout | undefined
  #heardAt = Date.now()
  #rebuiltAt = 0
  #wasReady = false
  #closed = false

  constructor(
    sub: Connection,
    pub: Connection,
    probe: { channel: string; everyMs: number },
    deadlineMs: number,
    log: BusLog,
  ) {
    this.#sub = sub
    this.#pub = pub
    this.#probe = probe
    this.#deadlineMs = deadlineMs
    this.#log = log
    ;(sub as EventEmitter).on('smessage', (channel: string, text: string) => this.#deliver(channel, text))
    if (isCluster(sub)) {
      sub.on('subscribersReady', () => {
        this.#lookAgain('cluster subscribers ready')
        setTimeout(() => this.#lookAgain('cluster subscribers settled'), 250).unref() // ioredis does not await them
      })
    } else {
      this.#wasReady = sub.status === 'ready'
      sub.on('ready', () => void this.#resubscribed(sub).catch(() => {})) // a further 'ready' follows a failure
    }
  }

  /** Starts probing; ms since the probe was last heard is `probeAgeMs`. */
  async start(): Promise<void> {
    await this.listen(this.#probe.channel, { message: () => (this.#heardAt = Date.now()), look: () => {} })
    this.#heardAt = Date.now()
    const probe = () => {
      if (this.#pub.status === 'ready') void this.#pub.spublish(this.#probe.channel, '').catch(() => {})
      const silent = this.probeAgeMs
      const patience = 4 * this.#probe.everyMs
      if (silent > patience && Date.now() - this.#rebuiltAt > patience && this.#pub.status === 'ready') {
        this.#rebuiltAt = Date.now()
        this.#log.warn({ silentMs: silent }, 'bus silent: subscriber connection rebuilt')
        if (!isCluster(this.#sub)) this.#sub.disconnect(true)
        else this.#lookAgain('probe silent')
      }
    }
    this.#probeTimer = setInterval(probe, this.#probe.everyMs).unref()
    probe()
  }

  get probeAgeMs(): number {
    return Date.now() - this.#heardAt
  }

  get channels(): number {
    return this.#topics.size
  }

  /**
   * Resolves once the subscription stands; what is published after that reaches the listener. Dispose to stop.
   * Throws `store_unavailable` when Redis does not answer in time, or the connection breaks.
   */
  async listen(channel: string, listener: Listener): Promise<Disposable> {
    let topic = this.#topics.get(channel)
    if (!topic) {
      topic = { listeners: new Set(), subscribed: this.#sub.ssubscribe(channel) }
      topic.subscribed.catch(() => this.#topics.delete(channel))
      this.#topics.set(channel, topic)
    }
    clearTimeout(topic.linger)
    topic.listeners.add(listener)
    try {
      await within(this.#deadlineMs, topic.subscribed)
    } catch (err) {
      this.#leave(channel, topic, listener)
      throw outageOf(err)
    }
    return { [Symbol.dispose]: () => this.#leave(channel, topic, listener) }
  }

  #leave(channel: string, topic: Topic, listener: Listener): void {
    topic.listeners.delete(listener)
    if (topic.listeners.size > 0 || this.#closed) return
    clearTimeout(topic.linger)
    topic.linger = setTimeout(() => {
      if (topic.listeners.size > 0 || this.#topics.get(channel) !== topic) return
      this.#topics.delete(channel)
      this.#sub.sunsubscribe(channel).catch(() => {}) // a channel too many does no harm
    }, LINGER_MS).unref()
  }

  #deliver(channel: string, text: string): void {
    const topic = this.#topics.get(channel)
    if (!topic) return
    const message = new Message(text)
    for (const listener of topic.listeners) this.#tell(() => listener.message(message))
  }

  async #resubscribed(sub: Redis): Promise<void> {
    if (!this.#wasReady) {
      this.#wasReady = true
      return
    }
    await sub.ping() // same connection: it answers after the resubscription
    this.#lookAgain('resubscribed')
  }

  #lookAgain(why: string): void {
    this.#log.info({ why, channels: this.#topics.size }, 'bus looks again')
    for (const topic of this.#topics.values()) for (const listener of topic.listeners) this.#tell(() => listener.look())
  }

  /** A bug in one listener takes nothing from the others, nor the connection from all of them. */
  #tell(say: () => void): void {
    try {
      say()
    } catch (err) {
      this.#log.warn({ err }, 'bus listener failed')
    }
  }

  close(): void {
    this.#closed = true
    clearInterval(this.#probeTimer)
    for (const topic of this.#topics.values()) clearTimeout(topic.linger)
    this.#topics.clear()
  }
}
