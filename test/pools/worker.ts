import { setTimeout as sleep } from 'node:timers/promises'
import { serve, type Agent } from '../../src/sdk/agent.js'
import type { SessionId } from '../../src/protocol/ids.js'
import { startWire, type Wire } from '../support/wire.js'

/** A worker of a pool on the real SDK, behind a network of its own, which counts what it has in hand. */
export interface Worker {
  id: string
  capacity: number
  /** Turns in hand now, and the most there ever were. */
  running: number
  most: number
  /** Every turn that it began. */
  turns: { session: SessionId; input: string; thread: string | null }[]
  /** Its connections break; it comes back by itself. */
  cut(): void
  /** It is gone without a word, as by kill -9. */
  kill(): Promise<void>
  /** It says goodbye and finishes what it has in hand. */
  leave(): Promise<void>
}

export const answerTo = (input: string): string => `answer to ${input}`

export async function startWorker(id: string, urls: string[], capacity: number, paceMs: () => number): Promise<Worker> {
  const wire: Wire = await startWire(urls)
  let alive = true
  const it: Worker = {
    id,
    capacity,
    running: 0,
    most: 0,
    turns: [],
    cut: () => wire.cut(),
    async kill() {
      alive = false
      await wire.close()
      await agent.close(0)
    },
    async leave() {
      await agent.close(20_000)
      alive = false
      await wire.close()
    },
  }
  const quiet = { info: () => {}, warn: () => {} }
  const agent: Agent = serve({ url: wire.url, pool: 'coder', capacity, agent: id, log: quiet }, async (turn) => {
    it.turns.push({ session: turn.session, input: turn.input, thread: turn.thread })
    if (alive) it.most = Math.max(it.most, ++it.running)
    let counted = true
    const done = () => {
      if (counted) it.running--
      counted = false
    }
    turn.signal.addEventListener('abort', done) // taken away: it is in hand no more
    try {
      if (turn.thread === null) await turn.setThread(`thread of ${turn.session} at ${id}`)
      await turn.text('answer ')
      await sleep(paceMs(), undefined, { signal: turn.signal })
      await turn.text(`to ${turn.input}`)
      done() // before its end is told: the gateway may fill the place at once
    } finally {
      done()
    }
  })
  return it
}
