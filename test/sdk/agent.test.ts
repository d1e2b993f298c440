import { setTimeout as sleep } from 'node:timers/promises'
import { serve, TurnEnded, type Agent, type Handler, type ServeOptions, type Turn } from '../../src/sdk/agent.js'
import { eventually } from '../support/eventually.js'
import type { Refusal } from '../../src/protocol/agent-wire.js'
import { newTurn, startScriptedGateway, told, type ScriptedGateway } from './scripted-gateway.js'

/*
 * The SDK against the gateway's side of the wire over real sockets; the gateway does what the test says.
 */
interface Stage extends AsyncDisposable {
  gateway: ScriptedGateway
  agent: Agent
  /** What the SDK logged. */
  lines: string[]
}

async function stage(handler: Handler, options: Partial<ServeOptions> = {}): Promise<Stage> {
  const gateway = await startScriptedGateway()
  const lines: string[] = []
  const log = { info: (line: string) => void lines.push(line), warn: (line: string) => void lines.push(line) }
  const agent = serve({ url: gateway.url, pool: 'coder', capacity: 4, log, ...options }, handler)
  return {
    gateway,
    agent,
    lines,
    async [Symbol.asyncDispose]() {
      await agent.close(0)
      await gateway[Symbol.asyncDispose]()
    },
  }
}

/** A handler that does what it is told: each turn waits for the test. */
function puppet(): { handler: Handler; turns: Turn[]; turn(n: number): Promise<Turn>; release(n: number): void } {
  const turns: Turn[] = []
  const gates: PromiseWithResolvers<void>[] = []
  return {
    turns,
    handler: (turn) => {
      const gate = gateOf()
      gates.push(gate)
      turns.push(turn)
      return gate.promise
    },
    turn: (n) => eventually(() => turns[n] ?? false),
    release: (n) => gates[n]!.resolve(),
  }
}

interface PromiseWithResolvers<T> {
  promise: Promise<T>
  resolve: (value: T) => void
}
function gateOf(): PromiseWithResolvers<void> {
  let resolve = () => {}
  const promise = new Promise<void>((open) => (resolve = open))
  return { promise, resolve }
}

const words = (n: number): string[] => Array.from({ length: n }, (_, i) => `w${i} `)
const isPending = async (promise: Promise<unknown>): Promise<boolean> => {
  const pending = Symbol('pending')
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve))
  return (await Promise.race([promise, Promise.resolve(pending)])) === pending
}

