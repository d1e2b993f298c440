import { isSampled, NO_TRACE, parseTraceContext, spanIdOf, traceIdOf, within } from '../../src/protocol/trail.js'

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const parent = `00-${TRACE}-00f067aa0ba902b7-01`

test('the two headers of W3C Trace Context are read', () => {
  const context = parseTraceContext(parent, 'rojo=00f067aa0ba902b7,congo=t61rcWkgMzE')
  expect(context).toEqual({ traceparent: parent, tracestate: 'rojo=00f067aa0ba902b7,congo=t61rcWkgMzE' })
  expect([traceIdOf(context), spanIdOf(context), isSampled(context)]).toEqual([TRACE, '00f067aa0ba902b7', true])
  expect(isSampled(parseTraceContext(parent.replace(/01$/, '00'), undefined))).toBe(false)
})

test('a later version counts as far as it is known', () => {
  expect(parseTraceContext(`cc-${TRACE}-00f067aa0ba902b7-01-what-the-future-will-be-like`, '')).toEqual({
    traceparent: parent,
    tracestate: '',
  })
})

test.each([
  ['none', undefined],
  ['an empty one', ''],
  ['capitals', parent.toUpperCase()],
  ['version ff', parent.replace(/^00/, 'ff')],
  ['more than version 00 has', `${parent}-01`],
  ['a trace of zeros', `00-${'0'.repeat(32)}-00f067aa0ba902b7-01`],
  ['a span of zeros', `00-${TRACE}-${'0'.repeat(16)}-01`],
  ['too short', parent.slice(0, -1)],
  ['two headers', `${parent}, ${parent}`],
  ['line breaks', `${parent}\n`],
])('%s begins a new trace, whatever tracestate says', (_what, given) => {
  expect(parseTraceContext(given, 'a=1')).toEqual(NO_TRACE)
})

test.each([
  ['too long', 'a=1'.padEnd(513, 'x')],
  ['not ASCII', 'a=é'],
])('a tracestate that is %s is left out, the trace is not', (_what, state) => {
  expect(parseTraceContext(parent, state)).toEqual({ traceparent: parent, tracestate: '' })
})

test('another span of the same trace', () => {
  expect(within({ traceparent: parent, tracestate: 'a=1' }, 'b7ad6b7169203331')).toEqual({
    traceparent: `00-${TRACE}-b7ad6b7169203331-01`,
    tracestate: 'a=1',
  })
})
