import { isUnavailable } from '../store/redis.js'
import type { Observe } from '../observe/events.js'

/**
 * A trigger for level-triggered work: runs `work` one at a time; however many calls come during a run, one more run
 * follows. While Redis is away it tries again with back-off until `ended()`.
 */
export function coalesced(what: string, work: () => Promise<void>, observe: Observe, ended: () => boolean): () => void {
  let running = false
  let again = false
  async function run(): Promise<void> {
    running = true
    for (let failures = 0; again && !ended();) {
      again = false
      try {
        await work()
        failures = 0
      } catch (err) {
        if (!isUnavailable(err)) {
          observe.bug(what, err)
          continue
        }
        if (failures++ === 0) observe.outage(what, err)
        again = true
        await pause(backOff(failures))
      }
    }
    running = false // in the same step: a call that finds it running is seen
  }
  return () => {
    again = true
    if (!running) void run()
  }
}

/** Does it, again and again with back-off while Redis is away, until `ended()`. `away` hears of the first failure. */
export async function persistently<T>(
  work: () => Promise<T>,
  ended: () => boolean,
  away: (err: unknown) => void = () => {},
): Promise<T> {
  for (let failures = 0; ;) {
    try {
      return await work()
    } catch (err) {
      if (!isUnavailable(err) || ended()) throw err
      if (failures++ === 0) away(err)
      await pause(backOff(failures))
    }
  }
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** 100 ms doubling to 2 s, jittered. */
export const backOff = (failures: number): number =>
  Math.min(50 * 2 ** Math.min(failures, 6), 2000) * (0.5 + Math.random() / 2)