describe('a turn', () => {
  test('is accepted, answered in numbered batches, completed when the handler returns, and settled', async () => {
    await using on = await stage(async (turn) => {
      await turn.reasoning('hm ')
      await turn.text('one ')
      await turn.text('two ')
      const tool = await turn.toolCall({ name: 'look' })
      await tool.append('42')
      await tool.done()
      await turn.text('three')
      await turn.setThread('thread-1')
      await turn.setTitle('A title')
      await turn.usage({ inputTokens: 1, outputTokens: 3 })
    })
    const seat = await on.gateway.seat(0)
    expect(seat.hello).toMatchObject({ protocol: 1, pool: 'coder', capacity: 4, holding: [] })
    const turn = newTurn()
    seat.turn(turn)
    await eventually(() => seat.settled.includes(turn.request))
    expect(seat.accepted).toEqual([turn.request])
    const log = on.gateway.log(turn.request)
    expect(log.map((event) => ('kind' in event ? `${event.type} ${event.kind}` : event.type))).toEqual([
      'entry.append reasoning',
      'entry.append text',
      'entry.append text',
      'entry.set tool_call',
      'entry.append tool_call',
      'entry.set tool_call',
      'entry.append text',
      'thread',
      'title',
      'usage',
      'completed',
    ])
    const texts = log.flatMap((event) => (event.type === 'entry.append' && event.kind === 'text' ? [event.entry] : []))
    expect(texts[0]).toBe(texts[1])
    expect(texts[2]).not.toBe(texts[1]) // after the tool call a new entry begins
    expect(on.gateway.faults).toEqual([])
  })

  test('fails with agent_error and the message when the handler throws', async () => {
    await using on = await stage(async (turn) => {
      await turn.text('so far')
      throw new Error('the model is on fire')
    })
    const turn = newTurn()
    const seat = await on.gateway.seat(0)
    seat.turn(turn)
    await eventually(() => on.gateway.log(turn.request).length === 2)
    expect(on.gateway.log(turn.request)[1]).toEqual({
      type: 'failed',
      code: 'agent_error',
      message: 'the model is on fire',
    })
  })

  test('that comes twice is accepted twice and run once, also after its end', async () => {
    let runs = 0
    await using on = await stage((turn) => {
      runs++
      return turn.text('hi')
    })
    const turn = newTurn()
    const seat = await on.gateway.seat(0)
    seat.turn(turn)
    seat.turn(turn)
    await eventually(() => seat.settled.length === 1)
    seat.turn(turn)
    await eventually(() => seat.accepted.length === 3)
    expect(runs).toBe(1)
    expect(told(on.gateway.log(turn.request))).toEqual({ text: 'hi', end: 'completed' })
  })

  test('that comes again because the gateway lost what it had of it is sent again, not run again', async () => {
    await using on = await stage((turn) => turn.text('once'))
    const turn = newTurn()
    const seat = await on.gateway.seat(0)
    seat.turn(turn)
    await eventually(() => on.gateway.log(turn.request).length === 2)
    on.gateway.log(turn.request).length = 0
    seat.turn(turn)
    // a sign of life with the next number: whoever has less asks for the rest
    await eventually(() => seat.batches.some(({ first, events }) => first === 3 && events.length === 0))
    seat.resend(turn.request, 0)
    await eventually(() => told(on.gateway.log(turn.request)).end === 'completed')
    expect(told(on.gateway.log(turn.request)).text).toBe('once')
  })

  test('of a session whose last handler is still running waits until it has returned', async () => {
    const puppets = puppet()
    await using on = await stage(puppets.handler)
    const seat = await on.gateway.seat(0)
    const first = newTurn()
    const second = newTurn({ session: first.session })
    seat.turn(first)
    const running = await puppets.turn(0)
    seat.turn(second)
    await eventually(() => seat.accepted.includes(second.request))
    await eventually(() => running.signal.aborted)
    expect(running.signal.reason).toMatchObject({ name: 'AbortError', reason: 'superseded' })
    expect(puppets.turns).toHaveLength(1)
    puppets.release(0)
    expect((await puppets.turn(1)).request).toBe(second.request)
    puppets.release(1)
    await eventually(() => told(on.gateway.log(second.request)).end === 'completed')
    expect(on.gateway.log(first.request)).toEqual([])
  })
})

describe('cancel', () => {
  test('aborts the signal with its reason, makes calls reject, and settles when the handler has returned', async () => {
    const caught: unknown[] = []
    await using on = await stage(async (turn) => {
      try {
        await sleep(60_000, undefined, { signal: turn.signal })
      } catch {
        await turn.text('too late').catch((err: unknown) => caught.push(err))
        throw turn.signal.reason
      }
    })
    const seat = await on.gateway.seat(0)
    const turn = newTurn()
    seat.turn(turn)
    await eventually(() => seat.accepted.length === 1)
    seat.cancel(turn.request)
    await eventually(() => seat.settled.includes(turn.request))
    expect(caught[0]).toBeInstanceOf(TurnEnded)
    expect(caught[0]).toMatchObject({ name: 'AbortError', reason: 'cancelled' })
    expect(on.gateway.log(turn.request)).toEqual([])
    expect(on.lines.join()).not.toContain('AbortError') // an abort is no failure
  })

  test('does not bring the process down when the handler awaits nothing', async () => {
    const unhandled: unknown[] = []
    const listener = (err: unknown) => void unhandled.push(err)
    process.on('unhandledRejection', listener)
    try {
      await using on = await stage(async (turn) => {
        await sleep(60_000, undefined, { signal: turn.signal }).catch(() => {})
        void turn.text('too late')
        void turn.complete()
        void turn.complete()
      })
      const seat = await on.gateway.seat(0)
      const turn = newTurn()
      seat.turn(turn)
      await eventually(() => seat.accepted.length === 1)
      seat.cancel(turn.request)
      await eventually(() => seat.settled.includes(turn.request))
      await sleep(0)
      expect(unhandled).toEqual([])
    } finally {
      process.off('unhandledRejection', listener)
    }
  })
})

