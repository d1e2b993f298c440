import type { SessionId } from '../protocol/ids.js'
import { lineUp } from './line.js'
import type { Parts } from './parts.js'

/**
 * Makes sure that somebody looks at a session whose turn has come. The holder of its lease was woken by the script that
 * started the turn; without a holder the session stands in line for one.
 */
export async function nudge(parts: Parts, id: SessionId, how: 'first' | 'again' = 'first'): Promise<void> {
  const holder = await parts.store.leases.holder(id)
  if (holder) return
  const session = await parts.store.sessions.read(id)
  if (session) await lineUp(parts, session, how)
}
