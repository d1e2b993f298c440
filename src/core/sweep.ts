import { ThroughlineError } from '../protocol/errors.js'
import { asksUntil, hasOpenTool } from '../protocol/fold.js'
import { sessionOf, type InteractionId } from '../protocol/ids.js'
import { leaveLine } from './line.js'
import { nudge } from './nudge.js'
import { deadlinesOf, LOOK_SOON_MS, type Parts } from './parts.js'
import { policyOf } from './policy.js'
import { isUnavailable } from '../store/redis.js'
import { foldLog, seal } from './seal.js'

/** Most due interactions of one shard in one tick, and the longest a tick may take, ms. */
const PER_SHARD = 200
const TICK_MS = 3000
/** So many periods without a sweep mean that nobody could; the watchdog would have swept after three. */
const AWAY_PERIODS = 6
/** Judged at a time. */
const AT_ONCE = 32
/** How long one sweep may keep others from sweeping, ms. */
const LOCK_MS = 5000
/** How long the sweep's notes are kept without a sweep, ms: longer than any outage that anybody waits out. */
const NOTES_TTL_MS = 7 * 24 * 3600_000

export type Judge = (id: InteractionId) => Promise<void>

/**
 * The verdict on one interaction, and what follows from it. From the truth in Redis, so asking twice, late or from
 * several replicas does no harm.
 */
export function judgeOf(parts: Parts): Judge {
  const { store, settings, clock, observe } = parts
  return async function judge(id) {
    const [pool, away] = await Promise.all([store.turns.poolOf(id), store.replicas.sweepNotes()])
    const policy = policyOf(settings, pool)
    const deadlines = deadlinesOf(settings, policy, away)
    let verdict = await store.turns.expire(id, deadlines)
    if (verdict.word === 'silent') {
      const [turn, stored] = await Promise.all([foldLog(store.log, id), store.turns.read(id)])
      const { toolLimitMs, agentSilentMs } = policy
      const working = hasOpenTool(turn) && clock.now() - (stored?.lastActivityAt ?? 0) < toolLimitMs
      const asked = asksUntil(turn, toolLimitMs) // from then on silence counts
      const waits = asked > 0 ? asked + agentSilentMs - clock.now() : 0
      if (working) return store.deadlines.look(id, clock.now() + 30_000)
      if (waits > 0) return store.deadlines.look(id, clock.now() + Math.min(waits, 30_000))
      verdict = await store.turns.expire(id, deadlines, verdict.tip)
    }
    observe.metrics.verdicts.inc({ verdict: verdict.word === 'failed' ? verdict.code : verdict.word })
    switch (verdict.word) {
      case 'gone':
      case 'sealed':
        return store.deadlines.drop(id)
      case 'unsealed':
        return seal(parts, id)
      case 'silent': // it spoke while we looked
        return store.deadlines.look(id, clock.now() + 1000)
      case 'later':
      case 'asked':
        return store.deadlines.look(id, verdict.lookAt)
      case 'wake':
        await store.sessions.wake(sessionOf(id))
        return store.deadlines.look(id, verdict.lookAt)
      case 'pend':
      case 'reset':
        await store.deadlines.look(id, verdict.lookAt)
        return nudge(parts, sessionOf(id), 'again')
      case 'failed': {
        const turn = await store.turns.read(id)
        if (turn) observe.trails.note(id, turn.trail)
        observe.staleTurnDetected({
          session: sessionOf(id),
          interaction: id,
          request: turn?.request ?? '',
          reason: verdict.code,
        })
        await leaveLine(parts, sessionOf(id))
        await nudge(parts, sessionOf(id))
        await seal(parts, id)
      }
    }
  }
}

/** A turn that cannot be judged, for a bug or whatever it is, must not keep the sweep from those behind it. */
async function passOver({ store, clock, observe }: Parts, id: InteractionId, err: unknown): Promise<void> {
  const waits = err instanceof ThroughlineError && err.code === 'not_durable' // its end is not safe yet; others may be due
  if (isUnavailable(err) && !waits) throw err
  if (!waits) observe.bug('judge', err)
  await store.deadlines.look(id, clock.now() + LOOK_SOON_MS)
}

/**
 * One sweep over everything that is due; gives how many it judged, or undefined when another replica sweeps.
 * After a time in which nobody could sweep (Redis or all replicas away) deadlines move out by its length.
 */
export async function sweep(parts: Parts, judge: Judge): Promise<number | undefined> {
  const { store, settings } = parts
  if (!(await store.replicas.lockSweep(LOCK_MS))) return undefined
  try {
    const now = await store.replicas.now()
    const notes = await store.replicas.sweepNotes()
    const gap = notes.last === 0 ? 0 : now - notes.last
    const away = gap > AWAY_PERIODS * settings.sweepEveryMs && { awayUntil: now, awayForMs: gap }
    await store.replicas.noteSweep({ last: now, ...away }, NOTES_TTL_MS)
    const until = Date.now() + TICK_MS
    let judged = 0
    for (const shard of store.deadlines.shards) {
      const due = await store.deadlines.due(shard, now, PER_SHARD)
      for (let from = 0; from < due.length; from += AT_ONCE) {
        if (Date.now() > until) return judged // the rest in the next tick
        const some = due.slice(from, from + AT_ONCE)
        await Promise.all(some.map((id) => judge(id).catch((err: unknown) => passOver(parts, id, err))))
        judged += some.length
      }
    }
    await store.replicas.removeDead(now)
    for (const { name } of await store.pools.known())
      if ((await store.pools.pendingCount(name)) > 0) await store.pools.wake(name)
    return judged
  } finally {
    await store.replicas.unlockSweep()
  }
}
