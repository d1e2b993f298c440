import { isUnavailable } from '../store/redis.js'
import type { Viewers } from './build.js'
import type { Links } from './links.js'
import type { Parts } from './parts.js'
import { renewAll } from './renew.js'
import { sweep, type Judge } from './sweep.js'

/** How often a replica says that it is here, ms. */
export const BEAT_MS = 5000

export interface ReplicaState {
  draining: boolean
  /** When any replica last swept, as seen here (ms of Redis time). */
  lastSweepAt: number
}

/**
 * What a replica does by itself: heartbeat, renewal of its leases, and an eye on the sweep: when no sweep has run for
 * three periods, whatever the reason, it sweeps. With each heartbeat it calls `also.look`, and `also.askedToLeave` when an
 * operator has asked for that.
 */
export function startReplica(
  parts: Parts,
  links: Links,
  viewers: Viewers,
  judge: Judge,
  state: ReplicaState,
  startedAt: number,
  also: { look: () => void; askedToLeave: () => void },
): { beat: () => Promise<void>; stop: () => Promise<void> } {
  const { store, settings, clock, observe } = parts
  const renewEveryMs = Math.max(Math.floor(settings.leaseTtlMs / 3), 100)

  async function beat(): Promise<void> {
    also.look()
    await clock.correct()
    const { asked } = await store.replicas.beat(
      {
        id: settings.replica,
        version: settings.version,
        startedAt,
        draining: state.draining,
        agents: links.all.length,
        sessions: links.leases,
        viewers: viewers.count,
        clockAheadMs: clock.aheadMs,
      },
      clock.now(),
    )
    if (asked) also.askedToLeave()
    const { last } = await store.replicas.sweepNotes()
    state.lastSweepAt = last
    if (clock.now() - last <= 3 * settings.sweepEveryMs) return
    const judged = await sweep(parts, judge)
    if (judged === undefined) return
    observe.metrics.sweeps.inc({ by: 'watchdog' })
    if (last !== 0)
      observe.log.warn({ event: 'sweep_overdue', ageMs: clock.now() - last, judged }, 'no sweep had run, swept')
  }

  const loops = [
    every(Math.min(BEAT_MS, settings.sweepEveryMs), 'heartbeat', beat, observe),
    every(renewEveryMs, 'renew', () => renewAll(parts, links), observe),
  ]
  let stopped = false
  let beats: Promise<unknown> = Promise.resolve()
  return {
    async beat() {
      if (stopped) return
      const one = beat()
      beats = Promise.allSettled([beats, one])
      await one
    },
    async stop() {
      stopped = true
      await Promise.all([...loops.map((stop) => stop()), beats]) // none may come after the replica has said that it left
    },
  }
}

/** Runs `work` again `ms` after it last ended, with a little jitter; stops after the run under way. */
function every(ms: number, what: string, work: () => Promise<void>, observe: Parts['observe']): () => Promise<void> {
  let stopped = false
  let timer: NodeJS.Timeout | undefined
  let running: Promise<void> = Promise.resolve()
  function again(): void {
    if (!stopped) timer = setTimeout(run, ms * (0.9 + Math.random() * 0.2))
  }
  function run(): void {
    running = work()
      .catch((err: unknown) => (isUnavailable(err) ? observe.outage(what, err) : observe.bug(what, err)))
      .then(again)
  }
  run()
  return () => {
    stopped = true
    clearTimeout(timer)
    return running
  }
}
