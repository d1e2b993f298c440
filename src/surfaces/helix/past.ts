import { createHash } from 'node:crypto'
import type { Entry } from '../../protocol/fold.js'
import type { Message } from './wire.js'

/** Entries that are remembered, and how many of the same number; the oldest go first. */
const REMEMBERED = { entries: 20_000, perId: 8 }

interface Known {
  length: number
  digest: string
  /** A tool call that had not ended: what it was, without its status. */
  openTool: string
}

/**
 * What earlier turns of a session hold. A Helix agent replays old entries into a new turn, and flushes the last words of
 * a cancelled or cut one late; its entry numbers alone tell nothing, since they begin anew when its wrapper is restarted.
 * Pure.
 */
export class Past {
  readonly #known = new Map<string, Known[]>()
  #count = 0

  /** A turn is over with these entries. */
  add(entries: readonly Entry[]): void {
    for (const { id, text, kind, status } of entries) {
      const open = kind === 'tool_call' && (status === 'pending' || status === 'in_progress')
      const of = this.#known.get(id) ?? []
      of.push({ length: text.length, digest: digest(text), openTool: open ? headOf(text) : '' })
      this.#count += of.length > REMEMBERED.perId ? 0 : 1
      this.#known.delete(id) // to the end of the line
      this.#known.set(id, of.slice(-REMEMBERED.perId))
    }
    for (const [oldest, of] of this.#known) {
      if (this.#count <= REMEMBERED.entries) return
      this.#known.delete(oldest)
      this.#count -= of.length
    }
  }

  /** Whether an earlier turn has this very entry, number and content. */
  holds({ id, content }: Pick<Message, 'id' | 'content'>): boolean {
    const of = this.#known.get(id)?.filter(({ length }) => length === content.length) ?? []
    return of.length > 0 && of.some((it) => it.digest === digest(content))
  }

  /** Whether this is an entry that an earlier turn has, and more of it: its last words came too late for that turn. */
  continues({ id, content }: Pick<Message, 'id' | 'content'>): boolean {
    return (this.#known.get(id) ?? []).some(
      (it) =>
        (it.openTool !== '' && it.openTool === headOf(content)) ||
        (it.length > 0 && it.length < content.length && it.digest === digest(content.slice(0, it.length))),
    )
  }
}

const digest = (text: string): string => createHash('sha1').update(text).digest('base64').slice(0, 20)
const headOf = (text: string): string => text.split('\nStatus:', 1)[0]!
