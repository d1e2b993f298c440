import { randomUUID } from 'node:crypto'
import type { LogEvent } from '../../src/protocol/events.js'
import type { InteractionId } from '../../src/protocol/ids.js'
import { serve, type Agent, type Turn } from '../../src/sdk/agent.js'
import { api, type Posted } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'
import { json, SseReader } from '../support/sse.js'

/*
 * What the suite of `resumable-stream` asks of a stream that several readers share, told of a turn: its producer is an
 * agent at one of three replicas, its readers are at all of them. All of it twice: as it runs, and with a kill -9 of the
 * producer's replica after its first words. Where that library answers `null` for a stream that is done, a turn is
 * replayed to who has not seen it, and 204 to who has.
 */

let net: Network
let agent: Agent
const turns = new Map<string, { turn: Turn; close: () => void }>()

beforeAll(async () => {
  net = await startNetwork({ replicas: 3, processes: true })
  agent = serve({ url: net.replicas.map(({ url }) => url), pool: 'coder', capacity: 50, log: silent }, async (turn) => {
    await new Promise<void>((close) => {
      turns.set(turn.interaction, { turn, close })
      turn.signal.addEventListener('abort', () => close())
    })
  })
}, 60_000)
afterAll(async () => {
  await agent.close(0)
  await net[Symbol.asyncDispose]()
})
const silent = { info: () => {}, warn: () => {} }

/** The producing end of a turn. */
interface Producer {
  interaction: InteractionId
  write(words: string): Promise<void>
  close(): void
  aborted(): boolean
}

/** A reader of a turn that comes again, with its cursor, to the next replica when a connection breaks. */
class Reader {
  text = ''
  cursor: string
  ended = false
  /** Whether it was told that there is nothing it has not seen. */
  nothing = false
  /** How often it had to come again. */
  breaks = 0
  readonly done: Promise<void>

  constructor(id: InteractionId, replica: number, after = '') {
    this.cursor = after
    this.done = this.#run(id, replica)
    this.done.catch(() => {})
  }

  async #run(id: InteractionId, replica: number): Promise<void> {
    for (let at = replica; !this.ended; at++) {
      if (at - replica > 200) throw new Error('no replica answers')
      try {
        const url = `${net.url(at % 3)}/api/v1/interactions/${id}/events?after=${this.cursor}`
        await using stream = await SseReader.open(url)
        this.nothing = stream.response.status === 204
        if (this.nothing) this.ended = true
        for (let frame = await stream.next(); frame; frame = await stream.next()) {
          this.cursor = frame.id ?? this.cursor
          if (frame.event === 'entry.append') this.text += json<LogEvent & { text: string }>(frame).text
          if (frame.event === 'done') this.ended = true
        }
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
      if (!this.ended) this.breaks++
    }
  }

  has = (text: string) => eventually(() => this.text === text, { limitMs: 20_000 })
}

