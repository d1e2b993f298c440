import { isTerminal } from '../protocol/interaction.js'
import type { InteractionId, SessionId } from '../protocol/ids.js'
import type { AgentOrder } from '../store/pools.js'
import { leaveLine } from './line.js'
import { nudge } from './nudge.js'
import { pause } from './coalesce.js'
import type { Parts } from './parts.js'
import { removeSession } from './sessions.js'

/*
 * What operators do, from outside of any replica. Each gives `done`, `asked` (nobody has confirmed it within ANSWER_MS,
 * but whoever has it will find it) or a word why not. What follows from the end of a turn (its result, its webhook) is
 * the sweep's, which any replica does.
 */

/** How long an operator waits for the replica that has to do it, ms. */
const ANSWER_MS = 10_000

export async function cancelTurn(parts: Parts, id: InteractionId, reason: string): Promise<string> {
  const { store } = parts
  const turn = await store.turns.summary(id)
  if (!turn) return 'not_found'
  const word = isTerminal(turn.status) ? 'ended' : await store.turns.cancel(id, reason)
  if (word !== 'cancelled') return word === 'gone' ? 'not_found' : 'already_ended'
  await leaveToSweep(parts, id)
  await leaveLine(parts, turn.session)
  await nudge(parts, turn.session)
  return 'done'
}

export async function deleteAnySession(parts: Parts, id: SessionId): Promise<string> {
  const session = await parts.store.sessions.read(id)
  if (!session) return 'not_found'
  await removeSession(parts, session, async (interaction) => {
    const turn = await parts.store.turns.summary(interaction)
    if (turn && !turn.sealed) await leaveToSweep(parts, interaction)
  })
  return 'done'
}

async function leaveToSweep({ store, clock }: Parts, id: InteractionId): Promise<void> {
  await store.deadlines.look(id, clock.now(), 'sooner')
}

/** `drain`: it takes nothing new, and moves when what it has in hand is done. `disconnect`: now; it may come back at once. */
export async function orderAgent({ store }: Parts, pool: string, id: string, order: AgentOrder): Promise<string> {
  const agent = await store.pools.agent(pool, id)
  if (!agent) return 'not_found'
  await store.pools.ask(agent, order)
  await store.replicas.nudge(agent.replica, { pool, agent: id })
  return confirmed(async () => {
    const now = await store.pools.agent(pool, id)
    return now?.connection !== agent.connection || (order === 'drain' && now.draining)
  })
}

/** The replica leaves as by SIGTERM. */
export async function drainReplica({ store }: Parts, id: string): Promise<string> {
  const replica = await store.replicas.read(id)
  if (!replica) return 'not_found'
  await store.replicas.askToLeave(replica)
  return confirmed(async () => {
    const now = await store.replicas.read(id)
    return now?.startedAt !== replica.startedAt || now.draining
  })
}

async function confirmed(so: () => Promise<boolean>): Promise<string> {
  for (const end = Date.now() + ANSWER_MS; Date.now() < end; await pause(100)) if (await so()) return 'done'
  return 'asked'
}
