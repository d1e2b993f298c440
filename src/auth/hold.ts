/** Why what a caller came in by is no longer good. */
export type EndOfAccess = 'revoked' | 'expired'

/** Calls `end` once, when what let a caller in is no longer good. Dispose when its connection or stream is over. */
export type Hold = (end: (why: EndOfAccess) => void) => Disposable

/** Longest that a timer of Node can wait, ms. */
const MOST_MS = 2 ** 31 - 1

/** Good until `expiresAt` (ms since 1970). */
export const holdUntil =
  (expiresAt: number): Hold =>
  (end) => {
    let timer: NodeJS.Timeout
    const wait = () => {
      const left = expiresAt - Date.now()
      timer = left > MOST_MS ? setTimeout(wait, MOST_MS) : setTimeout(() => end('expired'), left)
      timer.unref()
    }
    wait()
    return { [Symbol.dispose]: () => clearTimeout(timer) }
  }
