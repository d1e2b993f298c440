import type { SessionId } from '../protocol/ids.js'
import type { StoredSession } from '../store/sessions.js'
import type { Parts } from './parts.js'
import { policyOf } from './policy.js'

/**
 * Puts a session whose turn needs an agent in line; doing it again only brings it up to date. For STICKY_WAIT_MS from the
 * turn's start it is the line of the agent that has the thread, while that one is here; then it is the pool's. Both keep
 * the order in which turns started. A turn for which no place is free is told where it stands, in its log, and the
 * outside is asked for an agent: at once when there is none, else when it still waits as the sweep looks `again`.
 */
export async function lineUp(parts: Parts, session: StoredSession, how: 'first' | 'again' = 'first'): Promise<void> {
  const { store, settings, clock, outbound } = parts
  const { id, pool, agent, waitingInteractionId: interaction, requestStartedAt: since } = session
  if (interaction === '') return
  const { stickyWaitMs, agentPer } = policyOf(settings, pool)
  const until = since + stickyWaitMs
  const place = await store.pools.pend(pool, id, since, { agent, wait: clock.now() < until })
  if (place.line === 'own') await store.deadlines.look(interaction, until, 'sooner')
  if (place.position <= place.free) return
  await store.turns.pending(interaction, place.position)
  if (place.line === 'own') return
  // where agents are but full, a look later tells whether that lasts
  if (place.agents === 0 || agentPer === 'session' || how === 'again')
    outbound.agentWanted({ pool, session: id, interaction, waiting: place.waiting, per: agentPer })
}

/**
 * A session whose turn ended without an agent stands in line no more. Look with `nudge` afterwards: its next turn may
 * have come meanwhile.
 */
export async function leaveLine({ store }: Pick<Parts, 'store'>, id: SessionId): Promise<void> {
  const session = await store.sessions.read(id)
  if (session) await store.pools.withdraw(session.pool, id, session.agent)
}
