import { createHash } from 'node:crypto'
import type { Entry } from '../../protocol/fold.js'
import type { Message } from './wire.js'

/** An entry that a turn has, in brief. */
export interface Known {
  /** UTF-16 units. */
  length: number
  digest: string
  /** A tool call that had not ended: what it was, without its status. */
  openTool: string
}

/** Entries that are remembered, and how many of the same number; the oldest go first. */
const REMEMBERED = { entries: 20_000, perId: 8 }

/**
 * What earlier turns of a session hold. A Helix agent replays old entries into a new turn, and flushes the last words of
 * a cancelled or cut one late; its entry numbers alone tell nothing, since they begin anew when its wrapper is restarted.
 * Pure.
 */
export class Past {
  readonly #known = new Map<string, Known[]>()
  /** The last words told of an entry whose turn was over, while they grow. */
  readonly #overheard = new Map<string, Known>()
  #count = 0
  #last = '-1'

  /** A turn is over with these entries. */
  add(entries: readonly Entry[]): void {
    for (const entry of entries) this.know(entry.id, brief(entry))
  }

  know(id: string, known: Known): void {
    const of = this.#known.get(id) ?? []
    if (of.at(-1)?.digest === known.digest) return
    of.push(known)
    this.#count += of.length > REMEMBERED.perId ? 0 : 1
    this.#known.delete(id) // to the end of the line
    this.#known.set(id, of.slice(-REMEMBERED.perId))
    this.#last = id
    for (const [oldest, of] of this.#known) {
      if (this.#count <= REMEMBERED.entries) return
      this.#known.delete(oldest)
      this.#count -= of.length
    }
  }

  /** The number of the entry that was learned last, which is where the agent stands; -1 for none. */
  get last(): number {
    return Number(this.#last)
  }

  /** An entry of a turn that is over, as it is told now: it may be told again as it grows. */
  overhear(id: string, known: Known): void {
    const of = this.#known.get(id)
    if (of && of.length > 0 && of.at(-1) === this.#overheard.get(id)) {
      of.pop()
      this.#count--
    }
    this.know(id, known)
    this.#overheard.set(id, known)
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

export function brief({ kind, text, status }: Pick<Entry, 'kind' | 'text' | 'status'>): Known {
  const open = kind === 'tool_call' && (status === 'pending' || status === 'in_progress')
  return { length: text.length, digest: digest(text), openTool: open ? headOf(text) : '' }
}

const digest = (text: string): string => createHash('sha1').update(text).digest('base64').slice(0, 20)
const headOf = (text: string): string => text.split('\nStatus:', 1)[0]!
