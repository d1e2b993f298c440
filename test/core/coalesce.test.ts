import { coalesced } from '../../src/core/coalesce.js'
import type { Observe } from '../../src/observe/events.js'

const QUIET = {} as Observe

test.each(Array.from({ length: 10 }, (_, steps) => steps))(
  'a call that comes %s steps after the one before is followed by a run',
  async (steps) => {
    let runs = 0
    const look = coalesced(
      'look',
      () => Promise.resolve(void runs++),
      QUIET,
      () => false,
    )
    look()
    for (let step = 0; step < steps; step++) await Promise.resolve()
    const before = runs
    look()
    await new Promise(setImmediate)
    expect(runs).toBeGreaterThan(before)
  },
)

test('however many calls come during a run, one more run follows', async () => {
  let runs = 0
  let finish = (): void => {}
  const work = () => {
    runs++
    return new Promise<void>((resolve) => (finish = resolve))
  }
  const look = coalesced('look', work, QUIET, () => false)
  for (let call = 0; call < 5; call++) look()
  expect(runs).toBe(1)
  finish()
  await new Promise(setImmediate)
  expect(runs).toBe(2)
  finish()
  await new Promise(setImmediate)
  expect(runs).toBe(2)
})
