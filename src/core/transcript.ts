import { ThroughlineError } from '../protocol/errors.js'
import type { InteractionId, SessionId } from '../protocol/ids.js'
import type { Interaction, TurnsQuery } from './core.js'
import { viewInteraction } from './interactions.js'
import type { Parts } from './parts.js'

/** Statuses asked for at a time. */
const LOOK = 200
/** A page ends early when its answers are larger than this, in UTF-16 units. */
const PAGE_UNITS = 8 * 1024 * 1024

/**
 * A session's turns, one at a time: whoever does not ask for the next holds just one in memory. Turns that expire
 * meanwhile are left out. Throws `not_found` when `after` is no turn of the session.
 */
export async function* turnsOf(
  parts: Pick<Parts, 'store'>,
  session: SessionId,
  { order, status, after }: TurnsQuery,
): AsyncGenerator<Interaction> {
  const { store } = parts
  const all = await store.sessions.interactions(session)
  if (order === 'desc') all.reverse()
  const from = after === undefined ? 0 : all.indexOf(after) + 1
  if (after !== undefined && from === 0) throw new ThroughlineError('not_found', { param: 'after' })
  for (let at = from; at < all.length; at += LOOK) {
    const ids = all.slice(at, at + LOOK)
    const statuses = status === undefined ? [] : await store.turns.statuses(ids)
    for (const [i, id] of ids.entries()) {
      if (status !== undefined && statuses[i] !== status) continue
      const stored = await store.turns.read(id)
      if (stored && (status === undefined || stored.status === status)) yield viewInteraction(parts, stored)
    }
  }
}

/** A page of them; `next` is null when no more follow. It may hold fewer than asked for when answers are large. */
export async function transcriptPage(
  parts: Pick<Parts, 'store'>,
  session: SessionId,
  { limit, ...query }: TurnsQuery & { limit: number },
): Promise<{ interactions: Interaction[]; next: InteractionId | null }> {
  const interactions: Interaction[] = []
  let units = 0
  for await (const turn of turnsOf(parts, session, query)) {
    if (interactions.length === limit || units > PAGE_UNITS) return { interactions, next: interactions.at(-1)!.id }
    interactions.push(turn)
    units += sizeOf(turn)
  }
  return { interactions, next: null }
}

const sizeOf = ({ input, text, output }: Interaction): number =>
  input.length + text.length + output.reduce((units, entry) => units + entry.text.length, 0)
