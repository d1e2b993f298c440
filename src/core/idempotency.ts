import { ThroughlineError } from '../protocol/errors.js'
import type { InteractionId, SessionId } from '../protocol/ids.js'
import { digest } from '../store/keys.js'
import type { Reservation } from '../store/once.js'
import type { Once } from './core.js'
import type { Parts } from './parts.js'

/** How long a POST without a key is recognised by what it says, ms. */
const FINGERPRINT_TTL_MS = 600_000
/** How long the same POST is taken for a retry that does not say so, after it was answered with an error, ms. */
const EXPECTED_MS = 10_000

export interface Ids {
  session: SessionId
  interaction: InteractionId
}

/**
 * The ids that a POST is to use: the ones it was given when it came before, else `ids`. They are reserved before
 * anything is stored and everything after is idempotent by them, so a POST that died half-way is completed by its
 * repetition and two at once converge. `refused` frees the key again; `reserved` is its name, where it was written.
 * Throws `idempotency_key_reused` for a known key with another body.
 */
export async function reserve(
  { store, settings }: Pick<Parts, 'store' | 'settings'>,
  owner: string,
  once: Once | undefined,
  ids: Ids,
): Promise<{ ids: Ids; reserved?: string; refused: () => Promise<void> }> {
  if (!once) return { ids, refused: async () => {} }
  const chosen = (given: Reservation): Ids => given as Ids
  if (once.key === undefined) {
    const name = `fingerprint\n${once.route}\n${digest(once.body)}`
    const known = await store.once.recall(owner, once.retry ? name : expected(once))
    if (known) return { ids: chosen(known), refused: async () => {} }
    await store.once.remember(owner, name, ids, FINGERPRINT_TTL_MS)
    return { ids, reserved: name, refused: () => store.once.release(owner, name) }
  }
  const name = `key\n${once.route}\n${once.key}`
  const answer = await store.once.reserve(owner, name, once.body, ids, settings.idempotencyTtlMs)
  if (answer.word === 'other') throw new ThroughlineError('idempotency_key_reused')
  return { ids: chosen(answer.ids), reserved: name, refused: () => store.once.release(owner, name) }
}

const expected = ({ route, body }: Once): string => `expected\n${route}\n${digest(body)}`

/**
 * The POST was stored and is now answered with an error of the kind that clients send again, not all of which say so
 * (the AI SDK): for 10 s the same POST, if it has no key, is the same message.
 */
export async function expectAgain({ store }: Pick<Parts, 'store'>, owner: string, once: Once, ids: Ids): Promise<void> {
  if (once.key === undefined) await store.once.remember(owner, expected(once), ids, EXPECTED_MS)
}
