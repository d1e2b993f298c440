import type { Response } from 'express'

/**
 * Resolves when the reply takes more, or is over, or `signal` aborts. A reader that takes nothing for `limitMs` is given
 * up on: then `slow` is called, and is expected to destroy the reply.
 */
export function drained(res: Response, limitMs: number, signal: AbortSignal, slow: () => void): Promise<void> {
  return new Promise((resolve) => {
    const go = () => {
      clearTimeout(patience)
      res.off('drain', go)
      signal.removeEventListener('abort', go)
      resolve()
    }
    const patience = setTimeout(slow, limitMs)
    res.on('drain', go)
    signal.addEventListener('abort', go)
    if (signal.aborted) go()
  })
}
