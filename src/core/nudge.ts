import type { SessionId } from '../protocol/ids.js'
import type { Parts } from './parts.js'

/**
 * Makes sure that somebody looks at a session whose turn has come. The holder of its lease was woken by the script that
 * started the turn; without a holder the session goes into its pool's line.
 */
export async function nudge({ store, clock }: Pick<Parts, 'store' | 'clock'>, id: SessionId): Promise<void> {
  const holder = await store.leases.holder(id)
  if (holder) return
  const session = await store.sessions.read(id)
  if (!session || session.waitingInteractionId === '') return
  await store.pools.pend(session.pool, id, clock.now(), session.agent)
}
