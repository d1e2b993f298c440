import fc from 'fast-check'
import { encode, MAX_EVENT_BYTES, split, type AgentEvent } from '../../src/protocol/events.js'
import { agentEvent, anyText } from './arbitraries.js'

const textEvent = fc.oneof(
  fc.record({ type: fc.constant('entry.append' as const), entry: fc.constant('a'), text: anyText(200) }),
  fc.record({
    type: fc.constant('entry.replace' as const),
    entry: fc.constant('a'),
    kind: fc.constant('reasoning' as const),
    offset: fc.nat({ max: 9 }),
    text: anyText(200),
  }),
)
const textOf = (event: AgentEvent): string => ('text' in event ? event.text : '')
const cutsAPair = (left: string, right: string): boolean =>
  /[\ud800-\udbff]$/.test(left) && /^[\udc00-\udfff]/.test(right)

test('the pieces join to the whole, each within the bound and not empty', () => {
  fc.assert(
    fc.property(textEvent, fc.integer({ min: 2, max: 20 }), (event, units) => {
      const pieces = split(event, units)
      expect(pieces.map(textOf).join('')).toBe(event.text)
      for (const piece of pieces) expect(textOf(piece).length).toBeLessThanOrEqual(units)
      if (event.text.length > units) for (const piece of pieces) expect(textOf(piece)).not.toBe('')
    }),
  )
})

test('no cut falls inside a surrogate pair', () => {
  fc.assert(
    fc.property(textEvent, fc.integer({ min: 1, max: 20 }), (event, units) => {
      const texts = split(event, units).map(textOf)
      for (const [i, text] of texts.slice(1).entries()) expect(cutsAPair(texts[i]!, text)).toBe(false)
    }),
  )
})

test('a bound too small for a pair is exceeded by one unit rather than never met', () => {
  expect(split({ type: 'entry.append', entry: 'a', text: 'x😀y' }, 1).map(textOf)).toEqual(['x', '😀', 'y'])
})

test('only the first piece replaces; the others go on after it, in the same entry of the same kind', () => {
  const pieces = split({ type: 'entry.replace', entry: 'a', kind: 'reasoning', offset: 3, text: 'abcdef' }, 2)
  expect(pieces).toEqual([
    { type: 'entry.replace', entry: 'a', kind: 'reasoning', offset: 3, text: 'ab' },
    { type: 'entry.append', entry: 'a', kind: 'reasoning', text: 'cd' },
    { type: 'entry.append', entry: 'a', kind: 'reasoning', text: 'ef' },
  ])
})

test('what fits, and what has no text, comes back as it is', () => {
  fc.assert(
    fc.property(agentEvent, (event) => {
      const pieces = split(event, 1000)
      expect(pieces).toHaveLength(1)
      expect(pieces[0]).toBe(event)
    }),
  )
})

test.each([
  ['letters', 'x'],
  ['control characters, six bytes each in JSON', '\u0001'],
  ['halves of pairs, six bytes each in JSON', '\ud800'],
  ['emoji', '😀'],
  ['quotes', '"'],
])('with the usual bound every piece of a megabyte of %s is an event that may be sent', (_, unit) => {
  const entry = '\u0001'.repeat(128)
  for (const piece of split({ type: 'entry.append', entry, kind: 'tool_call', text: unit.repeat(1 << 20) }))
    expect(Buffer.byteLength(encode(piece))).toBeLessThanOrEqual(MAX_EVENT_BYTES)
})
