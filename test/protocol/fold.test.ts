import fc from 'fast-check'
import type { LogEvent, TurnEvent } from '../../src/protocol/events.js'
import { split } from '../../src/protocol/events.js'
import { asksUntil, emptyTurn, fold, hasOpenTool, outputText, type Turn } from '../../src/protocol/fold.js'
import { agentEvent, anyText, numbered, wholeLog } from './arbitraries.js'

const foldAll = (events: LogEvent[], from: Turn = emptyTurn()): Turn => events.reduce(fold, from)
const told = (...events: TurnEvent[]): Turn => foldAll(numbered(events))

function frozen<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value
  for (const inner of Object.values(value)) frozen(inner)
  return Object.freeze(value)
}

test('a fold that is stopped anywhere, sent as JSON and gone on with elsewhere equals the whole', () => {
  fc.assert(
    fc.property(wholeLog, fc.nat(), (log, somewhere) => {
      const at = somewhere % (log.length + 1)
      const half = JSON.parse(JSON.stringify(foldAll(log.slice(0, at)))) as Turn
      expect(foldAll(log.slice(at), half)).toEqual(foldAll(log))
    }),
  )
})

test('the entries are what a plain reading of the log gives', () => {
  fc.assert(
    fc.property(fc.array(agentEvent, { maxLength: 40 }), (said) => {
      const order: string[] = []
      const texts: Record<string, string> = {}
      const kinds: Record<string, string> = {}
      for (const event of said) {
        if (!('entry' in event) || event.type === 'permission') continue
        if (!order.includes(event.entry)) {
          order.push(event.entry)
          texts[event.entry] = ''
          kinds[event.entry] = event.kind ?? 'text'
        }
        if (event.type === 'entry.append') texts[event.entry] += event.text
        if (event.type === 'entry.replace')
          texts[event.entry] = texts[event.entry]!.substring(0, event.offset) + event.text
      }
      const { entries } = told(...said)
      expect(entries.map(({ id, kind, text }) => ({ id, kind, text }))).toEqual(
        order.map((id) => ({ id, kind: kinds[id], text: texts[id] })),
      )
    }),
  )
})

test('an event cut into pieces says the same as the whole event', () => {
  fc.assert(
    fc.property(fc.array(agentEvent, { maxLength: 20 }), fc.integer({ min: 2, max: 7 }), (said, units) => {
      const atOnce = (events: TurnEvent[]) => foldAll(numbered(events).map((event) => ({ ...event, at: 0 })))
      const { n: _, ...whole } = atOnce(said)
      const { n: __, ...pieces } = atOnce(said.flatMap((event) => split(event, units)))
      expect(pieces).toEqual(whole)
    }),
  )
})

test('folding changes nothing it was given: every viewer of a replica may share it', () => {
  fc.assert(
    fc.property(wholeLog, (log) => {
      let turn = frozen(emptyTurn())
      for (const event of log) turn = frozen(fold(turn, frozen(event)))
    }),
  )
})

test('it knows the number of the last event', () => {
  fc.assert(fc.property(wholeLog, (log) => expect(foldAll(log).n).toBe(log.length)))
})

test('offsets of a replacement are UTF-16 units, so one may fall inside a pair and the next one mend it', () => {
  const said: TurnEvent[] = [
    { type: 'entry.append', entry: 'a', text: '😀😀!' },
    { type: 'entry.replace', entry: 'a', offset: 2, text: '👍' },
  ]
  expect(told(...said).entries[0]!.text).toBe('😀👍')
  expect(told(...said, { type: 'entry.replace', entry: 'a', offset: 3, text: '' }).entries[0]!.text).toBe('😀\ud83d')
  expect(
    told(
      ...said,
      { type: 'entry.replace', entry: 'a', offset: 3, text: '' },
      { type: 'entry.append', entry: 'a', text: '\ude00' },
    ).entries[0]!.text,
  ).toBe('😀😀')
})

test('any text becomes any other by one replacement at the end of what they share', () => {
  fc.assert(
    fc.property(anyText(), anyText(), (before, after) => {
      let offset = 0
      while (offset < before.length && before[offset] === after[offset]) offset++
      const turn = told(
        { type: 'entry.append', entry: 'a', text: before },
        { type: 'entry.replace', entry: 'a', offset, text: after.slice(offset) },
      )
      expect(turn.entries[0]!.text).toBe(after)
    }),
  )
})

test('a replacement beyond the end, or of an entry nobody has seen, appends', () => {
  expect(told({ type: 'entry.replace', entry: 'a', offset: 9, text: 'x' }).entries).toEqual([
    { id: 'a', kind: 'text', text: 'x' },
  ])
})

test('a reset makes void what was shown; what is known of the session stays', () => {
  const turn = told(
    { type: 'submitted', queued: 0 },
    { type: 'dispatched', request: 'req_1', attempt: 1, agent: 'one' },
    { type: 'thread', thread: 'T' },
    { type: 'entry.append', entry: 'a', text: 'half' },
    { type: 'reset', reason: 'agent_disconnected', attempt: 2 },
  )
  expect(turn).toEqual({ n: 5, status: 'waiting', attempt: 1, entries: [], thread: 'T' })
})

