import { createParser, type EventSourceMessage } from 'eventsource-parser'
import type { LogEvent } from '../protocol/events.js'
import type { Turn } from '../protocol/fold.js'
import type { InteractionId, SessionId } from '../protocol/ids.js'
import { formatCursor, parseCursor, place, START, type Cursor } from '../protocol/sequence.js'

/*
 * The client half of Throughline, for browsers and Node: send a message once, follow its turn without a gap or a repeat,
 * over any number of broken connections.
 */
export { emptyTurn, fold, outputText, type Entry, type Turn } from '../protocol/fold.js'
export type { LogEvent } from '../protocol/events.js'

/** Where the gateway is, such as `https://agents.example.com`; a function is asked anew for every attempt. */
export type Base = string | (() => string)

export interface ClientOptions {
  /** API key, sent as `Authorization: Bearer`. */
  key?: string
  /** Ends the call: it rejects with the signal's reason. */
  signal?: AbortSignal
  fetch?: typeof fetch
  /** Give up when no replica has answered for so many ms. Default: 10 minutes. */
  giveUpMs?: number
  /** Take a connection for dead after so many ms without a byte; the gateway is silent for 15 s at most. Default: 45 s. */
  stallMs?: number
}

/** What a follower gets: the next event of the log or, where that cannot be continued, the state in its place. */
export type Update =
  { type: 'event'; event: LogEvent; cursor: string } | { type: 'snapshot'; turn: Turn; cursor: string }

/** An answer that asking again will not change. `code` is one of `docs/errors.md`, or `unreachable` (status 0). */
export class GatewayError extends Error {
  override readonly name = 'GatewayError'
  readonly status: number
  readonly code: string

  constructor(status: number, code: string, message: string, cause?: unknown) {
    super(message, { cause })
    this.status = status
    this.code = code
  }
}

/**
 * Every event of a turn after the cursor, once and in order, up to the turn's end. To go on later, keep the `cursor` of
 * the last update and give it as `after`. Throws `GatewayError` when refused, or when nobody answers for `giveUpMs`.
 */
export async function* follow(
  base: Base,
  interaction: InteractionId,
  options: ClientOptions & { after?: string } = {},
): AsyncGenerator<Update, void, undefined> {
  let cursor = options.after === undefined ? START : parseCursor(options.after)
  if (!cursor) throw new GatewayError(400, 'invalid_cursor', `"${options.after}" is not a cursor.`)
  const patience = new Patience(options)
  for (;;) {
    const connection = new Connection(options)
    let pause: number | undefined // what the gateway asks for before we come again
    let cause: unknown
    try {
      const path = `/interactions/${interaction}/events?after=${formatCursor(cursor)}`
      const response = await connection.open(base, path, { headers: { accept: 'text/event-stream' } })
      if (response.status === 204) return // we have all of it
      patience.heard()
      for await (const message of connection.messages(response, (ms) => (pause = ms))) {
        if (message.event === 'done') return
        const update = read(message, cursor)
        if (update === 'hole') break // nothing is lost: the log has it
        if (update === 'seen') continue
        cursor = parseCursor(update.cursor)!
        patience.progressed()
        yield update
      }
    } catch (thrown) {
      if (!(thrown instanceof Passing)) throw thrown
      pause = thrown.afterMs
      cause = thrown.cause
    } finally {
      connection.close()
    }
    await patience.wait(pause, cause)
  }
}

/** A message to a session, or to a new session of a pool. */
export type Outgoing = ({ session: SessionId; interrupt?: boolean } | { pool: string }) & {
  text: string
  metadata?: Record<string, string>
}

export interface Sent {
  session: SessionId
  interaction: InteractionId
  /** 0: its turn has come; n: it is the n-th that waits. */
  queued: number
}

/**
 * Posts a message until a replica has taken it, and yet only once: all attempts carry one Idempotency-Key.
 * Throws as `follow` does; to try again after that, give the `idempotencyKey` yourself.
 */
export async function send(
  base: Base,
  message: Outgoing,
  options: ClientOptions & { idempotencyKey?: string } = {},
): Promise<Sent> {
  const { session, ...body } = { session: undefined, ...message }
  const path = session === undefined ? '/messages' : `/sessions/${session}/messages`
  const request = {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'idempotency-key': options.idempotencyKey ?? randomKey() },
    body: JSON.stringify(body),
  }
  const patience = new Patience(options)
  for (;;) {
    const connection = new Connection(options)
    try {
      const response = await connection.open(base, path, request)
      return (await connection.within(response.json())) as Sent
    } catch (thrown) {
      if (!(thrown instanceof Passing)) throw thrown
      await patience.wait(thrown.afterMs, thrown.cause)
    } finally {
      connection.close()
    }
  }
}

