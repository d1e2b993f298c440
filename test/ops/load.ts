import { setMaxListeners } from 'node:events'
import { eventually } from '../support/eventually.js'
import { ask } from './answer.js'
import { KINDS, type Client, type Desk, type Kind } from './clients.js'
import { reasonOf, Tally, type Message } from './message.js'

const kinds = Object.keys(KINDS) as Kind[]

export interface LoadOptions {
  url: string
  /** Keys of the owners; clients belong to one after the other. */
  keys: readonly string[]
  /** Clients of each kind. */
  each: number
  /** Longest that one turn may take, ms. */
  limitMs: number
}

/** Clients of every kind, each with one message after the other, until `finish`. */
export class Load {
  readonly messages: Message[] = []
  readonly tally = new Tally()
  readonly #running: Promise<void>[]
  readonly #stop = new AbortController()
  readonly #answered: number[]
  #finishing = false

  constructor({ url, keys, each, limitMs }: LoadOptions) {
    const clients = Array.from({ length: each * kinds.length }, (_, i) => ({ i, kind: kinds[i % kinds.length]! }))
    this.#answered = clients.map(() => 0)
    setMaxListeners(0, this.#stop.signal)
    this.#running = clients.map(({ i, kind }) =>
      this.#run(i, kind, {
        url,
        key: keys[Math.floor(i / kinds.length) % keys.length]!,
        tally: this.tally,
        limitMs,
        signal: this.#stop.signal,
      }),
    )
    for (const it of this.#running) it.catch(() => {}) // `finish` tells
  }

  /** Resolves when every client has had `count` more messages answered. */
  async goesOn(count = 1, limitMs = 60_000): Promise<void> {
    const before = [...this.#answered]
    await eventually(
      () => {
        const late = this.#answered.findIndex((n, i) => n < before[i]! + count)
        if (late >= 0) throw new Error(`client ${late} (${kinds[late % kinds.length]}) is not answered any more`)
      },
      { limitMs, everyMs: 100 },
    )
  }

  /** No new messages; resolves when those under way are answered or given up. */
  async finish(): Promise<void> {
    this.#finishing = true
    await Promise.all(this.#running)
  }

  /** Whatever is still under way is given up. */
  stop(): void {
    this.#finishing = true
    this.#stop.abort()
  }

  async #run(i: number, kind: Kind, desk: Desk): Promise<void> {
    const client: Client = await KINDS[kind](desk)
    try {
      for (let n = 0; !this.#finishing; n++) {
        const message: Message = {
          kind,
          key: desk.key,
          input: ask(`${kind}-${i}-${n}`, 20 + ((i * 7 + n * 5) % 21)),
          idempotencyKey: `${kind}-${i}-${n}`,
          reads: [],
        }
        this.messages.push(message)
        const started = performance.now()
        const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(desk.limitMs)])
        setMaxListeners(0, signal)
        await client.turn(message, signal).catch((err: unknown) => {
          message.givenUp = signal.aborted ? `no answer within ${desk.limitMs} ms` : reasonOf(err)
        })
        message.tookMs = performance.now() - started
        this.#answered[i]!++
      }
    } finally {
      client.close()
    }
  }
}
