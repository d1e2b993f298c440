import type { Core } from '../../core/core.js'
import type { SessionId } from '../../protocol/ids.js'
import type { InputMessage } from './asked.js'

/** A conversation may be made with messages: kept as the session's note, and told to the agent with its first turn. */
export const writePrelude = (messages: InputMessage[]): string => (messages.length > 0 ? JSON.stringify(messages) : '')

export const readPrelude = (note: string): InputMessage[] => (note === '' ? [] : (JSON.parse(note) as InputMessage[]))

/** What the agent must be told before the next message: nothing, once there has been one. */
export async function preludeOf(core: Core, owner: string, session: SessionId): Promise<InputMessage[]> {
  const note = await core.note(owner, session)
  if (note === '') return []
  const { turns, queued } = await core.session(owner, session)
  return turns + queued === 0 ? readPrelude(note) : []
}
