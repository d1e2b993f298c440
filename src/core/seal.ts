import { emptyTurn, fold, type Turn } from '../protocol/fold.js'
import type { InteractionId } from '../protocol/ids.js'
import { isTerminal } from '../protocol/interaction.js'
import { PAGE, type Log } from '../store/log.js'
import type { Parts } from './parts.js'

/** The state that a log tells, read page by page. */
export async function foldLog(log: Log, id: InteractionId): Promise<Turn> {
  let turn = emptyTurn()
  for (;;) {
    const page = await log.read(id, turn.n)
    for (const event of page) turn = fold(turn, event)
    if (page.length < PAGE) return turn
  }
}

/**
 * Tells an ended turn's webhook, keeps its output beyond the life of its log, then takes it off the sweep's list.
 * Idempotent.
 */
export async function seal(
  { store, observe, outbound }: Pick<Parts, 'store' | 'observe' | 'outbound'>,
  id: InteractionId,
): Promise<void> {
  const [turn, stored] = await Promise.all([foldLog(store.log, id), store.turns.read(id)])
  // the webhook first: whoever dies in between leaves a turn that is not sealed, and the next to seal it tells again
  if (stored && stored.webhook !== '' && isTerminal(stored.status) && stored.output === null)
    await outbound.turnEnded(stored)
  const answer = await store.turns.seal(id, turn.entries)
  if (answer === 'running') return
  if (!stored || answer !== 'ok') return store.deadlines.drop(id)
  await store.deadlines.settle(id, stored.endedAt)
  observe.turnEnded({
    session: stored.session,
    interaction: id,
    request: stored.request,
    pool: stored.pool,
    status: stored.status,
    reason: stored.error?.code ?? stored.stopReason ?? 'none',
  })
}
