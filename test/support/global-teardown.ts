import { once } from 'node:events'

/** Ends the Redis of the run, if it was ours. */
export default async function globalTeardown(): Promise<void> {
  const child = globalThis.redisForTheRun
  if (!child?.connected) return
  const gone = once(child, 'exit')
  child.disconnect()
  await gone
}
