import { randomBytes } from 'node:crypto'
import { jest } from '@jest/globals'
import type { Redis } from 'ioredis'
import type { Message } from '../../src/store/bus.js'
import { Bus, type Listener } from '../../src/store/bus.js'
import { connector, type Connection } from '../../src/store/redis.js'
import { eventually } from '../support/eventually.js'
import { quiet } from './open.js'
import { startRelay } from './tcp-relay.js'

const url = process.env['TEST_REDIS_URL']!

interface Bench extends AsyncDisposable {
  bus: Bus
  sub: Connection
  pub: Redis
  replica: string
  channel(name: string): string
  /** Ends the subscriber's connection from the server's side, as Redis does with a slow one. */
  kill(): Promise<void>
}

async function bench(options: { subUrl?: string; everyMs?: number } = {}): Promise<Bench> {
  const replica = `bus-${randomBytes(6).toString('hex')}`
  const sub = connector(options.subUrl ?? url, replica, quiet)('subscriber')
  const pub = connector(url, replica, quiet)('commands') as Redis
  await eventually(() => sub.status === 'ready' && pub.status === 'ready')
  const bus = new Bus(sub, pub, { channel: `${replica}:probe`, everyMs: options.everyMs ?? 60_000 }, 3000, quiet)
  return {
    bus,
    sub,
    pub,
    replica,
    channel: (name) => `${replica}:${name}`,
    async kill() {
      const list = String(await pub.client('LIST'))
      const line = list.split('\n').find((it) => it.includes(`name=throughline:${replica}:subscriber`))
      await pub.client('KILL', 'ID', /id=(\d+)/.exec(line!)![1]!)
    },
    async [Symbol.asyncDispose]() {
      bus.close()
      sub.disconnect()
      pub.disconnect()
    },
  }
}

/** Says what it hears: texts, and `LOOK`. */
function listener(): Listener & { heard: string[] } {
  const heard: string[] = []
  return { heard, message: (m) => void heard.push(m.text), look: () => void heard.push('LOOK') }
}

test('what is published after listen has resolved is heard, in order, by every listener and on its channel only', async () => {
  await using it = await bench()
  const [a, b, other] = [listener(), listener(), listener()]
  using _a = await it.bus.listen(it.channel('x'), a)
  using _b = await it.bus.listen(it.channel('x'), b)
  using _c = await it.bus.listen(it.channel('y'), other)
  for (let i = 0; i < 100; i++) void it.pub.spublish(it.channel('x'), String(i))
  await it.pub.spublish(it.channel('y'), 'to y')
  await eventually(() => a.heard.length === 100 && other.heard.length === 1)
  expect(a.heard).toEqual(Array.from({ length: 100 }, (_, i) => String(i)))
  expect(b.heard).toEqual(a.heard)
  expect(other.heard).toEqual(['to y'])
})

test('the JSON of a message is parsed once, however many listen, and they share it', async () => {
  await using it = await bench()
  const parse = jest.spyOn(JSON, 'parse')
  try {
    const seen: unknown[] = []
    const hear = { message: (m: Message) => void seen.push(m.json()), look: () => {} }
    using _a = await it.bus.listen(it.channel('x'), hear)
    using _b = await it.bus.listen(it.channel('x'), { ...hear })
    using _c = await it.bus.listen(it.channel('x'), { ...hear })
    const text = '{"many":["words"]}'
    await it.pub.spublish(it.channel('x'), text)
    await eventually(() => seen.length === 3)
    expect(parse.mock.calls.filter(([given]) => given === text)).toHaveLength(1)
    expect(seen[1]).toBe(seen[0])
    expect(seen[2]).toBe(seen[0])
  } finally {
    parse.mockRestore()
  }
})

test('when Redis cuts the subscriber every listener is told to look again, and then hears what comes', async () => {
  await using it = await bench()
  const [a, b] = [listener(), listener()]
  using _a = await it.bus.listen(it.channel('x'), a)
  using _b = await it.bus.listen(it.channel('y'), b)
  await it.pub.spublish(it.channel('x'), 'before')
  await eventually(() => a.heard.length === 1)
  await it.kill()
  await eventually(() => a.heard.includes('LOOK') && b.heard.includes('LOOK'))
  // from the LOOK on nothing is lost: the subscription stood before it was said
  await it.pub.spublish(it.channel('x'), 'after')
  await it.pub.spublish(it.channel('y'), 'after')
  await eventually(() => a.heard.at(-1) === 'after' && b.heard.at(-1) === 'after')
  expect(a.heard).toEqual(['before', 'LOOK', 'after'])
})

