import type { InteractionId } from '../protocol/ids.js'
import { NO_TRAIL, type Trail } from '../protocol/trail.js'

/** Turns whose trail a replica remembers; the one that was noted longest ago goes first. */
const MOST = 10_000

/** The trails of the turns that this replica has to do with, so that each line and span about one finds it at once. */
export class Trails {
  readonly #known = new Map<InteractionId, Trail>()

  note(id: InteractionId, trail: Trail): void {
    if (trail.requestId === '' && trail.traceparent === '') return
    this.#known.delete(id)
    this.#known.set(id, trail)
    if (this.#known.size > MOST) this.#known.delete(this.#known.keys().next().value!)
  }

  of(id: InteractionId): Trail {
    return this.#known.get(id) ?? NO_TRAIL
  }
}
