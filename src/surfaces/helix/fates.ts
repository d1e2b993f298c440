import { TURN_ERRORS } from '../../protocol/errors.js'
import { interactionOf, isRequestId, type InteractionId } from '../../protocol/ids.js'
import type { Status } from '../../protocol/interaction.js'

/**
 * Of an earlier turn: its prompt was handed to the agent more than once (`repeated`), so the agent may answer it twice, and
 * the first answer is the one; or its words are nobody's (`stopped`), since it ended, or stepped back, without the agent, who
 * may still be at it; or neither (`done`).
 */
export type Fate = 'repeated' | 'stopped' | 'done'

const MOST_FATES = 1000

/** What becomes of words under the name of an earlier turn of a conversation. */
export class Fates {
  readonly #known = new Map<InteractionId, Fate>()
  readonly #read: (interaction: InteractionId) => Promise<Fate>

  constructor(read: (interaction: InteractionId) => Promise<Fate>) {
    this.#read = read
  }

  async of(interaction: InteractionId): Promise<Fate> {
    const fate = this.#known.get(interaction) ?? (await this.#read(interaction))
    this.set(interaction, fate)
    return fate
  }

  /** Of the turn of this request, as far as it was asked for. */
  told(request: string): Fate | undefined {
    return isRequestId(request) ? this.#known.get(interactionOf(request)) : undefined
  }

  set(interaction: InteractionId, fate: Fate): void {
    if (this.#known.size >= MOST_FATES) this.#known.clear()
    this.#known.set(interaction, fate)
  }

  /** What the agent says under this request is nobody's from now on. */
  stopped(request: string): void {
    if (isRequestId(request)) this.set(interactionOf(request), 'stopped')
  }

  /** The agent has ended it as well: what comes under its name from now on is new, and tagged late. */
  ended(request: string): void {
    if (isRequestId(request) && this.#known.get(interactionOf(request)) === 'stopped')
      this.set(interactionOf(request), 'done')
  }
}

/** By its record: a turn that the agent was told twice, or that was ended, or stepped back, over its head. */
export function fateOf(turn: { attempt: number; status: Status; error: { code: string } | null } | undefined): Fate {
  if (!turn) return 'done'
  if (turn.status === 'queued' && turn.attempt > 0) return 'stopped'
  if (turn.attempt > 1) return 'repeated'
  const verdict = turn.status === 'failed' && Object.hasOwn(TURN_ERRORS, turn.error?.code ?? '')
  return verdict || turn.status === 'cancelled' ? 'stopped' : 'done'
}
