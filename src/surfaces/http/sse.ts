import type { Request, Response } from 'express'
import type { EndOfAccess } from '../../auth/hold.js'
import { ThroughlineError } from '../../protocol/errors.js'
import { traceOf, type Call } from './call.js'
import { drained } from './flow.js'
import type { HttpParts, StreamEnd } from './parts.js'

/** Frames of one batch go out in one write, up to this many bytes of them. */
const MAX_WRITE_BYTES = 256 * 1024

export interface StreamKind {
  /** Label of the metrics. */
  surface: string
  /** What is sent after `keepAliveMs` of silence. */
  keepAlive: Buffer
  /** For viewers that can resume elsewhere: aborted when they should. */
  leave?: AbortSignal
  /** For viewers that cannot: aborted when their socket must go. */
  cut?: AbortSignal
}

/**
 * One viewer's event stream. Follow with its `signal`, `open` it, then `write` and await each batch: a viewer that does
 * not read is not buffered for, its `write` just takes long, and after `slowViewerMs` the socket is destroyed.
 */
export class EventStream {
  readonly #parts: Pick<HttpParts, 'limits' | 'observe'>
  readonly #req: Request
  readonly #res: Response
  readonly #kind: StreamKind
  readonly #call: Call
  readonly #stop = new AbortController()
  #keepAlive: NodeJS.Timeout | undefined
  #ending: NodeJS.Timeout | undefined
  #how: StreamEnd = 'left'
  #sentAway = false
  #refusal: ThroughlineError | undefined
  #bytes = 0
  #traced: ((how: string, bytes: number) => void) | undefined

