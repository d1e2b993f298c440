import { createParser, type EventSourceMessage } from 'eventsource-parser'

/**
 * Where the gateway is, such as `https://agents.example.com`; of several addresses each attempt takes the next, and a
 * function is asked anew for every attempt.
 */
export type Base = string | readonly string[] | (() => string)

export interface ClientOptions {
  /** API key, sent as `Authorization: Bearer`. */
  key?: string | undefined
  /** Ends the call: it rejects with the signal's reason. */
  signal?: AbortSignal | undefined
  fetch?: typeof fetch | undefined
  /** Give up when no replica has answered for so many ms. Default: 10 minutes. */
  giveUpMs?: number | undefined
  /** Take a connection for dead after so many ms without a byte; the gateway is silent for 15 s at most. Default: 45 s. */
  stallMs?: number | undefined
}

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

/** What `fetch` is asked for, beside the address. */
export interface Asked {
  method?: string
  headers: Record<string, string>
  body?: string
}

/** The address for the next attempt, one after the other from a random one on. */
export function addresses(base: Base): () => string {
  if (typeof base === 'function') return base
  const all = typeof base === 'string' ? [base] : base
  if (all.length === 0) throw new TypeError('a base address is needed')
  let next = Math.floor(Math.random() * all.length)
  return () => all[next++ % all.length]!
}

/**
 * One request, tried again until a replica has taken it, and its answer; undefined for an empty one (204).
 * Throws `GatewayError` when refused, or when nobody answers for `giveUpMs`.
 */
export async function request(base: Base, path: string, init: Asked, options: ClientOptions): Promise<unknown> {
  const address = addresses(base)
  const patience = new Patience(options)
  for (;;) {
    const connection = new Connection(options)
    try {
      const response = await connection.open(address, path, init)
      return response.status === 204 ? undefined : ((await connection.within(response.json())) as unknown)
    } catch (thrown) {
      if (!(thrown instanceof Passing)) throw thrown
      await patience.wait(thrown.afterMs, thrown.cause)
    } finally {
      connection.close()
    }
  }
}

/** A failure that the next attempt may not meet. */
export class Passing extends Error {
  readonly afterMs: number | undefined

  constructor(cause: unknown, afterMs?: number) {
    super('attempt failed', { cause })
    this.afterMs = afterMs
  }
}

/** One request and its reply, given up when nothing comes for `stallMs` or the caller's signal is aborted. */
export class Connection {
  readonly #options: ClientOptions
  readonly #stop = new AbortController()
  readonly #abort = () => this.#stop.abort()

  constructor(options: ClientOptions) {
    options.signal?.throwIfAborted()
    options.signal?.addEventListener('abort', this.#abort)
    this.#options = options
  }

  async open(base: () => string, path: string, init: Asked): Promise<Response> {
    const { key, fetch: ask = fetch } = this.#options
    const url = `${base().replace(/\/+$/, '')}/api/v1${path}`
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
export class Patience {
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