describe('back-pressure', () => {
  test('calls wait when the window is full, nothing beyond it is sent, and all goes on with the acknowledgement', async () => {
    const puppets = puppet()
    await using on = await stage(puppets.handler)
    on.gateway.acks = false
    on.gateway.window = { events: 10, bytes: 1024 * 1024 }
    const seat = await on.gateway.seat(0)
    const message = newTurn()
    seat.turn(message)
    const turn = await puppets.turn(0)
    for (let i = 0; i < 9; i++) await turn.text(`${i}`)
    const tenth = turn.text('9')
    const eleventh = turn.text('10')
    await eventually(() => on.gateway.log(message.request).length === 10)
    expect(await isPending(tenth)).toBe(true)
    expect(on.gateway.log(message.request)).toHaveLength(10)
    seat.ack(message.request, 5)
    await Promise.all([tenth, eleventh])
    await eventually(() => on.gateway.log(message.request).length === 11)
  })

  test('a text larger than the window goes out piece by piece', async () => {
    const large = 'x'.repeat(400_000)
    await using on = await stage((turn) => turn.text(large))
    on.gateway.window = { events: 512, bytes: 150_000 }
    on.gateway.acks = false
    const message = newTurn()
    const seat = await on.gateway.seat(0)
    seat.turn(message)
    let most = 0
    for (let acked = 0; told(on.gateway.log(message.request)).end !== 'completed';) {
      await eventually(() => on.gateway.log(message.request).length > acked)
      const log = on.gateway.log(message.request)
      const inFlight = told(log.slice(acked)).text.length
      most = Math.max(most, inFlight)
      acked = log.length
      seat.ack(message.request, acked)
    }
    expect(told(on.gateway.log(message.request)).text).toBe(large)
    expect(most).toBeLessThan(200_000)
  })

  test('a handler that does not await its calls has its turn failed, not cut short', async () => {
    await using on = await stage((turn) => {
      for (let i = 0; i < 100_000; i++) void turn.text('far too much at once')
    })
    const message = newTurn()
    const seat = await on.gateway.seat(0)
    seat.turn(message)
    await eventually(() => told(on.gateway.log(message.request)).end !== undefined, { limitMs: 20_000 })
    expect(on.gateway.log(message.request).at(-1)).toMatchObject({ type: 'failed', code: 'agent_error' })
    expect(on.gateway.faults).toEqual([])
  })

  test('what cannot be sent is refused at the call', async () => {
    const errors: string[] = []
    await using on = await stage(async (turn) => {
      const bad: (() => unknown)[] = [
        () => turn.text(undefined as unknown as string),
        () => turn.append('', 'x'),
        () => turn.setThread(''),
        () => turn.usage({ inputTokens: -1, outputTokens: 0 }),
        () => turn.replace('a', -1, 'x'),
        () => turn.complete('because' as 'end_turn'),
      ]
      for (const call of bad) {
        try {
          await call()
        } catch (err) {
          errors.push((err as Error).name)
        }
      }
      await turn.setTitle('t'.repeat(2000)) // cut, not refused
      await turn.toolCall({ name: 'n'.repeat(2000) })
    })
    const message = newTurn()
    const seat = await on.gateway.seat(0)
    seat.turn(message)
    await eventually(() => told(on.gateway.log(message.request)).end === 'completed')
    expect(errors).toEqual(Array(6).fill('TypeError'))
    expect(on.gateway.faults).toEqual([])
    expect(on.gateway.log(message.request).map((event) => event.type)).toEqual(['title', 'entry.set', 'completed'])
  })

  test('working() is a sign of life with the number of the next event, and leaves no hole', async () => {
    const puppets = puppet()
    await using on = await stage(puppets.handler)
    const seat = await on.gateway.seat(0)
    const message = newTurn()
    seat.turn(message)
    const turn = await puppets.turn(0)
    void turn.text('a')
    turn.working()
    turn.working()
    await eventually(() => on.gateway.log(message.request).length === 1)
    puppets.release(0)
    await eventually(() => told(on.gateway.log(message.request)).end === 'completed')
    expect(on.gateway.faults).toEqual([])
    expect(seat.batches.filter(({ events }) => events.length === 0).length).toBeLessThanOrEqual(1)
  })
})

