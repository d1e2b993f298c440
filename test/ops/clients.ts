import { setTimeout as sleep } from 'node:timers/promises'
import { EventSource } from 'eventsource'
import OpenAI from 'openai'
import type { LogEvent } from '../../src/protocol/events.js'
import { isEnd } from '../../src/protocol/events.js'
import { emptyTurn, fold, outputText, type Turn } from '../../src/protocol/fold.js'
import type { InteractionId, SessionId } from '../../src/protocol/ids.js'
import { isTerminal } from '../../src/protocol/interaction.js'
import { createSession, GatewayError, send, type ClientOptions, type Interaction } from '../../src/sdk/client.js'
import { watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { nothingRead, reasonOf, type Message, type Read, type Tally } from './message.js'

/** What a client of the trial has: the balancer's address, its owner's key, and where it says what failed. */
export interface Desk {
  url: string
  key: string
  tally: Tally
  /** Longest that one turn may take, ms. */
  limitMs: number
  /** Ends what is not a turn, too. */
  signal: AbortSignal
}

/** One client: has one message answered, by whatever retries its protocol knows, and notes what it read. */
export interface Client {
  turn(message: Message, signal: AbortSignal): Promise<void>
  close(): void
}

/** Each kind of client that exists. A client lives for the whole act; all that have one keep their session. */
export const KINDS = {
  /** The shipped client SDK: `send`, and two readers that resume by cursor, the second from the middle on. */
  native: async (desk: Desk): Promise<Client> => {
    const options = sdkOptions('native', desk)
    const { id: session } = await createSession(desk.url, { pool: 'coder' }, options)
    return {
      async turn(message, signal) {
        const own = { ...options, signal }
        message.accepted = await fatal('native', desk, () =>
          send(desk.url, { session, text: message.input }, { ...own, idempotencyKey: message.idempotencyKey }),
        )
        const seen = watch(desk.url, message.accepted.interaction, own)
        await eventually(() => seen.events.length > 10 || isTerminal(seen.turn.status), { limitMs: desk.limitMs })
        const late = watch(desk.url, message.accepted.interaction, own)
        for (const it of [seen, late]) {
          await fatal('native', desk, () => it.done)
          message.reads.push({ text: outputText(it.turn), events: it.events, snapshots: it.snapshots, faults: [] })
        }
      },
      close() {},
    }
  },

  /** The package `eventsource` on the stream of a session, as a browser has it; messages by the SDK. */
  eventsource: async (desk: Desk): Promise<Client> => {
    const options = sdkOptions('eventsource', desk)
    const { id: session } = await createSession(desk.url, { pool: 'coder' }, options)
    const stream = new SessionStream(desk, session)
    return {
      async turn(message, signal) {
        const own = { ...options, signal, idempotencyKey: message.idempotencyKey }
        message.accepted = await fatal('eventsource', desk, () => send(desk.url, { session, text: message.input }, own))
        message.reads.push(await stream.answerOf(message.accepted.interaction, signal))
      },
      close: () => stream.close(),
    }
  },

  /** The package `openai`, chat completions as a stream; one that breaks is posted again with its key. */
  chat: async (desk: Desk): Promise<Client> => {
    const openai = openaiOf('chat', desk)
    return {
      async turn(message, signal) {
        const messages = [{ role: 'user' as const, content: message.input }]
        const request = { model: 'coder', stream: true as const, messages }
        const read = nothingRead()
        message.reads.push(read)
        await untilDone('chat', desk, signal, async () => {
          const before = read.text
          read.text = ''
          const { data, response } = await openai.chat.completions
            .create(request, { signal, headers: { 'Idempotency-Key': message.idempotencyKey } })
            .withResponse()
          message.accepted = acceptedIn(response)
          for await (const { choices } of data) {
            read.text += choices[0]?.delta.content ?? ''
            if (choices[0]?.finish_reason) {
              if (!read.text.startsWith(before)) read.faults.push('what was posted again told another beginning')
              return true
            }
          }
          if (!signal.aborted) read.faults.push('ended cleanly without an end')
          return true
        })
      },
      close() {},
    }
  },

  /** The package `openai`, a response in the background; its stream is left in the middle and taken up by number. */
  responses: async (desk: Desk): Promise<Client> => {
    const openai = openaiOf('responses', desk)
    return {
      async turn(message, signal) {
        const request = { model: 'coder', input: message.input, background: true, stream: true } as const
        const read = nothingRead()
        message.reads.push(read)
        let id: string | undefined
        let last = -1
        let left = false
        await untilDone('responses', desk, signal, async () => {
          const { data, response } = await (
            id === undefined
              ? openai.responses.create(request, { signal, headers: { 'Idempotency-Key': message.idempotencyKey } })
              : openai.responses.retrieve(id, { stream: true, starting_after: last }, { signal })
          ).withResponse()
          message.accepted ??= acceptedIn(response)
          for await (const event of data) {
            if (event.sequence_number !== last + 1) read.faults.push(`number ${event.sequence_number} after ${last}`)
            last = event.sequence_number
            if (event.type === 'response.created') id = event.response.id
            if (event.type === 'response.output_text.delta') read.text += event.delta
            if (event.type === 'response.completed') {
              if (event.response.output_text !== undefined && event.response.output_text !== read.text)
                read.faults.push('the final response has another text than its deltas')
              return true
            }
            if (event.type === 'response.failed') {
              read.faults.push(`failed: ${event.response.error?.code}`)
              return true
            }
            if (!left && last > 12) {
              left = true
              return false
            }
          }
          read.faults.push('ended cleanly without an end')
          return true
        })
      },
      close() {},
    }
  },

  /** Plain `fetch` of a blocking answer, posted again with its key until it is one. */
  wait: async (desk: Desk): Promise<Client> => {
    const ask = desk.tally.fetch('wait')
    const { id: session } = await createSession(desk.url, { pool: 'coder' }, sdkOptions('wait', desk))
    return {
      async turn(message, signal) {
        const read = nothingRead()
        message.reads.push(read)
        await untilDone('wait', desk, signal, async () => {
          const res = await ask(`${desk.url}/api/v1/sessions/${session}/messages`, {
            method: 'POST',
            signal,
            headers: {
              'content-type': 'application/json',
              authorization: `Bearer ${desk.key}`,
              'idempotency-key': message.idempotencyKey,
            },
            body: JSON.stringify({ text: message.input, wait: true }),
          })
          if (!res.ok) {
            await res.text()
            if (res.status < 500 && res.status !== 429) throw new Refused(String(res.status))
            await sleep(Number(res.headers.get('retry-after') ?? 0.5) * 1000 * (0.5 + Math.random()), undefined, {
              signal,
            })
            return false
          }
          message.accepted = acceptedIn(res)
          const turn = (await res.json()) as Interaction
          if (!isTerminal(turn.status)) return false // as it was when the replica left: the same POST waits on
          read.text = turn.text
          return true
        })
      },
      close() {},
    }
  },
} satisfies Record<string, (desk: Desk) => Promise<Client>>

export type Kind = keyof typeof KINDS

/** A stream of EventSource as browsers have it, which knows the next cursor only when it is closed for good. */
class SessionStream {
  readonly #desk: Desk
  readonly #session: SessionId
  readonly #reads = new Map<InteractionId, Read & { events: LogEvent[]; turn: Turn }>()
  #source: EventSource
  #last: string | undefined
  #reopening: NodeJS.Timeout | undefined

  constructor(desk: Desk, session: SessionId) {
    this.#desk = desk
    this.#session = session
    this.#source = this.#open()
  }

  async answerOf(id: InteractionId, signal: AbortSignal): Promise<Read> {
    for (;;) {
      signal.throwIfAborted()
      const read = this.#reads.get(id)
      if (read && isTerminal(read.turn.status)) return { ...read, text: outputText(read.turn) }
      await sleep(50)
    }
  }

  close(): void {
    clearTimeout(this.#reopening)
    this.#source.close()
  }

  #open(): EventSource {
    const { url, key, tally } = this.#desk
    const query = this.#last === undefined ? '' : `?after=${encodeURIComponent(this.#last)}`
    const source = new EventSource(`${url}/api/v1/sessions/${this.#session}/events${query}`, {
      fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, authorization: `Bearer ${key}` } }),
    })
    for (const type of [
      'submitted',
      'started',
      'pending',
      'yielded',
      'dispatched',
      'reset',
      'entry.append',
      'completed',
      'failed',
      'cancelled',
    ])
      source.addEventListener(type, ({ data, lastEventId }) => this.#hear(data as string, lastEventId))
    source.addEventListener('snapshot', ({ data, lastEventId }) => {
      this.#last = lastEventId
      const { interaction, turn } = JSON.parse(data as string) as { interaction: InteractionId; turn: Turn }
      const read = this.#readOf(interaction)
      read.turn = turn
      read.snapshots++
    })
    source.addEventListener('problem', ({ data }) =>
      tally.add('eventsource', `problem ${(JSON.parse(data as string) as { error: { code: string } }).error.code}`),
    )
    source.addEventListener('error', ({ code, message }) => {
      if (source !== this.#source || source.readyState !== EventSource.CLOSED) return
      tally.addFatal('eventsource', `closed for good by ${code ?? message}`)
      this.#reopening = setTimeout(() => (this.#source = this.#open()), 1000)
    })
    return source
  }

  #hear(data: string, id: string): void {
    this.#last = id
    const { interaction, ...event } = JSON.parse(data) as LogEvent & { interaction: InteractionId }
    const read = this.#readOf(interaction)
    read.events.push(event as LogEvent)
    read.turn = fold(read.turn, event as LogEvent)
    if (isEnd(event)) read.text = outputText(read.turn)
  }

  #readOf(id: InteractionId) {
    let read = this.#reads.get(id)
    if (!read) this.#reads.set(id, (read = { ...nothingRead(), events: [], turn: emptyTurn() }))
    return read
  }
}

