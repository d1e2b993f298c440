import type { InteractionId } from '../../protocol/ids.js'

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