test('an entry keeps the kind it was first given', () => {
  const turn = told(
    { type: 'entry.append', entry: 'a', kind: 'reasoning', text: 'hm' },
    { type: 'entry.append', entry: 'a', kind: 'text', text: '…' },
  )
  expect(turn.entries).toEqual([{ id: 'a', kind: 'reasoning', text: 'hm…' }])
})

test('the status goes with the events: queued, waiting, streaming, and one end', () => {
  const steps: [TurnEvent, string][] = [
    [{ type: 'submitted', queued: 2 }, 'queued'],
    [{ type: 'started' }, 'waiting'],
    [{ type: 'dispatched', request: 'req_1', attempt: 1, agent: 'one' }, 'waiting'],
    [{ type: 'title', title: 'T' }, 'waiting'],
    [{ type: 'entry.set', entry: 'a', name: 'ls' }, 'streaming'],
    [{ type: 'completed', reason: 'end_turn' }, 'completed'],
  ]
  for (const [i, [, status]] of steps.entries())
    expect(told(...steps.slice(0, i + 1).map(([event]) => event)).status).toBe(status)
})

test('an event of a later version of the gateway, met during a rolling update, is counted and otherwise left alone', () => {
  const before = told({ type: 'submitted', queued: 0 }, { type: 'entry.append', entry: 'a', text: 'x' })
  const after = fold(before, { type: 'from.the.future', n: 3, at: 1 } as unknown as LogEvent)
  expect(after).toEqual({ ...before, n: 3 })
})

const ask = (permission: string, timeoutMs?: number): TurnEvent => ({
  type: 'permission',
  permission,
  title: 'May I?',
  entry: 'call',
  options: [{ id: 'yes', name: 'Yes', kind: 'allow_once' }],
  ...(timeoutMs !== undefined && { timeoutMs }),
})

test('a permission is open, answered, settled; a reset forgets it', () => {
  const said: TurnEvent[] = [
    ask('p'),
    { type: 'permission.answered', permission: 'p', option: 'yes' },
    { type: 'permission.settled', permission: 'p', option: 'yes', by: 'client' },
    { type: 'reset', reason: 'agent_disconnected', attempt: 2 },
  ]
  const after = (n: number) => told(...said.slice(0, n))
  expect(after(1)).toMatchObject({ status: 'streaming', permissions: [{ id: 'p', entry: 'call', status: 'open' }] })
  expect(after(2).permissions).toMatchObject([{ id: 'p', status: 'answered', option: 'yes' }])
  expect(after(3).permissions).toMatchObject([{ id: 'p', status: 'settled', option: 'yes', by: 'client' }])
  expect(after(4)).not.toHaveProperty('permissions')
})

test('what is said of a permission that nobody asked for changes nothing', () => {
  const settled: TurnEvent = { type: 'permission.settled', permission: 'x', option: null, by: 'timeout' }
  expect(told(settled)).toEqual({ ...emptyTurn(), n: 1 })
  expect(told(ask('p'), settled).permissions).toMatchObject([{ id: 'p', status: 'open' }])
})

test('an open permission is waited for as long as it says, and never for longer than the limit', () => {
  const at = told(ask('p')).permissions![0]!.askedAt
  expect(asksUntil(told(ask('p', 1000)), 5000)).toBe(at + 1000)
  expect(asksUntil(told(ask('p')), 5000)).toBe(at + 5000)
  expect(asksUntil(told(ask('p', 9000)), 5000)).toBe(at + 5000)
  expect(
    asksUntil(told(ask('p'), { type: 'permission.settled', permission: 'p', option: null, by: 'timeout' }), 9),
  ).toBe(0)
  expect(asksUntil(emptyTurn(), 5000)).toBe(0)
})

test('the plain text is that of the text entries, a blank line between them', () => {
  const turn = told(
    { type: 'entry.append', entry: 'a', text: 'one' },
    { type: 'entry.append', entry: 'r', kind: 'reasoning', text: 'hm' },
    { type: 'entry.append', entry: 'empty', text: '' },
    { type: 'entry.append', entry: 'b', text: 'two' },
  )
  expect(outputText(turn)).toBe('one\n\ntwo')
})

test('a tool call is open while it is pending or in progress', () => {
  const tool = (status: 'pending' | 'in_progress' | 'completed' | 'failed' | 'cancelled') =>
    hasOpenTool(told({ type: 'entry.set', entry: 't', kind: 'tool_call', status }))
  expect([tool('pending'), tool('in_progress'), tool('completed'), tool('failed'), tool('cancelled')]).toEqual([
    true,
    true,
    false,
    false,
    false,
  ])
  expect(hasOpenTool(told({ type: 'entry.set', entry: 'p', kind: 'plan', status: 'in_progress' }))).toBe(false)
})
