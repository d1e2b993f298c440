import { emptyTurn, fold, type Turn } from '../protocol/fold.js'
import type { InteractionId } from '../protocol/ids.js'
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

/** Keeps an ended turn's output beyond the life of its log, then takes it off the sweep's list. Idempotent. */
export async function seal({ store, observe }: Pick<Parts, 'store' | 'observe'>, id: InteractionId): Promise<void> {
  const turn = await foldLog(store.log, id)
  const answer = await store.turns.seal(id, turn.entries)
  if (answer === 'running') return
  await store.deadlines.drop(id)
  const stored = answer === 'ok' ? await store.turns.read(id) : undefined
  if (stored)
    observe.turnEnded({
      session: stored.session,
      interaction: id,
      request: stored.request,
      pool: stored.pool,
      status: stored.status,
      reason: stored.error?.code ?? stored.stopReason ?? 'none',
    })
}
