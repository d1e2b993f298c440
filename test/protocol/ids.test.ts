import fc from 'fast-check'
import {
  attemptOf,
  interactionId,
  interactionOf,
  isInteractionId,
  isRequestId,
  isSessionId,
  nameOf,
  requestOf,
  sessionId,
  sessionOf,
} from '../../src/protocol/ids.js'

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
const ids = fc
  .record({
    nowMs: fc.nat({ max: 2 ** 47 }),
    forSession: bytes(16),
    forInteraction: bytes(10),
    attempt: fc.integer({ min: 1, max: 999_999 }),
  })
  .map(({ nowMs, forSession, forInteraction, attempt }) => {
    const session = sessionId(nowMs, forSession)
    const interaction = interactionId(session, forInteraction)
    return { session, interaction, request: requestOf(interaction, attempt), attempt }
  })

test('a request id gives back its interaction, its session and its attempt', () => {
  fc.assert(
    fc.property(ids, ({ session, interaction, request, attempt }) => {
      expect(sessionOf(interaction)).toBe(session)
      expect(sessionOf(request)).toBe(session)
      expect(interactionOf(request)).toBe(interaction)
      expect(attemptOf(request)).toBe(attempt)
    }),
  )
})

test('each kind of id is recognised, and no other kind', () => {
  fc.assert(
    fc.property(ids, ({ session, interaction, request }) => {
      const all = [session, interaction, request]
      expect(all.map(isSessionId)).toEqual([true, false, false])
      expect(all.map(isInteractionId)).toEqual([false, true, false])
      expect(all.map(isRequestId)).toEqual([false, false, true])
    }),
  )
})

test('an id with any character changed to one that ids do not have is refused', () => {
  fc.assert(
    fc.property(
      ids,
      fc.nat(),
      fc.constantFrom('I', 'i', 'l', 'o', 'u', 'A', ' ', '\n', '{', '}', ':', '*', '😀'),
      (it, where, wrong) => {
        for (const [id, is] of [
          [it.session, isSessionId],
          [it.interaction, isInteractionId],
          [it.request, isRequestId],
        ] as const) {
          const at = where % id.length
          const changed = id.slice(0, at) + wrong + id.slice(at + 1)
          if (changed !== id) expect(is(changed)).toBe(false)
        }
      },
    ),
  )
})

test.each([
  ['', 'nothing'],
  ['ses_', 'no body'],
  ['ses_01234567890123456789012345', 'too long'],
  ['ses_0123456789012345678901234', 'too short'],
  ['ses_01234567890123456789012345\n', 'a line end'],
  ['x ses_01234567890123456789012345', 'something before it'],
])('%j is no session id: %s', (text, why) => {
  if (why === 'too long') text += '6'
  expect(isSessionId(text)).toBe(false)
})

test('attempts begin with 1 and are written without leading zeros', () => {
  const request = `req_${'0'.repeat(26)}_${'0'.repeat(10)}_`
  expect(['1', '42', '999999'].map((n) => isRequestId(request + n))).toEqual([true, true, true])
  expect(['', '0', '01', '-1', '1.5', '1000000', '1e3'].map((n) => isRequestId(request + n))).toEqual(
    Array(7).fill(false),
  )
})

test('session ids sort by the time they were made', () => {
  fc.assert(
    fc.property(fc.nat({ max: 2 ** 47 }), fc.integer({ min: 1, max: 1e9 }), bytes(16), bytes(16), (ms, later, a, b) => {
      expect(sessionId(ms, a) < sessionId(ms + later, b)).toBe(true)
    }),
  )
})

test('other names are their prefix and a character per byte of chance', () => {
  expect(nameOf('i', new Uint8Array([0, 31, 32, 255]))).toBe('i_0z0z')
})
