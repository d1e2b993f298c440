import { attemptOf, type InteractionId, type RequestId } from '../../protocol/ids.js'
import type { Status } from '../../protocol/interaction.js'

/** A turn that a person has begun at the agent. */
export interface Typed {
  interaction: InteractionId
  /** The request that its words carry, which is that of an earlier prompt; '' for none. */
  request: string
  /** The number of the person's message. */
  entry: number
}

/** How the agent refers to it, for its next connection; and back. */
export const refOf = ({ entry, request }: Omit<Typed, 'interaction'>): string => `${entry} ${request}`
export function typedOf(interaction: InteractionId, agentRef: string): Typed {
  const [entry = '', request = ''] = agentRef.split(' ')
  return { interaction, request, entry: entry === '' ? NaN : Number(entry) }
}

/**
 * Whether a prompt stepped back for what a person typed, and this connection is the first to have it since, or has it next:
 * the agent has it from before.
 */
export const waitsAtTheAgent = (turn: { status: Status; attempt: number; yielded: RequestId | '' }): boolean =>
  turn.yielded !== '' && ['queued', 'waiting'].includes(turn.status) && turn.attempt <= attemptOf(turn.yielded) + 1
