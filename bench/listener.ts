import { createHistogram } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { micros, saidAt, type Run } from './load.js'
import { answerOrders, progress } from './orders.js'

/** What a rig's viewer process can do. */
export interface Ears {
  /** Resolves when every viewer of the run listens. `heard` is to be called for each event that each viewer gets. */
  open(run: Run, heard: (text: string) => void): Promise<void>
  close(): Promise<void>
}

/** What the viewers of a run got. Latency is from the agent's `say` to the viewer's parsed event, µs. */
export interface Heard {
  events: number
  /** From the first to the last. */
  seconds: number
  p50: number
  p99: number
  max: number
}

const PROGRESS_MS = 5
/** Without anything new for so long, what is missing will not come. */
const GIVE_UP_MS = 5000

/** Lets ears listen as the parent orders: `open`, `hear` (waits for so many events, answers with `Heard`), `close`. */
export function listener(ears: Ears): void {
  const latency = createHistogram()
  let run: Run
  let events = 0
  let firstAt = 0
  let lastAt = 0
  let reporting: NodeJS.Timeout | undefined

  answerOrders({
    async open(next: Run) {
      run = next
      events = 0
      latency.reset()
      await ears.open(run, heard)
      if (run.load.ratePerSecond !== null) return
      reporting = setInterval(() => progress(Math.floor(events / run.load.viewersPerSession)), PROGRESS_MS)
    },
    async hear(expected: number): Promise<Heard> {
      for (let before = -1, quietMs = 0; events < expected && quietMs < GIVE_UP_MS; before = events) {
        await sleep(PROGRESS_MS)
        quietMs = events === before ? quietMs + PROGRESS_MS : 0
      }
      const seconds = (lastAt - firstAt) / 1e6
      return { events, seconds, p50: latency.percentile(50), p99: latency.percentile(99), max: latency.max }
    },
    async close() {
      clearInterval(reporting)
      await ears.close()
    },
  })

  function heard(text: string): void {
    lastAt = micros()
    if (events++ === 0) firstAt = lastAt
    latency.record(Math.max(lastAt - saidAt(text), 1))
  }
}
