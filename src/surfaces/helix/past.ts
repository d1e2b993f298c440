import { createHash } from 'node:crypto'
import type { Entry } from '../../protocol/fold.js'
import type { Message } from './wire.js'

/** Entries that are remembered; the oldest go first. */
const REMEMBERED = 20_000

/**
 * What earlier turns of a session hold. A Helix agent replays old entries into a new turn, and flushes the last words of
 * a cancelled one late; its entry numbers alone tell nothing, since they begin anew when its wrapper is restarted. Pure.
 */
export class Past {
  readonly #known = new Set<string>()
  /** Content of each entry of the turn before this one. */
  #last = new Map<string, string>()

  /** A turn is over with these entries. */
  add(entries: readonly Entry[]): void {
    this.#last = new Map(entries.map((entry) => [entry.id, entry.text]))
    for (const { id, text } of entries) this.#known.add(digest(id, text))
    for (const oldest of this.#known) {
      if (this.#known.size <= REMEMBERED) break
      this.#known.delete(oldest)
    }
  }

  /** Whether an earlier turn has this very entry, number and content. */
  holds({ id, content }: Pick<Message, 'id' | 'content'>): boolean {
    return this.#known.has(digest(id, content))
  }

  /** Whether these are the last words of the turn before: the entry it had, and more. */
  continues({ id, content }: Pick<Message, 'id' | 'content'>): boolean {
    const before = this.#last.get(id)
    return before !== undefined && before !== '' && content.startsWith(before)
  }
}

const digest = (id: string, text: string): string =>
  createHash('sha1').update(`${id}\n${text}`).digest('base64').slice(0, 20)