describe('a connection that breaks', () => {
  test.each(['cut', 'kick'] as const)(
    'is replaced (%s), and exactly what was not acknowledged is sent again',
    async (how) => {
      const puppets = puppet()
      await using on = await stage(puppets.handler)
      on.gateway.acks = false
      const seat = await on.gateway.seat(0)
      const message = newTurn()
      seat.turn(message)
      const turn = await puppets.turn(0)
      for (const word of words(6)) await turn.text(word)
      await eventually(() => on.gateway.log(message.request).length === 6)
      seat.ack(message.request, 4)
      on.gateway.log(message.request).length = 4 // the last two did not make it into the log
      seat.end(how)
      await eventually(() => seat.closed)
      for (const word of ['w6 ', 'w7 ']) await turn.text(word) // said while nobody listens
      const next = await on.gateway.seat(1)
      expect(next.hello.agent).toBe(seat.hello.agent)
      expect(next.hello.holding).toEqual([{ session: message.session, request: message.request, acked: 4 }])
      await eventually(() => on.gateway.log(message.request).length === 8)
      expect(next.batches.map(({ first }) => first)[0]).toBe(5)
      expect(told(on.gateway.log(message.request)).text).toBe(words(8).join(''))
      expect(on.gateway.faults).toEqual([])
    },
  )

  test('a turn that nobody waits for any more is aborted', async () => {
    const puppets = puppet()
    await using on = await stage(puppets.handler)
    const seat = await on.gateway.seat(0)
    const [over, going] = [newTurn(), newTurn()]
    seat.turn(over)
    seat.turn(going)
    const turns = [await puppets.turn(0), await puppets.turn(1)]
    on.gateway.answer = (hello) => ({
      resumed: hello.holding.filter((it) => it.request === going.request).map((it) => ({ ...it, after: 0 })),
      ended: [{ session: over.session, request: over.request }],
    })
    seat.end('cut')
    await eventually(() => turns[0]!.signal.aborted)
    expect(turns[0]!.signal.reason).toMatchObject({ reason: 'ended' })
    expect(turns[1]!.signal.aborted).toBe(false)
    const next = await on.gateway.seat(1)
    puppets.release(0)
    puppets.release(1)
    await eventually(() => told(on.gateway.log(going.request)).end === 'completed')
    await eventually(() => next.settled.includes(over.request))
    expect(on.gateway.log(over.request)).toEqual([])
  })

  test('a turn that has ended is not aborted by what is said of it later, nor by the end of the agent', async () => {
    const turns: Turn[] = []
    await using on = await stage((turn) => {
      turns.push(turn)
      return turn.text('the end')
    })
    const seat = await on.gateway.seat(0)
    const message = newTurn()
    seat.turn(message)
    await eventually(() => seat.settled.length === 1 && on.gateway.log(message.request).length === 2)
    on.gateway.answer = (hello) => ({ ended: hello.holding })
    seat.end('cut')
    const next = await on.gateway.seat(1)
    expect(next.hello.holding).toMatchObject([{ request: message.request }])
    await eventually(() => on.lines.filter((line) => line.includes('connected to')).length === 2)
    const last = newTurn()
    next.turn(last)
    await eventually(() => next.settled.length === 1)
    await on.agent.close(0)
    expect(turns.map(({ signal }) => signal.aborted)).toEqual([false, false])
  })

  test('the next address is tried when one does not answer', async () => {
    await using second = await startScriptedGateway()
    const dead = 'http://127.0.0.1:9' // discard: nobody listens
    const agent = serve({ url: [dead, second.url], pool: 'coder', log: quiet }, () => {})
    await second.seat(0)
    await agent.close(0)
  })

  test('a gateway that breaks off in the middle of the handshake is not waited for', async () => {
    await using on = await stage(() => {})
    const first = await on.gateway.seat(0)
    let refusals = 0
    on.gateway.answer = () => {
      if (++refusals > 2) return {}
      on.gateway.seats.at(-1)!.end('cut') // hello was said, nothing is answered
      return null
    }
    first.end('cut')
    await eventually(() => on.gateway.seats.length === 4)
    const turn = newTurn()
    on.gateway.seats[3]!.turn(turn)
    await eventually(() => told(on.gateway.log(turn.request)).end === 'completed')
  })

  test('a recently ended turn is still held: what Redis lost of its end is sent again', async () => {
    await using on = await stage((turn) => turn.text('the end'))
    const seat = await on.gateway.seat(0)
    const turn = newTurn()
    seat.turn(turn)
    await eventually(() => seat.settled.length === 1 && on.gateway.log(turn.request).length === 2)
    await eventually(() => on.agent !== undefined)
    on.gateway.log(turn.request).length = 1
    seat.end('cut')
    const next = await on.gateway.seat(1)
    expect(next.hello.holding).toEqual([{ session: turn.session, request: turn.request, acked: 2 }])
    await eventually(() => told(on.gateway.log(turn.request)).end === 'completed')
    expect(next.batches.map(({ first, events }) => [first, events.length])).toEqual([[2, 1]])
  })
})

