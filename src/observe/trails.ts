import type { InteractionId } from '../protocol/ids.js'
import { NO_TRAIL, type Trail } from '../protocol/trail.js'

/** Turns whose trail a replica surely remembers; with as many again of before, at most. */
const MOST = 10_000

/** The trails of the turns that this replica has to do with, so that each line and span about one finds it at once. */
export class Trails {
  #newer = new Map<InteractionId, Trail>()
  /** Forgotten as a whole: the oldest entry of one large Map takes long to find. */
  #older = new Map<InteractionId, Trail>()

  note(id: InteractionId, trail: Trail): void {
    if (trail.requestId === '' && trail.traceparent === '') return
    this.#newer.set(id, trail)
    if (this.#newer.size < MOST) return
    this.#older = this.#newer
    this.#newer = new Map()
  }

  of(id: InteractionId): Trail {
    return this.#newer.get(id) ?? this.#older.get(id) ?? NO_TRAIL
  }
}
