import { fork, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Watch } from './process.js'
import type { WatcherMessage } from './watcher.js'

/** The watcher as a process, started again should it end before us. `close` lets it go; it ends what is still named. */
export function startWatch(): Watch & { close(): void } {
  const groups = new Set<number>()
  let closed = false
  let watcher: ChildProcess

  function tell(message: WatcherMessage): void {
    if (watcher.connected) watcher.send(message, () => {}) // an error means that it is gone, and `exit` follows
  }

  function start(): void {
    const path = fileURLToPath(new URL('./watcher.js', import.meta.url))
    watcher = fork(path, { detached: true, stdio: ['ignore', 'ignore', 'ignore', 'ipc'], execArgv: [] })
    watcher.on('error', () => {})
    watcher.once('exit', () => {
      if (!closed) setTimeout(start, 1000).unref()
    })
    watcher.unref()
    watcher.channel?.unref()
    for (const group of groups) tell({ add: group })
  }
  start()

  return {
    add(group) {
      groups.add(group)
      tell({ add: group })
    },
    remove(group) {
      groups.delete(group)
      tell({ remove: group })
    },
    close() {
      closed = true
      if (watcher.connected) watcher.disconnect()
    },
  }
}