test('cut again and again, every loss lies before a LOOK', async () => {
  await using it = await bench()
  const a = listener()
  using _ = await it.bus.listen(it.channel('x'), a)
  let sent = 0
  const cuts: { heard: number; sent: number }[] = []
  for (let cut = 1; cut <= 5; cut++) {
    for (let i = 0; i < 20; i++) await it.pub.spublish(it.channel('x'), String(++sent))
    const heard = a.heard.length
    await it.kill()
    for (let i = 0; i < 20; i++) await it.pub.spublish(it.channel('x'), String(++sent))
    await eventually(() => a.heard.filter((said) => said === 'LOOK').length === cut)
    cuts.push({ heard, sent })
  }
  await it.pub.spublish(it.channel('x'), String(++sent))
  await eventually(() => a.heard.at(-1) === String(sent))
  for (const [k, cut] of cuts.entries()) {
    const heard = a.heard.slice(cut.heard, cuts[k + 1]?.heard)
    const after = heard.slice(heard.indexOf('LOOK') + 1).map(Number) // what it says before that may have gaps
    expect(after[0] ?? 0).toBeLessThanOrEqual(cut.sent + 1)
    expect(after).toEqual(after.map((_, i) => after[0]! + i))
  }
})

test('a connection that looks alive and delivers nothing is found by the probe, and replaced', async () => {
  await using relay = await startRelay(Number(new URL(url).port || 6379))
  await using it = await bench({ subUrl: `redis://127.0.0.1:${relay.port}`, everyMs: 50 })
  await it.bus.start()
  const a = listener()
  using _ = await it.bus.listen(it.channel('x'), a)
  await it.pub.spublish(it.channel('x'), 'before')
  await eventually(() => a.heard.length === 1)
  relay.silence()
  await it.pub.spublish(it.channel('x'), 'lost')
  await eventually(() => a.heard.includes('LOOK'))
  await it.pub.spublish(it.channel('x'), 'after')
  await eventually(() => a.heard.at(-1) === 'after')
  expect(a.heard).not.toContain('lost')
  await eventually(() => it.bus.probeAgeMs < 150)
})

test('while the probe is heard nobody is told to look', async () => {
  await using it = await bench({ everyMs: 20 })
  await it.bus.start()
  const a = listener()
  using _ = await it.bus.listen(it.channel('x'), a)
  const began = Date.now()
  await eventually(() => Date.now() - began > 300 && it.bus.probeAgeMs < 100)
  expect(a.heard).toEqual([])
})

test('one subscription serves all listeners of a channel, and outlives the last of them for a while', async () => {
  await using it = await bench()
  const count = async () =>
    Number(((await it.pub.call('PUBSUB', 'SHARDNUMSUB', it.channel('x'))) as [string, number])[1])
  const [a, b] = [listener(), listener()]
  const stops = await Promise.all([it.bus.listen(it.channel('x'), a), it.bus.listen(it.channel('x'), b)])
  expect([await count(), it.bus.channels]).toEqual([1, 1])
  for (const stop of stops) stop[Symbol.dispose]()
  expect([await count(), it.bus.channels]).toEqual([1, 1])
  using _ = await it.bus.listen(it.channel('x'), a)
  await it.pub.spublish(it.channel('x'), 'hello')
  await eventually(() => a.heard.length === 1)
  expect(b.heard).toEqual([])
})

test('a channel that nobody listens to any more is left, and can be listened to again', async () => {
  await using it = await bench()
  const count = async () =>
    Number(((await it.pub.call('PUBSUB', 'SHARDNUMSUB', it.channel('x'))) as [string, number])[1])
  const a = listener()
  const stop = await it.bus.listen(it.channel('x'), a)
  stop[Symbol.dispose]()
  stop[Symbol.dispose]()
  await eventually(async () => (await count()) === 0, { limitMs: 10_000 })
  expect(it.bus.channels).toBe(0)
  using _ = await it.bus.listen(it.channel('x'), a)
  await it.pub.spublish(it.channel('x'), 'again')
  await eventually(() => a.heard.length === 1)
})

test('a listener that throws takes nothing from the others', async () => {
  await using it = await bench()
  const a = listener()
  const broken: Listener = {
    message: () => {
      throw new Error('broken listener')
    },
    look: () => {
      throw new Error('broken listener')
    },
  }
  using _b = await it.bus.listen(it.channel('x'), broken)
  using _a = await it.bus.listen(it.channel('x'), a)
  await it.pub.spublish(it.channel('x'), 'one')
  await it.kill()
  await eventually(() => a.heard.includes('LOOK'))
  expect(a.heard).toEqual(['one', 'LOOK'])
})
