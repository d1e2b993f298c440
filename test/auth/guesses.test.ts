import { Guesses } from '../../src/auth/guesses.js'
import { ThroughlineError } from '../../src/protocol/errors.js'

const WINDOW_MS = 60_000

function story(limit: number) {
  const it = { now: 0, counted: 0, asked: 0, told: [] as string[] }
  const counts = new Map<string, number>()
  const count = (address: string) => {
    it.counted++
    counts.set(address, (counts.get(address) ?? 0) + 1)
    return Promise.resolve({ exceeded: counts.get(address)! > limit, resetMs: WINDOW_MS })
  }
  const guesses = new Guesses(
    count,
    (address) => void it.told.push(address),
    () => it.now,
  )
  const verify = (key: string) => () => {
    it.asked++
    return Promise.resolve(key === 'right' ? 'ann' : undefined)
  }
  const attempt = (address: string, key: string) =>
    guesses.attempt(address, key, verify(key)).catch((err: unknown) => (err as ThroughlineError).code)
  return Object.assign(it, { guesses, attempt, counts })
}

test('after too many failures nobody new is listened to from there until the window ends, and it is told once', async () => {
  const it = story(2)
  for (let i = 0; i < 3; i++) expect(await it.attempt('a', `wrong-${i}`)).toBeUndefined()
  const { asked } = it
  expect(await it.attempt('a', 'right')).toBe('rate_limit_exceeded')
  expect(it.asked).toBe(asked)
  expect(await it.attempt('b', 'right')).toBe('ann')
  it.now = WINDOW_MS - 1
  expect(await it.attempt('a', 'right')).toBe('rate_limit_exceeded')
  it.now = WINDOW_MS
  it.counts.clear()
  expect(await it.attempt('a', 'right')).toBe('ann')
  expect(it.told).toEqual(['a'])
})

test('who came in from there before goes on; the same key from elsewhere is new there', async () => {
  const it = story(0)
  expect(await it.attempt('a', 'right')).toBe('ann')
  await it.attempt('a', 'wrong')
  await it.attempt('b', 'wrong')
  expect(await it.attempt('a', 'right')).toBe('ann')
  expect(await it.attempt('b', 'right')).toBe('rate_limit_exceeded')
})

test('what a failure is: nothing found, or unauthorized; not that Redis is away', async () => {
  const it = story(5)
  const throwing = (code: 'unauthorized' | 'store_unavailable') =>
    it.guesses.attempt('a', 'x', () => Promise.reject(new ThroughlineError(code)))
  await expect(throwing('unauthorized')).rejects.toMatchObject({ code: 'unauthorized' })
  expect(it.counted).toBe(1)
  await expect(throwing('store_unavailable')).rejects.toMatchObject({ code: 'store_unavailable' })
  expect(it.counted).toBe(1)
  await it.attempt('a', 'wrong')
  expect(it.counted).toBe(2)
})