describe('a log that lost its tail', () => {
  test('gets it again, also what was acknowledged already', async () => {
    const puppets = puppet()
    await using on = await stage(puppets.handler)
    const seat = await on.gateway.seat(0)
    const message = newTurn()
    seat.turn(message)
    const turn = await puppets.turn(0)
    for (const word of words(50)) await turn.text(word)
    await eventually(() => on.gateway.log(message.request).length === 50)
    seat.resend(message.request, 20)
    await eventually(() => on.gateway.log(message.request).length === 50)
    puppets.release(0)
    await eventually(() => told(on.gateway.log(message.request)).end === 'completed')
    expect(told(on.gateway.log(message.request)).text).toBe(words(50).join(''))
    expect(on.gateway.faults).toEqual([])
  })

  test('after the end of the turn too', async () => {
    await using on = await stage(async (turn) => {
      for (const word of words(5)) await turn.text(word)
    })
    const seat = await on.gateway.seat(0)
    const message = newTurn()
    seat.turn(message)
    await eventually(() => on.gateway.log(message.request).length === 6)
    seat.resend(message.request, 2)
    await eventually(() => told(on.gateway.log(message.request)).end === 'completed')
    expect(told(on.gateway.log(message.request)).text).toBe(words(5).join(''))
  })

  test('with more missing than is kept, the turn fails for its reader at once', async () => {
    const puppets = puppet()
    await using on = await stage(puppets.handler)
    const seat = await on.gateway.seat(0)
    const message = newTurn()
    seat.turn(message)
    const turn = await puppets.turn(0)
    for (let i = 0; i < 6000; i++) await turn.text(`${i} `)
    await eventually(() => on.gateway.log(message.request).length === 6000)
    seat.resend(message.request, 3)
    await eventually(() => turn.signal.aborted)
    expect(turn.signal.reason).toMatchObject({ reason: 'lost' })
    await eventually(() => on.gateway.log(message.request).length === 4)
    expect(on.gateway.log(message.request)[3]).toMatchObject({ type: 'failed', code: 'agent_output_lost' })
    expect(on.lines.join('\n')).toContain('no longer kept')
    puppets.release(0)
    await eventually(() => seat.settled.length === 1)
    expect(on.gateway.log(message.request)).toHaveLength(4)
  })

  test('an event that the gateway will never take fails the turn for its reader, after what it has', async () => {
    const puppets = puppet()
    await using on = await stage(puppets.handler)
    on.gateway.acks = false // what it has is not known here when the refusal comes
    on.gateway.refuses = ({ type }) => type === 'title'
    const seat = await on.gateway.seat(0)
    const message = newTurn()
    seat.turn(message)
    const turn = await puppets.turn(0)
    for (const word of words(3)) await turn.text(word)
    await eventually(() => on.gateway.log(message.request).length === 3)
    await turn.setTitle('An older gateway knows no titles')
    await eventually(() => on.gateway.log(message.request).length === 4)
    expect(on.gateway.log(message.request)[3]).toMatchObject({ type: 'failed', code: 'invalid_message' })
    expect(turn.signal.reason).toMatchObject({ reason: 'invalid_message' })
    expect(on.lines.join()).toContain('There is no such event.')
    puppets.release(0)
    await eventually(() => seat.settled.length === 1)
    expect(told(on.gateway.log(message.request))).toEqual({ text: words(3).join(''), end: 'failed' })
    expect(on.gateway.faults).toEqual([])
  })
})

