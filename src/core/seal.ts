import { emptyTurn, fold, type Turn } from '../protocol/fold.js'
import type { LogEvent } from '../protocol/events.js'
import type { InteractionId } from '../protocol/ids.js'
import { isTerminal } from '../protocol/interaction.js'
import { nextSteps, type TurnStep } from '../observe/turn-steps.js'
import { PAGE, type Log } from '../store/log.js'
import type { Parts } from './parts.js'
import type { RedisClock } from './redis-clock.js'

/** The state that a log tells, read page by page; `also` sees each event. */
export async function foldLog(log: Log, id: InteractionId, also?: (event: LogEvent) => void): Promise<Turn> {
  let turn = emptyTurn()
  for (;;) {
    const page = await log.read(id, turn.n)
    for (const event of page) {
      turn = fold(turn, event)
      also?.(event)
    }
    if (page.length < PAGE) return turn
  }
}

/**
 * Tells an ended turn's webhook, keeps its output beyond the life of its log, then takes it off the sweep's list.
 * Idempotent.
 */
export async function seal(
  { store, observe, outbound, clock }: Pick<Parts, 'store' | 'observe' | 'outbound' | 'clock'>,
  id: InteractionId,
): Promise<void> {
  let steps: readonly TurnStep[] = []
  const trace = observe.tracing ? (event: LogEvent) => void (steps = nextSteps(steps, event)) : undefined
  const [turn, stored] = await Promise.all([foldLog(store.log, id, trace), store.turns.read(id)])
  if (stored && isTerminal(stored.status)) await store.durability.end(id) // so what is sealed is known to be safe
  // the webhook first: whoever dies in between leaves a turn that is not sealed, and the next to seal it tells again
  if (stored && stored.webhook !== '' && isTerminal(stored.status) && !stored.sealed) await outbound.turnEnded(stored)
  const answer = await store.turns.seal(id, turn.entries)
  if (answer === 'running') return
  if (!stored || answer !== 'ok') return store.deadlines.drop(id)
  const { session, request, pool, status, origin, attempt, createdAt, endedAt } = stored
  await store.deadlines.settle(id, endedAt)
  const reason = stored.error?.code ?? stored.stopReason ?? 'none'
  observe.trails.note(id, stored.trail)
  observe.turnEnded({ session, interaction: id, request, pool, status, reason, tookMs: endedAt - createdAt })
  observe.tracing?.ended({
    trace: stored.trail,
    ...{ session, interaction: id, pool, origin, status, reason, attempts: attempt },
    from: clock.here(createdAt),
    to: clock.here(endedAt),
    steps: steps.map((step) => onThisClock(step, clock)),
  })
}

function onThisClock(step: TurnStep, clock: RedisClock): TurnStep {
  const here = (at: number) => (at === 0 ? 0 : clock.here(at))
  const times = { from: here(step.from), to: here(step.to) }
  return step.kind === 'attempt'
    ? { ...step, ...times, firstOutputAt: here(step.firstOutputAt) }
    : { ...step, ...times }
}