/** What a frame is to a reader who has everything up to `seen`. */
function read({ id, event, data }: EventSourceMessage, seen: Cursor): Update | 'seen' | 'hole' {
  const at = parseCursor(id ?? '')
  if (id === undefined || !at) return 'seen' // not of the log: `ping`, `problem`, or what a later gateway may add
  const { interaction: _, ...content } = JSON.parse(data) as { interaction: string }
  if (event === 'snapshot') return { type: 'snapshot', turn: (content as { turn: Turn }).turn, cursor: id }
  const where = place(seen.n, at.n)
  return where === 'next' ? { type: 'event', event: content as LogEvent, cursor: id } : where
}

/** A failure that the next attempt may not meet. */
class Passing extends Error {
  readonly afterMs: number | undefined

  constructor(cause: unknown, afterMs?: number) {
    super('attempt failed', { cause })
    this.afterMs = afterMs
  }
}

/** One request and its reply, given up when nothing comes for `stallMs` or the caller's signal is aborted. */
class Connection {
  readonly #options: ClientOptions
  readonly #stop = new AbortController()
  readonly #abort = () => this.#stop.abort()

  constructor(options: ClientOptions) {
    options.signal?.throwIfAborted()
    options.signal?.addEventListener('abort', this.#abort)
    this.#options = options
  }

  async open(base: Base, path: string, init: { method?: string; headers: Record<string, string>; body?: string }) {
    const { key, fetch: ask = fetch } = this.#options
    const url = `${(typeof base === 'string' ? base : base()).replace(/\/+$/, '')}/api/v1${path}`
    const headers = { ...init.headers, ...(key !== undefined && { authorization: `Bearer ${key}` }) }
    const response = await this.within(ask(url, { ...init, headers, signal: this.#stop.signal }))
    if (!response.ok) throw await this.#refusal(response)
    return response
  }

  /** The frames of an event stream, to its clean end. `retry` hears how long to stay away after it. */
  async *messages(response: Response, retry: (ms: number) => void): AsyncGenerator<EventSourceMessage> {
    const arrived: EventSourceMessage[] = []
    const parser = createParser({ onEvent: (message) => arrived.push(message), onRetry: retry })
    const decoder = new TextDecoder()
    const reader = response.body!.getReader()
    for (;;) {
      const { done, value } = await this.within(reader.read())
      if (done) return // half a frame at the end is none: it will come again
      parser.feed(decoder.decode(value, { stream: true }))
      yield* arrived.splice(0)
    }
  }

  /** Waits for a step of it. Throws `Passing` when it breaks or stalls, the signal's reason when the caller ends it. */
  async within<T>(step: Promise<T>): Promise<T> {
    const { signal, stallMs = 45_000 } = this.#options
    const stalled = setTimeout(this.#abort, stallMs)
    try {
      return await step
    } catch (cause) {
      signal?.throwIfAborted()
      throw new Passing(cause)
    } finally {
      clearTimeout(stalled)
    }
  }

  close(): void {
    this.#options.signal?.removeEventListener('abort', this.#abort)
    this.#stop.abort()
  }

  async #refusal(response: Response): Promise<Passing | GatewayError> {
    const text = await this.within(response.text())
    const { code, message, retry } = errorIn(text)
    const error = new GatewayError(response.status, code ?? 'unknown', message ?? `HTTP status ${response.status}`)
    const { status } = response
    if (!(retry ?? (status >= 500 || [408, 425, 429].includes(status)))) return error // a balancer has no word on it
    const after = Number(response.headers.get('retry-after') ?? NaN)
    return new Passing(error, Number.isFinite(after) ? Math.min(after, 60) * 1000 : undefined)
  }
}

function errorIn(text: string): { code?: string; message?: string; retry?: boolean } {
  try {
    return (JSON.parse(text) as { error?: object }).error ?? {}
  } catch {
    return {} // not ours: a balancer's page
  }
}

/** Full-jitter back-off, 0.25 to 5 s, from the beginning after every progress. */
class Patience {
  readonly #options: ClientOptions
  #attempt = 0
  #failingSince: number | undefined

  constructor(options: ClientOptions) {
    this.#options = options
  }

  /** Somebody answered. */
  heard(): void {
    this.#failingSince = undefined
  }

  progressed(): void {
    this.#attempt = 0
  }

  async wait(pauseMs: number | undefined, cause: unknown): Promise<void> {
    const { signal, giveUpMs = 600_000 } = this.#options
    signal?.throwIfAborted()
    const now = performance.now()
    this.#failingSince ??= now
    if (now - this.#failingSince > giveUpMs)
      throw new GatewayError(0, 'unreachable', `No replica has answered for ${giveUpMs} ms.`, cause)
    const ms = pauseMs ?? Math.random() * Math.min(5000, 250 * 2 ** this.#attempt++)
    await new Promise<void>((resolve) => {
      const go = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', go)
        resolve()
      }
      const timer = setTimeout(go, ms)
      signal?.addEventListener('abort', go)
    })
    signal?.throwIfAborted()
  }
}

const randomKey = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('')