/** The client will not have an answer by asking again. */
class Refused extends Error {}

const sdkOptions = (kind: string, { key, tally, signal }: Desk): ClientOptions => ({
  key,
  fetch: tally.fetch(kind),
  signal,
})

const openaiOf = (kind: string, { url, key, tally }: Desk): OpenAI =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey: key, fetch: tally.fetch(kind) })

function acceptedIn({ headers }: Response): { session: SessionId; interaction: InteractionId } {
  return {
    session: headers.get('throughline-session-id') as SessionId,
    interaction: headers.get('throughline-interaction-id') as InteractionId,
  }
}

/** Tries until `attempt` says that it is done. What fails for a while is tried again; a refusal is not. */
async function untilDone(kind: Kind, desk: Desk, signal: AbortSignal, attempt: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; ; tries++) {
    signal.throwIfAborted()
    try {
      if (await attempt()) return
    } catch (err) {
      signal.throwIfAborted()
      const status = (err as { status?: number }).status
      if (err instanceof Refused || (status !== undefined && status < 500 && ![408, 409, 429].includes(status))) {
        desk.tally.addFatal(kind, `refused: ${(err as Error).message}`)
        throw err
      }
      desk.tally.add(kind, status === undefined ? `broke off: ${reasonOf(err)}` : `gave up after ${status}`)
      await sleep(Math.random() * Math.min(250 * 2 ** tries, 2000), undefined, { signal })
    }
  }
}

/** Notes a refusal that the SDK has no way round. */
async function fatal<T>(kind: Kind, { tally }: Desk, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (err) {
    if (err instanceof GatewayError) tally.addFatal(kind, `refused: ${err.status} ${err.code}`)
    throw err
  }
}
