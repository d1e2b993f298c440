import fc from 'fast-check'
import { Outbox, TAIL } from '../../src/protocol/outbox.js'
import { split, type AgentEvent } from '../../src/protocol/events.js'

const say = (text: string): AgentEvent => ({ type: 'entry.append', entry: 'e', text })
const completed: AgentEvent = { type: 'completed', reason: 'end_turn' }
const wide = { events: 1_000_000, bytes: 1_000_000_000 }

/** The gateway's side: a log that takes what fits at its end, as `append` does. */
class Log {
  events: AgentEvent[] = []
  holes = 0

  take({ first, events }: { first: number; events: AgentEvent[] }): void {
    if (first > this.events.length + 1) return void this.holes++
    this.events.push(...events.slice(this.events.length + 1 - first))
  }
}

type Act =
  | { do: 'say'; length: number }
  | { do: 'send' }
  /** What was sent and has not arrived is lost; the next connection says where the log ends. */
  | { do: 'break' }
  | { do: 'arrive'; batches: number }
  | { do: 'ack' }
  /** Redis loses the end of its log and asks for it. */
  | { do: 'lose'; events: number }
  | { do: 'wait'; ms: number }

const act: fc.Arbitrary<Act> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('say' as const), length: fc.integer({ min: 0, max: 300 }) }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('send' as const) }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('arrive' as const), batches: fc.integer({ min: 1, max: 5 }) }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('ack' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('break' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('lose' as const), events: fc.integer({ min: 0, max: 40 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 2000 }) }) },
)
const window = fc.record({ events: fc.integer({ min: 1, max: 20 }), bytes: fc.integer({ min: 1, max: 4000 }) })

test('whatever is lost on the way, cut off or taken back by Redis: the log gets what was said, once and in order', () => {
  fc.assert(
    fc.property(fc.array(act, { maxLength: 200 }), window, (acts, window) => {
      const outbox = new Outbox()
      const log = new Log()
      const said: AgentEvent[] = []
      let onTheWay: { first: number; events: AgentEvent[] }[] = []
      let now = 0
      const put = (event: AgentEvent) => {
        said.push(event)
        outbox.put(event)
      }
      const send = () => {
        for (let batch; (batch = outbox.take(window));) {
          onTheWay.push(batch)
          expect(batch.events.length).toBeGreaterThan(0)
        }
        expect(outbox.sent - outbox.acked).toBeLessThanOrEqual(window.events)
      }
      const arrive = (batches: number) => onTheWay.splice(0, batches).forEach((batch) => log.take(batch))
      const acts_ = {
        say: ({ length }: { length: number }) => put(say(`${said.length}:${'x'.repeat(length)}`)),
        send,
        arrive: ({ batches }: { batches: number }) => arrive(batches),
        ack: () => outbox.ack(log.events.length, now),
        break: () => {
          onTheWay = []
          expect(outbox.rewind(log.events.length, now)).toBe(true)
        },
        lose: ({ events }: { events: number }) => {
          onTheWay = [] // what the gateway drops until the resend
          // no more than is kept: that is another test
          log.events.length = Math.max(log.events.length - events, 0)
          expect(outbox.rewind(log.events.length, now)).toBe(true)
        },
        wait: ({ ms }: { ms: number }) => (now += Math.min(ms, Math.max(0, TAIL.ms - 1 - now))),
      }
      for (const one of acts) acts_[one.do](one as never)
      put(completed)
      while (!outbox.over) {
        send()
        arrive(Infinity)
        outbox.ack(log.events.length, now)
      }
      expect(log.events).toEqual(said)
      expect(log.holes).toBe(0)
      expect(outbox.pending).toEqual({ events: 0, bytes: 0 })
    }),
    { numRuns: 500 },
  )
})

test('batches are numbered without a gap and never larger than a message may be', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 200_000 }), { maxLength: 60 }), (lengths) => {
      const outbox = new Outbox()
      let pieces = 0
      for (const length of lengths) {
        for (const piece of split(say('x'.repeat(length)))) {
          outbox.put(piece)
          pieces++
        }
      }
      let next = 1
      for (let batch; (batch = outbox.take(wide)); next += batch.events.length) {
        expect(batch.first).toBe(next)
        expect(batch.events.length).toBeLessThanOrEqual(1024)
        expect(JSON.stringify(batch.events).length).toBeLessThanOrEqual(600_000)
      }
      expect(next - 1).toBe(pieces)
    }),
    { numRuns: 50 },
  )
})

test('a window smaller than the next event lets it through when nothing else is in flight', () => {
  const outbox = new Outbox()
  outbox.put(say('x'.repeat(10_000)))
  outbox.put(say('y'))
  expect(outbox.take({ events: 10, bytes: 100 })).toMatchObject({ first: 1 })
  expect(outbox.take({ events: 10, bytes: 100 })).toBeUndefined()
  outbox.ack(1, 0)
  expect(outbox.take({ events: 10, bytes: 100 })).toMatchObject({ first: 2 })
})

describe('what is acknowledged', () => {
  const filled = (count: number, length = 1): Outbox => {
    const outbox = new Outbox()
    for (let i = 0; i < count; i++) outbox.put(say('x'.repeat(length)))
    while (outbox.take(wide)) {}
    return outbox
  }

  test('is kept for a while, then let go', () => {
    const outbox = filled(10)
    outbox.ack(10, 1000)
    outbox.trim(1000 + TAIL.ms)
    expect(outbox.rewind(4, 1000 + TAIL.ms)).toBe(true)
    expect(outbox.take(wide)).toMatchObject({ first: 5, events: { length: 6 } })
    outbox.ack(10, 2000)
    outbox.trim(2001 + TAIL.ms)
    expect(outbox.rewind(9, 2001 + TAIL.ms)).toBe(false)
    expect(outbox.rewind(10, 2001 + TAIL.ms)).toBe(true)
  })

  test('is bounded in events and in bytes', () => {
    const many = filled(TAIL.events + 500)
    many.ack(TAIL.events + 500, 0)
    expect(many.rewind(499, 0)).toBe(false)
    expect(many.rewind(500, 0)).toBe(true)
    const large = filled(100, 100_000)
    large.ack(100, 0)
    expect(large.rewind(50, 0)).toBe(false)
    expect(large.rewind(99, 0)).toBe(true)
  })

  test('by a number beyond the last event changes nothing beyond it', () => {
    const outbox = filled(3)
    outbox.ack(10, 0)
    expect(outbox.acked).toBe(3)
    outbox.put(say('more'))
    expect(outbox.take(wide)).toMatchObject({ first: 4 })
  })
})

test('a log that ends beyond what was said is not ours', () => {
  const outbox = new Outbox()
  outbox.put(say('one'))
  expect(outbox.rewind(2, 0)).toBe(false)
})

test('an end in the place of what cannot be sent is all that goes out', () => {
  const outbox = new Outbox()
  for (let i = 0; i < 5; i++) outbox.put(say(`${i}`))
  outbox.take(wide)
  outbox.endAfter(2, { type: 'failed', code: 'c', message: 'm' })
  expect(outbox.take(wide)).toEqual({ first: 3, events: [{ type: 'failed', code: 'c', message: 'm' }] })
  expect(outbox.over).toBe(false)
  outbox.ack(3, 0)
  expect(outbox.over).toBe(true)
})

test('what is dropped is over, and no rewind brings it back', () => {
  const outbox = new Outbox()
  outbox.put(say('one'))
  outbox.drop()
  expect(outbox.over).toBe(true)
  expect(outbox.rewind(0, 0)).toBe(true)
  expect(outbox.take(wide)).toBeUndefined()
})
