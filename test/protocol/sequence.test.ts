import fc from 'fast-check'
import { formatCursor, parseCursor, place, START } from '../../src/protocol/sequence.js'

const cursor = fc.record({
  n: fc.nat({ max: 999_999_999_999_999 }),
  incarnation: fc.oneof(fc.constant(''), fc.stringMatching(/^[0-9a-z]{1,32}$/)),
})

test('a cursor that was formatted is read as the same cursor', () => {
  fc.assert(fc.property(cursor, (it) => expect(parseCursor(formatCursor(it))).toEqual(it)))
})

test('before any loss a cursor is just the number of the event', () => {
  expect(formatCursor({ n: 7, incarnation: '' })).toBe('7')
  expect(formatCursor({ n: 7, incarnation: 'k3x' })).toBe('7.k3x')
  expect(parseCursor('0')).toEqual(START)
})

test.each([
  '',
  ' 1',
  '1 ',
  '-1',
  '1.5.6',
  '1.',
  '.a',
  '1.A',
  '1.a-b',
  '1e3',
  '0x1',
  'abc',
  '1\n',
  `1.${'a'.repeat(33)}`,
  '1'.repeat(16),
])('%j is no cursor', (text) => expect(parseCursor(text)).toBeUndefined())

test('no text makes the parser throw, and what it reads is a whole number that can be counted with', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom('0', '9', '.', 'a', '-') })), (text) => {
      const read = parseCursor(text)
      if (read) expect(Number.isSafeInteger(read.n) && Number.isSafeInteger(read.n + 1)).toBe(true)
    }),
  )
})

test('an event is the next one, seen already, or after a hole, and exactly one of these', () => {
  expect([place(4, 5), place(4, 4), place(4, 1), place(4, 6), place(0, 1)]).toEqual([
    'next',
    'seen',
    'seen',
    'hole',
    'next',
  ])
  fc.assert(
    fc.property(fc.nat(), fc.nat(), (seen, n) => {
      expect(place(seen, n)).toBe(n <= seen ? 'seen' : n === seen + 1 ? 'next' : 'hole')
    }),
  )
})
