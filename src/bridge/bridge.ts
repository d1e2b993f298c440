import { serve, type ServeOptions } from '../sdk/agent.js'
import { introductionOf } from '../sdk/agent-options.js'
import { answer } from './acp.js'
import type { Treatment } from './agent.js'
import type { Program } from './process.js'
import { startWatch } from './watch.js'
import { Worker, type BridgeLog } from './worker.js'

export interface BridgeOptions {
  /** How to join the gateway. */
  serve: Omit<ServeOptions, 'log' | 'sessions'>
  program: Program
  treatment: Omit<Treatment, 'watch'>
  log: BridgeLog
  /** Leaves in order: takes no new turns, finishes those in hand, gives back the rest. */
  stop: AbortSignal
  /** Leaves at once. */
  kill: AbortSignal
}

/** How long turns in hand may take to finish after `stop`, ms. */
const FINISH_MS = 25_000

/**
 * Makes an agent of the Agent Client Protocol an agent of a pool: runs its program, joins the pool once it runs, leaves it
 * while it keeps crashing. Throws `CannotRun`, or `AgentRefused` and `TypeError` of the SDK. Leaves no process behind.
 */
export async function runBridge(options: BridgeOptions): Promise<void> {
  const { program, treatment, log, stop, kill } = options
  introductionOf(options.serve) // a mistake in it is not to wait for a program that may take a minute to start
  const watch = startWatch()
  const worker = new Worker(program, { ...treatment, watch }, log)
  const stopped = aborted(stop)
  const ended = new AbortController()
  try {
    while (!stop.aborted) {
      const up = await Promise.race([worker.ready(ended.signal), stopped, worker.ended])
      if (!up) break
      const agent = serve({ ...options.serve, log }, (turn) => answer(turn, (signal) => worker.ready(signal)))
      try {
        await Promise.race([agent.closed, worker.failing(ended.signal), stopped])
      } finally {
        // turns that are aborted without output go to others at once
        if (stop.aborted) {
          log.info(`leaving: turns in hand have ${FINISH_MS / 1000} s to finish; a second signal ends them now`)
          await Promise.race([agent.close(FINISH_MS), aborted(kill)])
        } else await agent.close(0)
      }
    }
  } finally {
    ended.abort(new Error('ended'))
    await worker.close()
    watch.close()
  }
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) return resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
