import type { Connection } from '../../core/connection.js'

/**
 * The adapter does not catch what its Redis calls reject, and with Redis away that ends the process. This client says
 * "nobody heard it" instead, and counts. What rides on the adapter may be lost; turns never do.
 */
export function guarded(client: Connection, dropped: () => void): Connection {
  const quiet = new Set([
    'publish',
    'spublish',
    'subscribe',
    'ssubscribe',
    'psubscribe',
    'unsubscribe',
    'sunsubscribe',
    'punsubscribe',
  ])
  const sends = new Set(['publish', 'spublish'])
  return new Proxy(client, {
    get(target, name) {
      const value = Reflect.get(target, name) as unknown
      if (typeof value !== 'function' || name === 'constructor') return value // the adapter looks at its name
      if (typeof name !== 'string' || !quiet.has(name)) return (value as () => unknown).bind(target) as unknown
      return (...args: unknown[]) => {
        if (sends.has(name) && target.status !== 'ready') {
          dropped()
          return Promise.resolve(0)
        }
        return Promise.resolve((value as (...a: unknown[]) => Promise<unknown>).apply(target, args)).catch(() => {
          dropped()
          return 0
        })
      }
    },
  })
}