describe('move', () => {
  test('the new connection is welcomed before the old one closes, and the turn goes on over it', async () => {
    const puppets = puppet()
    await using on = await stage(puppets.handler)
    const old = await on.gateway.seat(0)
    const message = newTurn()
    old.turn(message)
    const turn = await puppets.turn(0)
    await turn.text('a')
    await eventually(() => on.gateway.log(message.request).length === 1)
    const go = gateOf()
    const usual = on.gateway.answer
    on.gateway.answer = async (hello) => {
      await go.promise
      return usual(hello)!
    }
    old.move()
    const next = await on.gateway.seat(1)
    expect(next.hello.holding).toEqual([{ session: message.session, request: message.request, acked: 1 }])
    await turn.text('b')
    await eventually(() => old.batches.length === 2) // the old one still works
    expect(old.closed).toBe(false)
    go.resolve()
    await eventually(() => old.closed)
    await turn.text('c')
    puppets.release(0)
    await eventually(() => told(on.gateway.log(message.request)).end === 'completed')
    expect(told(on.gateway.log(message.request)).text).toBe('abc')
    expect(next.batches.map(({ first }) => first)).toContain(3)
    expect(on.gateway.faults).toEqual([])
  })

  test('what the old replica says when it is overtaken does not end the turn', async () => {
    const puppets = puppet()
    await using on = await stage(puppets.handler)
    const old = await on.gateway.seat(0)
    const message = newTurn()
    const late = newTurn()
    old.turn(message)
    const turn = await puppets.turn(0)
    const usual = on.gateway.answer
    on.gateway.answer = async (hello) => {
      // as the gateway does: the old connection is told before the new one has its welcome
      old.cancel(message.request, 'superseded')
      old.turn(late)
      old.notice({ code: 'superseded', message: 'Another connection uses this agent id; it has the sessions now.' })
      old.end('cut')
      await eventually(() => !on.agent.connected)
      return usual(hello)!
    }
    old.move()
    await on.gateway.seat(1)
    await eventually(() => on.lines.filter((line) => line.includes('connected to')).length === 2)
    expect(turn.signal.aborted).toBe(false)
    expect(puppets.turns).toHaveLength(1) // the late one was not in that hello: it comes again over the new connection
    await turn.text('still here')
    puppets.release(0)
    await eventually(() => told(on.gateway.log(message.request)).end === 'completed')
    expect(on.gateway.seats).toHaveLength(2)
  })

  test('nor what it says when a hello that nobody answered has overtaken it', async () => {
    const puppets = puppet()
    await using on = await stage(puppets.handler)
    const old = await on.gateway.seat(0)
    const message = newTurn()
    old.turn(message)
    const turn = await puppets.turn(0)
    const usual = on.gateway.answer
    on.gateway.answer = (hello) => {
      if (on.gateway.seats.length > 2) return usual(hello)
      on.gateway.seats[1]!.end('cut') // this replica has attached the session, and dies before it says so
      return null
    }
    old.move()
    await eventually(() => on.lines.some((line) => line.includes('trying again')))
    old.cancel(message.request, 'superseded')
    old.notice({ code: 'superseded', message: 'Another connection uses this agent id; it has the sessions now.' })
    old.end('cut')
    const next = await on.gateway.seat(2)
    expect(next.hello.holding).toEqual([{ session: message.session, request: message.request, acked: 0 }])
    expect(turn.signal.aborted).toBe(false)
    await turn.text('still here')
    puppets.release(0)
    await eventually(() => told(on.gateway.log(message.request)).end === 'completed')
    expect(on.lines.join()).not.toContain('another connection uses')
  })

  test.each(['while the next one is made', 'after a first refusal'])(
    'a connection that breaks %s is not replaced twice',
    async (when) => {
      await using on = await stage((turn) => turn.text('x'))
      const old = await on.gateway.seat(0)
      const go = gateOf()
      const refused = when === 'after a first refusal'
      on.gateway.answer = async (): Promise<Refusal | object> => {
        if (refused && on.gateway.seats.length === 2)
          return { ok: false, code: 'unavailable', message: 'draining', retry: true }
        await go.promise
        return {}
      }
      old.move()
      if (refused) await eventually(() => on.gateway.seats[1]?.closed === true)
      old.end('cut')
      await eventually(() => old.closed)
      const next = await on.gateway.seat(refused ? 2 : 1)
      go.resolve()
      for (let i = 0; i < 5; i++) {
        const turn = newTurn()
        await eventually(() => {
          next.turn(turn)
          return told(on.gateway.log(turn.request)).end === 'completed'
        })
        await sleep(120) // longer altogether than the first back-off
      }
      expect(on.gateway.attempts).toBe(refused ? 3 : 2)
    },
  )

  test('a refusal on the way leaves the old connection in use until a replica takes it', async () => {
    await using on = await stage((turn) => turn.text('x'))
    const old = await on.gateway.seat(0)
    const usual = on.gateway.answer
    let refused = 0
    on.gateway.answer = (hello) =>
      ++refused <= 2 ? { ok: false, code: 'unavailable', message: 'draining', retry: true } : usual(hello)
    old.move()
    await on.gateway.seat(2)
    const turn = newTurn()
    if (!old.closed) old.turn(turn)
    const next = await on.gateway.seat(3)
    await eventually(() => old.closed)
    next.turn(turn)
    await eventually(() => told(on.gateway.log(turn.request)).end === 'completed')
  })
})

