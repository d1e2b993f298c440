import { readdirSync, readFileSync } from 'node:fs'
import { ERRORS, ThroughlineError, TURN_ERRORS, type ErrorCode, type ErrorKind } from '../../src/protocol/errors.js'

/** The rows of the table under a heading of docs/errors.md, cells as text, by code. */
function documented(heading: string): Record<string, string[]> {
  const section = readFileSync('docs/errors.md', 'utf8')
    .split(/^## /m)
    .find((part) => part.startsWith(heading))
  if (section === undefined) throw new Error(`docs/errors.md has no heading "${heading}"`)
  const rows = section.split('\n').filter((line) => line.startsWith('| `'))
  const byCode: Record<string, string[]> = {}
  for (const row of rows) {
    const [code, ...cells] = row.slice(2, -2).replaceAll('\\<', '<').split(' | ')
    expect(byCode).not.toHaveProperty([code!])
    byCode[code!.replaceAll('`', '')] = cells
  }
  return byCode
}

const kinds = Object.entries(ERRORS) as [ErrorCode, ErrorKind][]

test('docs/errors.md tells every error of the catalogue with its status, and no other', () => {
  const retry = (kind: ErrorKind) => (kind.retryAfterS ? `yes, after ${kind.retryAfterS} s` : kind.retry ? 'yes' : 'no')
  const expected = kinds.map(([code, kind]) => [code, [String(kind.status), retry(kind), kind.sentence]])
  expect(documented('Answers to a request')).toEqual(Object.fromEntries(expected))
})

test('docs/errors.md tells every way in which the gateway itself ends a turn, and no other', () => {
  const expected = Object.entries(TURN_ERRORS).map(([code, sentence]) => [code, [sentence]])
  expect(documented('Ends of a turn')).toEqual(Object.fromEntries(expected))
})

test('what a script ends a turn with stands in the catalogue', () => {
  const used = readdirSync('src/store/lua').flatMap((name) =>
    [...readFileSync(`src/store/lua/${name}`, 'utf8').matchAll(/fail\(id, '(\w+)'/g)].map(([, code]) => code!),
  )
  expect(used.length).toBeGreaterThan(0)
  expect(used.filter((code) => !(code in TURN_ERRORS))).toEqual([])
})

test('a code means one thing: no request error is also an end of a turn', () => {
  expect(Object.keys(ERRORS).filter((code) => code in TURN_ERRORS)).toEqual([])
})

test.each(kinds)(
  '%s has a status of its kind, a sentence, and says when to come again only if that helps',
  (_, kind) => {
    expect(kind.status).toBeGreaterThanOrEqual(400)
    expect(kind.status).toBeLessThan(600)
    expect(kind.sentence).toMatch(/^[A-Z].*\.$/)
    if (kind.retryAfterS !== undefined) expect(kind.retry).toBe(true)
    if (kind.status === 503 || kind.status === 429) expect(kind.retryAfterS).toBeGreaterThan(0)
  },
)

test('an error carries its sentence unless it is told a better one, and its cause', () => {
  const plain = new ThroughlineError('queue_full')
  expect(plain).toMatchObject({ code: 'queue_full', message: ERRORS.queue_full.sentence, kind: ERRORS.queue_full })
  expect(plain.cause).toBeUndefined()
  const cause = new Error('why')
  const told = new ThroughlineError('invalid_request', { message: 'text is missing', param: 'text', cause })
  expect(told).toMatchObject({ message: 'text is missing', param: 'text', cause })
})
