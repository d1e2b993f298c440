import type { LogEvent } from './events.js'
import type { Turn } from './fold.js'

/** How far an entry has come: its kind, its length now, and how much of it was told; both in UTF-16 units. */
interface Progress {
  kind: string
  length: number
  told: number
}

/**
 * The text of an answer for readers from whom nothing can be taken back: the text entries, a blank line between them.
 * So, of a text that was changed after it was told, only what lies beyond the told length is told, and entries that grow
 * in turns are told in the order of their growing. When all that was told becomes void (`reset`: the agent was lost,
 * another one began anew) nothing more is: two answers run together, with a separator or without, would be taken for one
 * by every program that reads it.
 */
export class Spoken {
  readonly #entries = new Map<string, Progress>()
  /** The entry that was told from last. */
  #speaking: string | undefined
  #attempt = 0
  #void = false

  /** What was told does not count any more: its reader must hear of that, and begin anew. */
  get void(): boolean {
    return this.#void
  }

  /** What the reader hears of the next event, '' for nothing. */
  event(event: LogEvent): string {
    if (this.#void) return ''
    switch (event.type) {
      case 'entry.append': {
        const progress = this.#progress(event.entry, event.kind)
        return this.#grow(event.entry, progress, progress.length, event.text)
      }
      case 'entry.replace': {
        const progress = this.#progress(event.entry, event.kind)
        const level = progress.told === progress.length // it is not while a lost tail comes again, see `snapshot`
        const offset = Math.min(event.offset, progress.length)
        const fresh = this.#grow(event.entry, progress, offset, event.text)
        if (level) progress.told = progress.length // it may be shorter now; what is appended from here on is new
        return fresh
      }
      case 'entry.set':
        this.#progress(event.entry, event.kind)
        return ''
      case 'dispatched':
        this.#attempt = event.attempt
        return ''
      case 'reset':
        this.#reset()
        return ''
      default:
        return ''
    }
  }

  /** What the reader hears of a state that stands in the place of events which cannot be read. */
  snapshot(turn: Turn): string[] {
    if (turn.attempt > this.#attempt && this.#speaking !== undefined) this.#reset()
    if (this.#void) return []
    this.#attempt = turn.attempt
    // `told` stays where it is when the text is shorter: what was lost comes again, and must not be told again.
    const all = turn.entries.map(({ id, kind, text }) => this.#grow(id, this.#progress(id, kind), 0, text))
    return all.filter((fresh) => fresh !== '')
  }

  #progress(id: string, kind: string | undefined): Progress {
    const progress = this.#entries.get(id) ?? { kind: kind ?? 'text', length: 0, told: 0 }
    this.#entries.set(id, progress)
    return progress
  }

  /** `text` now stands at `offset` and ends the entry; gives what of it lies beyond the told length. */
  #grow(id: string, progress: Progress, offset: number, text: string): string {
    progress.length = offset + text.length
    const fresh = text.slice(Math.max(0, progress.told - offset))
    progress.told = Math.max(progress.told, progress.length)
    if (progress.kind !== 'text' || fresh === '') return ''
    const gap = this.#speaking !== undefined && this.#speaking !== id ? '\n\n' : ''
    this.#speaking = id
    return gap + fresh
  }

  #reset(): void {
    this.#entries.clear()
    this.#void = this.#speaking !== undefined
  }
}