describe('an agent', () => {
  test('that is refused for good rejects `closed` and stays away', async () => {
    await using gateway = await startScriptedGateway()
    gateway.answer = () => ({ ok: false, code: 'unauthorized', message: 'No valid agent key.', retry: false })
    const agent = serve({ url: gateway.url, pool: 'coder', log: quiet }, () => {})
    await expect(agent.closed).rejects.toMatchObject({ name: 'AgentRefused', code: 'unauthorized' })
    expect(gateway.attempts).toBe(1)
    await agent.close()
  })

  test('superseded once comes back; superseded again at once it gives way to the other process', async () => {
    await using on = await stage(() => {})
    const superseded = { code: 'superseded', message: 'Another connection uses this agent id.' } as const
    const first = await on.gateway.seat(0)
    first.notice(superseded)
    first.end('cut')
    const second = await on.gateway.seat(1)
    await eventually(() => on.lines.filter((line) => line.includes('connected to')).length === 2)
    second.notice(superseded)
    second.end('cut')
    await expect(on.agent.closed).rejects.toMatchObject({ name: 'AgentRefused', code: 'superseded' })
  })

  test('that closes takes nothing new, finishes what is in hand, over a new connection too, and then disconnects', async () => {
    const puppets = puppet()
    await using on = await stage(puppets.handler)
    const first = await on.gateway.seat(0)
    const message = newTurn()
    first.turn(message)
    const turn = await puppets.turn(0)
    const closing = on.agent.close()
    await eventually(() => first.left)
    first.end('cut')
    const second = await on.gateway.seat(1)
    expect(second.hello.capacity).toBe(0)
    await eventually(() => second.left)
    await turn.text('last words')
    expect(second.closed).toBe(false)
    puppets.release(0)
    await closing
    await on.agent.closed
    expect(told(on.gateway.log(message.request))).toEqual({ text: 'last words', end: 'completed' })
    await eventually(() => second.closed)
  })

  test('that cannot finish in time aborts its turns and says nothing false about them', async () => {
    const puppets = puppet()
    await using on = await stage(puppets.handler)
    const seat = await on.gateway.seat(0)
    const message = newTurn()
    seat.turn(message)
    const turn = await puppets.turn(0)
    await on.agent.close(10)
    expect(turn.signal.reason).toMatchObject({ reason: 'closed' })
    await eventually(() => seat.closed)
    expect(on.gateway.log(message.request)).toEqual([])
    puppets.release(0)
  })

  test('sends its key, and finds a gateway below a path', async () => {
    await using gateway = await startScriptedGateway({ path: '/gateway/socket.io/' })
    const agent = serve({ url: `${gateway.url}/gateway/`, pool: 'coder', key: 'secret', log: quiet }, () => {})
    const seat = await gateway.seat(0)
    expect(seat.socket.handshake.auth).toEqual({ key: 'secret' })
    await agent.close(0)
  })

  test.each([
    ['neither a pool nor sessions', {}],
    ['both a pool and sessions', { pool: 'coder', sessions: [newTurn().session] }],
    ['an id with a space', { pool: 'coder', agent: 'a b' }],
    ['a pool name with a slash', { pool: 'a/b' }],
    ['no address', { pool: 'coder', url: [] }],
  ])('with %s is refused at once', (_, options) => {
    expect(() => serve({ url: 'http://127.0.0.1:9', ...options }, () => {})).toThrow(TypeError)
  })
})

const quiet = { info: () => {}, warn: () => {} }
