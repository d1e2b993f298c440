/** Everything that has arrived so far reaches its handlers, which the ACP library starts some microtasks later. */
export const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Gives `value` after a time. */
export const pause = <T = void>(ms: number, value?: T): Promise<T> =>
  new Promise((resolve) => void setTimeout(() => resolve(value as T), ms))

/** Something took longer than it may. */
export class Late extends Error {}

/** Rejects with `Late` when the promise takes longer than `ms`. */
export function within<T>(ms: number, promise: Promise<T>, sentence = `no answer within ${ms} ms`): Promise<T> {
  let timer: NodeJS.Timeout
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Late(sentence)), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** Rejects with the signal's reason as soon as it aborts; the work itself goes on. */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  promise.catch(() => {}) // told to whoever still waits
  if (signal.aborted) return Promise.reject(signal.reason as Error)
  let stop = () => {}
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason as Error)
    signal.addEventListener('abort', stop, { once: true })
  })
  return Promise.race([promise, aborted]).finally(() => signal.removeEventListener('abort', stop))
}
