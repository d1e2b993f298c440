import type { AgentEvent } from '../../protocol/events.js'
import { split } from '../../protocol/events.js'
import type { Entry } from '../../protocol/fold.js'
import type { Message } from './wire.js'

/**
 * The answer of one turn, as far as it was said. A Helix agent tells whole contents, again and again; what is new of
 * each becomes events of the log. Order is that of first appearance. Pure.
 */
export class Answer {
  readonly #entries = new Map<string, Entry>()

  /** `entries`: what the log already has. */
  constructor(entries: readonly Entry[] = []) {
    for (const entry of entries) this.#entries.set(entry.id, entry)
  }

  /** Whether anything was said. */
  get empty(): boolean {
    return this.#entries.size === 0
  }

  get entries(): readonly Entry[] {
    return [...this.#entries.values()]
  }

  /** Whether the entries stand in the order of their numbers. */
  get ordered(): boolean {
    const numbers = [...this.#entries.keys()].map(Number)
    return numbers.every((number, k) => k === 0 || number > numbers[k - 1]!)
  }

  has(id: string): boolean {
    return this.#entries.has(id)
  }

  /** The events that bring an entry to what the agent says it is now; none when it is so already, or says nothing. */
  update({
    id,
    content,
    kind,
    name,
    status,
  }: Pick<Message, 'id' | 'content' | 'kind' | 'name' | 'status'>): AgentEvent[] {
    const before = this.#entries.get(id)
    if (!before && content === '' && name === undefined && status === undefined) return []
    const was = before ?? { id, kind: kind ?? 'text', text: '' }
    const events: AgentEvent[] = []
    const label = { ...(name !== was.name && name && { name }), ...(status !== was.status && status && { status }) }
    if (Object.keys(label).length > 0) events.push({ type: 'entry.set', entry: id, kind: was.kind, ...label })
    if (content !== was.text) {
      const offset = content.startsWith(was.text) ? was.text.length : commonLength(was.text, content)
      const text = content.slice(offset)
      const change: AgentEvent =
        offset === was.text.length
          ? { type: 'entry.append', entry: id, kind: was.kind, text }
          : { type: 'entry.replace', entry: id, kind: was.kind, offset, text }
      events.push(...split(change))
    }
    if (events.length > 0) this.#entries.set(id, { ...was, ...label, text: content })
    return events
  }
}

/** How many UTF-16 units two texts begin with in common; never half of a surrogate pair. */
function commonLength(a: string, b: string): number {
  const most = Math.min(a.length, b.length)
  let length = 0
  while (length < most && a.charCodeAt(length) === b.charCodeAt(length)) length++
  const last = length > 0 ? a.charCodeAt(length - 1) : 0
  return last >= 0xd800 && last <= 0xdbff ? length - 1 : length
}