  constructor(parts: Pick<HttpParts, 'limits' | 'observe'>, call: Call, req: Request, res: Response, kind: StreamKind) {
    this.#parts = parts
    this.#req = req
    this.#res = res
    this.#kind = kind
    this.#call = call
    const { leave, cut } = kind
    // Not AbortSignal.any: the two live as long as the process, and Node 20 lets what is joined to them pile up.
    const stop = () => this.#stop.abort()
    const destroy = () => this.destroy('cut')
    leave?.addEventListener('abort', stop)
    cut?.addEventListener('abort', destroy)
    const held = call.hold?.((why) => this.#refuse(why))
    const close = () => {
      stop()
      held?.[Symbol.dispose]()
      clearInterval(this.#keepAlive)
      clearTimeout(this.#ending)
      leave?.removeEventListener('abort', stop)
      cut?.removeEventListener('abort', destroy)
      if (this.opened) parts.observe?.streamClosed(kind.surface, this.#how)
      this.#traced?.(this.#how, this.#bytes)
    }
    call.over.addEventListener('abort', close, { once: true })
    if (call.over.aborted) close()
    if (leave?.aborted) stop()
    if (cut?.aborted) destroy()
  }

  /** Aborted when there is no use in reading on: the viewer has gone, or should go. */
  get signal(): AbortSignal {
    return this.#stop.signal
  }

  get opened(): boolean {
    return this.#keepAlive !== undefined
  }

  /** Whether this replica is leaving and the viewer, still here, should go elsewhere. */
  get leaving(): boolean {
    return (this.#sentAway || this.#kind.leave?.aborted === true) && !this.#res.destroyed
  }

  /** Why the viewer may read no further, to be told; what it follows has ended. */
  get refusal(): ThroughlineError | undefined {
    return this.#refusal
  }

  /** There is nobody to be told anything. */
  get gone(): boolean {
    return this.signal.aborted && !this.#refusal
  }

  /**
   * A key that was revoked ends the stream. One that has expired sends a viewer away that can resume, as if the replica
   * left; one that cannot reads its turn to the end.
   */
  #refuse(why: EndOfAccess): void {
    if (why === 'revoked')
      this.#refusal = new ThroughlineError('unauthorized', { message: 'The key that opened this stream was revoked.' })
    else if (this.#kind.leave) return this.sendAway()
    else return
    this.#stop.abort()
  }

  /** Ends the following, so that the viewer is told to come again. */
  sendAway(): void {
    this.#sentAway = true
    this.#stop.abort()
  }

  /** Sends the head, at once. From here on an error can only be a frame, or the end of the socket. */
  open(): void {
    const res = this.#res
    if (res.destroyed) return // the viewer left before its first frame; nobody would clear what begins here
    res.status(200).set({
      'Content-Type': 'text/event-stream; charset=utf-8',
      'Cache-Control': 'no-store, no-transform', // no-transform: hands off, compressing proxies
      'X-Accel-Buffering': 'no', // nginx
      ...(this.#req.httpVersion === '1.1' && { Connection: 'keep-alive' }),
    })
    res.socket?.setNoDelay(true)
    res.socket?.setTimeout(0)
    res.flushHeaders()
    const { limits, observe } = this.#parts
    this.#keepAlive = setInterval(() => {
      if (!res.destroyed && !res.writableNeedDrain) res.write(this.#kind.keepAlive)
    }, limits.keepAliveMs)
    observe?.streamOpened(this.#kind.surface)
    this.#traced = this.#call.trace?.stream(this.#kind.surface, traceOf(observe, this.#call.interaction))
    if (this.#req.method === 'HEAD') this.end('done')
  }

  /** Resolves when the socket took the frames, or there is no viewer any more. */
  async write(frames: readonly Buffer[]): Promise<void> {
    for (const bytes of packed(frames)) {
      if (this.#res.writableEnded || this.#res.destroyed) return
      this.#keepAlive?.refresh()
      this.#bytes += bytes.length
      if (this.#res.write(bytes)) continue
      const caughtUp = this.#parts.observe?.streamBehind?.(this.#kind.surface)
      await drained(this.#res, this.#parts.limits.slowViewerMs, this.signal, () => this.destroy('slow'))
      caughtUp?.()
    }
  }

  /** A clean end: nothing is missing, or the viewer knows that it must come again. */
  end(how: StreamEnd): void {
    this.#how = how
    clearInterval(this.#keepAlive)
    this.#res.end()
    this.#ending = setTimeout(() => this.#res.destroy(), this.#parts.limits.slowViewerMs) // the last bytes, too
  }

  /** An end that no client can take for a whole answer. */
  destroy(how: StreamEnd): void {
    this.#how = how
    this.#res.destroy()
  }
}

function* packed(frames: readonly Buffer[]): Generator<Buffer> {
  for (let from = 0; from < frames.length;) {
    let to = from
    for (let bytes = 0; to < frames.length && (to === from || bytes + frames[to]!.length <= MAX_WRITE_BYTES); to++)
      bytes += frames[to]!.length
    yield to === from + 1 ? frames[from]! : Buffer.concat(frames.slice(from, to))
    from = to
  }
}

export interface Frame {
  id?: string
  event?: string
  /** How long a reader should wait before it comes again, in ms. */
  retry?: number
  /** Sent as JSON, on one line: JSON escapes the line breaks of what it holds. */
  data?: unknown
}

/** A frame as bytes, with the blank line that makes it count. */
export const frame = ({ id, event, retry, data }: Frame): Buffer =>
  Buffer.from(
    (id === undefined ? '' : `id: ${id}\n`) +
      (event === undefined ? '' : `event: ${event}\n`) +
      (retry === undefined ? '' : `retry: ${retry}\n`) +
      (data === undefined ? '' : `data: ${JSON.stringify(data)}\n`) +
      '\n',
  )

/** A line that no reader's listener sees, but every proxy. */
export const comment = (text: string): Buffer => Buffer.from(`: ${text}\n\n`)

/** Encodes an event once, for however many viewers it has on this replica. */
export function sharedFrames<Event extends object, Rest extends unknown[]>(
  encode: (event: Event, ...rest: Rest) => Buffer,
): (event: Event, ...rest: Rest) => Buffer {
  const known = new WeakMap<Event, Buffer>()
  return (event, ...rest) => {
    const bytes = known.get(event) ?? encode(event, ...rest)
    known.set(event, bytes)
    return bytes
  }
}
