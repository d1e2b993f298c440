import { ThroughlineError } from '../protocol/errors.js'
import { outputText } from '../protocol/fold.js'
import { isTerminal } from '../protocol/interaction.js'
import type { InteractionId } from '../protocol/ids.js'
import type { StoredInteraction } from '../store/turns.js'
import type { Interaction } from './core.js'
import type { Parts } from './parts.js'
import { foldLog } from './seal.js'
import type { Judge } from './sweep.js'

/** An interaction of this owner; a stranger's does not exist. Throws `not_found`. */
export async function ownedInteraction(
  { store }: Pick<Parts, 'store'>,
  owner: string,
  id: InteractionId,
): Promise<StoredInteraction> {
  const interaction = await store.turns.read(id)
  if (!interaction || interaction.owner !== owner) throw new ThroughlineError('not_found')
  return interaction
}

/** Whether a turn may be past a deadline, so that a read asks for the sweep's verdict instead of waiting for a sweep. */
export function isOverdue({ settings, clock }: Parts, turn: StoredInteraction): boolean {
  if (isTerminal(turn.status) || turn.status === 'queued') return false
  const idle = clock.now() - Math.max(turn.lastActivityAt, turn.startedAt)
  return idle > Math.min(settings.agentSilentMs, settings.staleAfterMs, settings.agentWaitMs)
}

/** Reads an interaction; one that is past its deadline is judged first. */
export async function readInteraction(
  parts: Parts,
  judge: Judge,
  owner: string,
  id: InteractionId,
): Promise<StoredInteraction> {
  const turn = await ownedInteraction(parts, owner, id)
  if (!isOverdue(parts, turn)) return turn
  await judge(id)
  return ownedInteraction(parts, owner, id)
}

/** An interaction as its owner sees it, with the answer so far. */
export async function viewInteraction(
  { store }: Pick<Parts, 'store'>,
  stored: StoredInteraction,
): Promise<Interaction> {
  const entries = stored.output ?? (stored.tip > 0 ? (await foldLog(store.log, stored.id)).entries : [])
  return {
    id: stored.id,
    session: stored.session,
    pool: stored.pool,
    status: stored.status,
    origin: stored.origin,
    input: stored.input,
    metadata: stored.metadata,
    attempt: stored.attempt,
    createdAt: stored.createdAt,
    startedAt: stored.startedAt || null,
    firstOutputAt: stored.firstOutputAt || null,
    endedAt: stored.endedAt || null,
    output: entries,
    text: outputText({ entries }),
    usage: stored.usage,
    stopReason: stored.stopReason,
    error: stored.error,
    tip: stored.tip,
  }
}
