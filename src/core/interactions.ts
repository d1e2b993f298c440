import { ThroughlineError } from '../protocol/errors.js'
import { emptyTurn, outputText } from '../protocol/fold.js'
import { isTerminal } from '../protocol/interaction.js'
import type { InteractionId } from '../protocol/ids.js'
import type { StoredInteraction } from '../store/turns.js'
import type { Interaction } from './core.js'
import type { Parts } from './parts.js'
import { policyOf } from './policy.js'
import { foldLog } from './seal.js'
import type { Judge } from './sweep.js'

/** How long an ephemeral turn can still be read by those who wait for it, ms; its log lives a little longer. */
const WAITERS_MS = 55_000

/**
 * An interaction of this owner; a stranger's does not exist, nor does a forgotten one, except an ephemeral one to those
 * who are `waiting` for its end. Throws `not_found`.
 */
export async function ownedInteraction(
  { store, clock, observe }: Pick<Parts, 'store' | 'clock' | 'observe'>,
  owner: string,
  id: InteractionId,
  reader: 'any' | 'waiting' = 'any',
): Promise<StoredInteraction> {
  const turn = await store.turns.read(id)
  if (!turn || turn.owner !== owner) throw new ThroughlineError('not_found')
  const waits = reader === 'waiting' && turn.ephemeral && clock.now() - turn.forgottenAt < WAITERS_MS
  if (turn.forgottenAt > 0 && !waits) throw new ThroughlineError('not_found')
  observe.trails.note(id, turn.trail)
  return turn
}

/** Whether a turn may be past a deadline, so that a read asks for the sweep's verdict instead of waiting for a sweep. */
export function isOverdue({ settings, clock }: Parts, turn: StoredInteraction): boolean {
  if (isTerminal(turn.status) || turn.status === 'queued') return false
  const idle = clock.now() - Math.max(turn.lastActivityAt, turn.startedAt)
  const policy = policyOf(settings, turn.pool)
  return idle > Math.min(policy.agentSilentMs, policy.staleAfterMs, policy.agentWaitMs)
}

/** Reads an interaction; one that is past its deadline is judged first. */
export async function readInteraction(
  parts: Parts,
  judge: Judge,
  owner: string,
  id: InteractionId,
  reader: 'any' | 'waiting' = 'any',
): Promise<StoredInteraction> {
  const turn = await ownedInteraction(parts, owner, id, reader)
  if (!isOverdue(parts, turn)) return turn
  await judge(id)
  return ownedInteraction(parts, owner, id, reader)
}

/** An interaction as its owner sees it, with the answer so far. */
export async function viewInteraction(
  { store }: Pick<Parts, 'store'>,
  stored: StoredInteraction,
): Promise<Interaction> {
  if (isTerminal(stored.status) && !stored.sealed) await store.durability.end(stored.id)
  const turn = stored.output === null && stored.tip > 0 ? await foldLog(store.log, stored.id) : emptyTurn()
  const entries = stored.output ?? turn.entries
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
    permissions: isTerminal(stored.status) ? [] : (turn.permissions ?? []),
    usage: stored.usage,
    stopReason: stored.stopReason,
    error: stored.error,
    tip: stored.tip,
  }
}
