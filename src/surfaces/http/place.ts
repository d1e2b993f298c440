import { ThroughlineError } from '../../protocol/errors.js'
import type { Call } from './call.js'
import type { HttpParts } from './parts.js'

/**
 * Takes the place of this call's stream, until its reply is over. Before a message is stored: a refusal after it would
 * have the message sent twice. Throws `too_many_streams`.
 */
export async function takePlace(
  parts: Pick<HttpParts, 'enterPlace' | 'observe'>,
  call: Call,
  { resumable, owner = call.owner }: { resumable: boolean; owner?: string },
): Promise<void> {
  if (!parts.enterPlace || call.place) return
  const place = await parts.enterPlace(owner, resumable)
  if (!place) {
    parts.observe?.limited('streams')
    throw new ThroughlineError('too_many_streams')
  }
  call.place = place
  call.over.addEventListener('abort', () => place.leave())
  if (call.over.aborted) place.leave()
}
