// Supervises two processes that leave with it, says which, and stays.
import { fileURLToPath } from 'node:url'

import { startReplicas } from '../../../src/local/replicas.js'

const file = fileURLToPath(new URL('./stays.ts', import.meta.url))
const replicas = startReplicas({
  count: 2,
  command: () => ({ file: process.execPath, args: [file] }),
  log: console.log,
})
console.log(JSON.stringify({ pids: replicas.all.map((replica) => replica.pid) }))
