/** One block of an event stream as it came, comments and all. `lines` are its raw lines. */
export interface RawFrame {
  id?: string
  event?: string
  data?: string
  retry?: number
  comment?: string
  lines: string[]
}

/** The data of a frame. */
export const json = <T = Record<string, unknown>>(frame: RawFrame): T => JSON.parse(frame.data ?? 'null') as T

/**
 * A raw reader of one server-sent event stream, for tests: it shows what a real client would hide (comments, `retry`,
 * half frames) and never reconnects. Reads only when asked. End it with `close()` or `await using`.
 */
export class SseReader implements AsyncDisposable {
  readonly response: Response
  readonly #stop: AbortController
  readonly #frames: AsyncGenerator<RawFrame, void, undefined>
  /** What was left without a closing blank line when the stream ended. */
  rest = ''

  private constructor(response: Response, stop: AbortController) {
    this.response = response
    this.#stop = stop
    this.#frames = this.#read()
  }

  /** Opens the stream. A reply that is no event stream is given as it is, to be looked at: check `response`. */
  static async open(url: string, init: RequestInit = {}): Promise<SseReader> {
    const stop = new AbortController()
    return new SseReader(await fetch(url, { ...init, signal: stop.signal }), stop)
  }

  /** A POST of JSON whose answer is a stream. */
  static post(url: string, body: unknown, headers: Record<string, string> = {}): Promise<SseReader> {
    const init = {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    }
    return SseReader.open(url, init)
  }

  /** The next frame; undefined at a clean end. Rejects when the connection breaks. */
  async next(): Promise<RawFrame | undefined> {
    const { value } = await this.#frames.next()
    return value ?? undefined
  }

  /** Frames up to and with the first that fits. Rejects when the stream ends before. */
  async until(fits: (frame: RawFrame) => boolean): Promise<RawFrame[]> {
    const seen: RawFrame[] = []
    for (;;) {
      const frame = await this.next()
      if (!frame) throw new Error(`the stream ended after ${JSON.stringify(seen)}`)
      seen.push(frame)
      if (fits(frame)) return seen
    }
  }

  /** All further frames, to the clean end. */
  async all(): Promise<RawFrame[]> {
    const seen: RawFrame[] = []
    for (let frame = await this.next(); frame; frame = await this.next()) seen.push(frame)
    return seen
  }

  close(): void {
    this.#stop.abort()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close()
    await this.#frames.return(undefined).catch(() => {}) // it was ended on purpose
  }

  async *#read(): AsyncGenerator<RawFrame, void, undefined> {
    const decoder = new TextDecoder()
    for await (const chunk of this.response.body ?? []) {
      this.rest += decoder.decode(chunk as Uint8Array, { stream: true })
      for (let end = this.rest.indexOf('\n\n'); end >= 0; end = this.rest.indexOf('\n\n')) {
        const block = this.rest.slice(0, end)
        this.rest = this.rest.slice(end + 2)
        yield parseFrame(block)
      }
    }
  }
}

function parseFrame(block: string): RawFrame {
  const frame: RawFrame = { lines: block.split('\n') }
  for (const line of frame.lines) {
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line)!
    if (field === '') frame.comment = value!
    if (field === 'id') frame.id = value!
    if (field === 'event') frame.event = value!
    if (field === 'retry') frame.retry = Number(value)
    if (field === 'data') frame.data = frame.data === undefined ? value! : `${frame.data}\n${value}`
  }
  return frame
}
