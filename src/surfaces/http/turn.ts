import type { Response } from 'express'
import type { Submitted } from '../../core/core.js'
import type { Call } from './call.js'

/** Puts on a reply which turn it is about, so that a client of any surface can go on with it on the native one. */
export function announceTurn(
  call: Call,
  res: Response,
  turn: Pick<Submitted, 'session' | 'interaction'> & { replayed?: boolean },
): void {
  call.session = turn.session
  call.interaction = turn.interaction
  res.set({ 'throughline-session-id': turn.session, 'throughline-interaction-id': turn.interaction })
  if (turn.replayed) res.set('Idempotent-Replayed', 'true')
}