describe.each([
  ['as it runs', false],
  ["with a kill -9 of the producer's replica", true],
])('a shared stream, %s', (_how, kills) => {
  /** The replica that died in this test. */
  let killed: number | undefined
  let key: string

  beforeEach(() => {
    killed = undefined
    key = randomUUID()
  })
  afterEach(async () => {
    for (const { close } of turns.values()) close()
    turns.clear()
    if (killed !== undefined) await net.replicas[killed]!.restart()
  })

  const message = (stream = key) => ({ pool: 'coder', text: stream })
  /** Makes the stream unless it exists, as does whoever comes first. */
  async function create(replica = 0, stream = key): Promise<Producer> {
    const headers = { 'idempotency-key': stream }
    const { body } = await api<Posted>(net.url(replica), '/messages', message(stream), { headers })
    const { interaction } = body
    const { turn, close } = await eventually(() => turns.get(interaction) ?? false, { limitMs: 20_000 })
    return {
      interaction,
      close,
      aborted: () => turn.signal.aborted,
      async write(words) {
        await turn.text(words)
        if (kills && killed === undefined) {
          const held = await net.redis.hget(`${net.prefix}{${turn.session}}:lease`, 'replica')
          killed = Number(held!.slice(1))
          await net.replicas[killed]!.kill9()
        }
      },
    }
  }

  test('it reads like any other stream', async () => {
    const it = await create()
    const reader = new Reader(it.interaction, 0)
    for (const words of ['1\n', '2\n', '3\n']) await it.write(words)
    it.close()
    await reader.done
    expect(reader.text).toBe('1\n2\n3\n')
  })

  test.each([
    ['both read at once', [0, 1]],
    ['the second reads first', [1, 0]],
  ])('two readers that were there before the first word get all of it; %s', async (_, order) => {
    const it = await create()
    const readers = order.map((replica) => new Reader(it.interaction, replica))
    await it.write('1\n')
    await it.write('2\n')
    it.close()
    for (const reader of readers) await reader.done
    expect(readers.map(({ text }) => text)).toEqual(['1\n2\n', '1\n2\n'])
  })

  test('a reader that comes in the middle gets all of it', async () => {
    const it = await create()
    const first = new Reader(it.interaction, 0)
    await it.write('1\n')
    const second = new Reader(it.interaction, 1)
    await it.write('2\n')
    it.close()
    await Promise.all([first.done, second.done])
    expect([first.text, second.text]).toEqual(['1\n2\n', '1\n2\n'])
  })

  test('words arrive before the next are written', async () => {
    const it = await create()
    const first = new Reader(it.interaction, 0)
    const second = new Reader(it.interaction, 1)
    await it.write('1\n')
    await Promise.all([first.has('1\n'), second.has('1\n')])
    expect([first.ended, second.ended]).toEqual([false, false])
    await it.write('2\n')
    it.close()
    await Promise.all([first.done, second.done])
    expect([first.text, second.text]).toEqual(['1\n2\n', '1\n2\n'])
  })

  test.each([0, 1, 2])(
    'who read ahead does not take from who did not; the fast one is at replica %i',
    async (replica) => {
      const it = await create()
      await it.write('1\n')
      const fast = new Reader(it.interaction, replica)
      await fast.has('1\n')
      await it.write('2\n')
      it.close()
      await fast.done
      const slow = new Reader(it.interaction, replica + 1)
      await slow.done
      expect([fast.text, slow.text]).toEqual(['1\n2\n', '1\n2\n'])
    },
  )

  test('three readers that came at three times get the same', async () => {
    const it = await create()
    const readers = [new Reader(it.interaction, 0)]
    for (const words of ['1\n', '2\n']) {
      await it.write(words)
      readers.push(new Reader(it.interaction, readers.length))
    }
    it.close()
    await Promise.all(readers.map(({ done }) => done))
    expect(readers.map(({ text }) => text)).toEqual(['1\n2\n', '1\n2\n', '1\n2\n'])
  })

  test('two streams are two', async () => {
    const one = await create(0)
    const two = await create(1, randomUUID())
    const readers = [one, two, one, two].map(({ interaction }, i) => new Reader(interaction, i % 3))
    await one.write('1\n')
    await two.write('other\n')
    await one.write('2\n')
    one.close()
    two.close()
    await Promise.all(readers.map(({ done }) => done))
    expect(readers.map(({ text }) => text)).toEqual(['1\n2\n', 'other\n', '1\n2\n', 'other\n'])
  })

  test('who has a part already gets the rest, who has all gets nothing, who has nothing gets all', async () => {
    const it = await create()
    await it.write('1\n')
    const first = new Reader(it.interaction, 0)
    await first.has('1\n')
    const part = first.cursor
    await it.write('2\n')
    await first.has('1\n2\n')
    const all = first.cursor
    const readers = [part, all, '0'].map((after, i) => new Reader(it.interaction, i, after))
    it.close()
    await Promise.all(readers.map(({ done }) => done))
    expect(readers.map(({ text }) => text)).toEqual(['2\n', '', '1\n2\n'])
  })

  test('a stream that is done is replayed, and is not made again', async () => {
    const it = await create()
    const first = new Reader(it.interaction, 0)
    await it.write('1\n2\n')
    it.close()
    await first.done
    const made = turns.size
    const again = await api<Posted>(net.url((killed ?? 0) + 1 > 2 ? 0 : (killed ?? 0) + 1), '/messages', message(), {
      headers: { 'idempotency-key': key },
    })
    expect(again.body.interaction).toBe(it.interaction)
    expect(again.headers.get('idempotent-replayed')).toBe('true')
    expect(turns.size).toBe(made)
    const second = new Reader(it.interaction, 2)
    await second.done
    expect([first.text, second.text]).toEqual(['1\n2\n', '1\n2\n'])
    const third = new Reader(it.interaction, 1, first.cursor)
    await third.done
    expect([third.text, third.nothing]).toEqual(['', true])
  })

  test('it may be made at one replica and read by its id alone at others', async () => {
    const it = await create(2)
    const readers = [0, 1].map((replica) => new Reader(it.interaction, replica))
    await it.write('1\n')
    await it.write('2\n')
    it.close()
    await Promise.all(readers.map(({ done }) => done))
    expect(readers.map(({ text }) => text)).toEqual(['1\n2\n', '1\n2\n'])
  })

  test('whether it exists, runs or is done can be asked anywhere', async () => {
    const it = await create()
    await it.write('1\n')
    const asked = async (id: string) => {
      const replies = net.replicas
        .filter((_, i) => i !== killed)
        .map(({ url }) => api<{ status?: string }>(url, `/interactions/${id}`))
      return [...new Set((await Promise.all(replies)).map(({ status, body }) => body.status ?? status))]
    }
    await eventually(async () => expect(await asked(it.interaction)).toEqual(['streaming']), { limitMs: 20_000 })
    it.close()
    await eventually(async () => expect(await asked(it.interaction)).toEqual(['completed']), { limitMs: 20_000 })
    expect(await asked(`${it.interaction.slice(0, -10)}0000000000`)).toEqual([404])
  })

  test('a cancel from anywhere reaches the producer and ends every reader', async () => {
    const it = await create()
    const readers = [0, 1, 2].map((replica) => new Reader(it.interaction, replica))
    await it.write('1\n')
    await Promise.all(readers.map((reader) => reader.has('1\n')))
    const alive = net.replicas.findLast((_, i) => i !== killed)!
    await api(alive.url, `/interactions/${it.interaction}/cancel`, {})
    await Promise.all(readers.map(({ done }) => done))
    await eventually(() => it.aborted(), { limitMs: 20_000 })
    expect(readers.map(({ text }) => text)).toEqual(['1\n', '1\n', '1\n'])
    if (kills) expect(readers.reduce((sum, { breaks }) => sum + breaks, 0)).toBeGreaterThan(0)
  })
})
