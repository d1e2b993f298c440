import { EventSource } from 'eventsource'
import type { LogEvent } from '../../src/protocol/events.js'
import { emptyTurn, fold, outputText } from '../../src/protocol/fold.js'
import type { InteractionId } from '../../src/protocol/ids.js'
import { api, post } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'
import { balance, say } from './agent.js'

/*
 * The package `eventsource` as a black box on the native streams: it reconnects by itself, and knows nothing of ours
 * but the address.
 */
/** Replicas are processes, and the machine may be busy. */
const PATIENT = { limitMs: 15_000 }
const TYPES = ['submitted', 'started', 'dispatched', 'reset', 'entry.append', 'completed', 'failed', 'cancelled']

function viewer(net: Network, url: string, path: string, key?: string) {
  const seen: LogEvent[] = []
  const source = new EventSource(`${url}/api/v1${path}`, {
    fetch: (input, init) =>
      fetch(input, {
        ...init,
        headers: { ...init.headers, ...(key !== undefined && { authorization: `Bearer ${key}` }) },
      }),
  })
  net.onDispose(() => source.close())
  const it = { seen, done: undefined as string | undefined, codes: [] as (number | undefined)[], breaks: 0, source }
  for (const type of TYPES)
    source.addEventListener(type, ({ data }) => void seen.push(JSON.parse(data as string) as LogEvent))
  source.addEventListener('done', ({ data }) => {
    it.done = (JSON.parse(data as string) as { status: string }).status
    source.close()
  })
  source.addEventListener('error', ({ code }) => {
    it.breaks++
    it.codes.push(code)
  })
  return it
}

const textOf = (events: LogEvent[]): string => outputText(events.reduce(fold, emptyTurn()))
const eventsOf = (id: InteractionId) => `/interactions/${id}/events`

test('it streams, and after kill -9 of its replica goes on by itself at another, without a hole or a repeat', async () => {
  await using net = await startNetwork({ replicas: 3, processes: true })
  const agent = await net.rawAgent({ pool: 'coder', replica: 2 })
  const { interaction } = await post(net.url(2), { pool: 'coder' }, 'hello')
  const it = viewer(net, await balance(net), eventsOf(interaction)) // the first connection goes to the first replica
  await say(agent, 0, [text('one '), text('two ')])
  await eventually(() => it.seen.length >= 4, PATIENT)
  await net.replicas[0]!.kill9()
  await say(agent, 0, [text('three')], 3)
  await eventually(() => textOf(it.seen) === 'one two three', PATIENT)
  await say(agent, 0, [completed], 4)
  await eventually(() => it.done === 'completed', PATIENT)
  expect(it.breaks).toBeGreaterThan(0)
  expect(it.seen.map(({ n }) => n)).toEqual(it.seen.map((_, i) => i + 1))
})

test('it sees a cancel and a failure as the last event, and stays away when all was said', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true })
  const agent = await net.rawAgent({ pool: 'coder', replica: 1, capacity: 4 })
  const cancelled = await post(net.url(0), { pool: 'coder' }, 'hello')
  const it = viewer(net, net.url(0), eventsOf(cancelled.interaction))
  await agent.turn()
  await api(net.url(1), `/interactions/${cancelled.interaction}/cancel`, {})
  await eventually(() => it.done === 'cancelled', PATIENT)
  expect(it.seen.at(-1)!.type).toBe('cancelled')

  const failing = await post(net.url(0), { pool: 'coder' }, 'hello')
  const other = viewer(net, net.url(0), eventsOf(failing.interaction))
  await say(agent, 1, [text('half'), { type: 'failed', code: 'out_of_luck', message: 'No luck.' }])
  await eventually(() => other.done === 'failed', PATIENT)
  expect(other.seen.at(-1)).toMatchObject({ type: 'failed', code: 'out_of_luck', message: 'No luck.' })

  const late = viewer(net, net.url(0), `${eventsOf(failing.interaction)}?after=${other.seen.at(-1)!.n}`)
  await eventually(() => late.source.readyState === EventSource.CLOSED, PATIENT)
  expect(late.codes).toEqual([204])
})

test('it sees what is refused by its status, and does not come again', async () => {
  await using net = await startNetwork({ processes: true, env: { CLIENT_KEYS: 'alice=key-of-alice-1' } })
  const unknown = '/interactions/int_00000000000000000000000000_0000000000/events'
  for (const [key, path, status] of [
    ['wrong', unknown, 401],
    ['key-of-alice-1', unknown, 404],
    ['key-of-alice-1', `${unknown}?after=x`, 400],
  ] as const) {
    const it = viewer(net, net.url(0), path, key)
    await eventually(() => it.source.readyState === EventSource.CLOSED, PATIENT)
    expect(it.codes).toEqual([status])
  }
})
