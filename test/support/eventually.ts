import { setTimeout as sleep } from 'node:timers/promises'

interface Patience {
  /** Default 5 s. */
  limitMs?: number
  /** Default 20 ms. */
  everyMs?: number
}

/**
 * Tries until `check` neither throws nor gives false, and gives what it gave.
 * @throws what the last try threw, when it took longer than `limitMs`.
 */
export async function eventually<T>(
  check: () => T | Promise<T>,
  { limitMs = 5_000, everyMs = 20 }: Patience = {},
): Promise<Exclude<T, false>> {
  const deadline = performance.now() + limitMs
  for (;;) {
    try {
      const result = await check()
      if (result !== false) return result as Exclude<T, false>
      if (performance.now() > deadline) throw new Error(`not so within ${limitMs} ms: ${String(check)}`)
    } catch (err) {
      if (performance.now() > deadline) throw err
    }
    await sleep(everyMs)
  }
}
