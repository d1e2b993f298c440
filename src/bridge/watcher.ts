import { killGroup } from './group.js'

/*
 * A program of its own that outlives a bridge which was killed: it is told the process groups that the bridge has
 * started, and ends them when the bridge is gone. An agent that reads the end of its input has left by itself before.
 */

/** What the bridge says. */
export type WatcherMessage = { add: number } | { remove: number }

/** How long a group may take to leave, ms. */
const GRACE_MS = 3000

const groups = new Set<number>()
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => {}) // it leaves with the bridge

process.on('message', (message: WatcherMessage) => {
  if ('add' in message) groups.add(message.add)
  else groups.delete(message.remove)
})

process.once('disconnect', () => {
  for (const group of groups) killGroup(group, 'SIGTERM')
  if (groups.size > 0) setTimeout(() => groups.forEach((group) => killGroup(group, 'SIGKILL')), GRACE_MS)
})
