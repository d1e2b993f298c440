/** An agent of the trial on the shipped SDK, a process of its own: says the pieces it is asked for, and on stdout what it ran. */
import { setTimeout as sleep } from 'node:timers/promises'
import { exitWithParent } from '../../../src/local/exit-with-parent.js'
import { serve } from '../../../src/sdk/agent.js'
import { piecesOf } from '../answer.js'

exitWithParent()
const { URL: url, AGENT: agent, KEY: key, CAPACITY: capacity } = process.env
const log = { info: () => {}, warn: (message: string) => void console.error(message) }
const serving = serve({ url: url!, pool: 'coder', agent, key, capacity: Number(capacity), log }, async (turn) => {
  console.log(`run ${turn.input}`)
  for (const piece of piecesOf(turn.input)) {
    await turn.text(piece)
    await sleep(60 + Math.random() * 80, undefined, { signal: turn.signal })
  }
})
process.once('SIGTERM', () => void serving.close(1000))
await serving.closed
