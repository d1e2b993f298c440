import type { LogEvent } from '../../protocol/events.js'
import { emptyTurn, fold, type Entry, type Turn } from '../../protocol/fold.js'
import type { Frame } from '../http/sse.js'
import { idOf, itemOf, statusOfItem, textPart, type ItemStatus } from './items.js'
import { failureOf, responseObject, statusOf, type ResponseHead } from './response.js'

/** A frame with its `sequence_number`. */
export interface ResponseFrame extends Frame {
  event: string
  data: { type: string; sequence_number: number; [field: string]: unknown }
}

/** Frames that tell of the end. */
export const isEnding = ({ event }: ResponseFrame): boolean =>
  event === 'error' || event === 'response.completed' || event === 'response.incomplete' || event === 'response.failed'

/** An item that was added and is not done yet. */
interface OpenItem {
  index: number
  id: string
  /** Where in the entry's text the item begins; UTF-16 units. */
  from: number
}

/**
 * A log as the events of the Responses API. Pure: the frames, numbers and all, depend on nothing but the events, so that
 * every replica tells the same stream at every replay.
 *
 * Text and reasoning are told as they grow; an item is done when the next entry begins, and an entry that grows after
 * that goes on in an item of its own. What was sent cannot be taken back, so of a text that is changed only what lies
 * beyond its former length is sent at once; its `done` and the final response have it whole and right. A tool call stays
 * open until it has ended, a plan (always sent as a whole) until the turn has.
 */
export class ResponseProjection {
  readonly #head: ResponseHead
  #turn: Turn = emptyTurn()
  #endedAt: number | null = null
  #begun = false
  #inProgress = false
  #items = 0
  /** By entry; of this attempt. */
  readonly #open = new Map<string, OpenItem>()
  /** How many items an entry has become; of this attempt. */
  readonly #made = new Map<string, number>()
  /** The text or reasoning that was told last and is still open. */
  #speaking: string | undefined
  /** Number of the next frame. */
  next = 0
  over = false

  constructor(head: ResponseHead) {
    this.#head = head
  }

  /** The last event of the log that was told, 0 before the first. */
  get n(): number {
    return this.#turn.n
  }

  event(event: LogEvent): ResponseFrame[] {
    const before = this.#turn
    this.#turn = fold(before, event)
    const frames = this.#begin()
    switch (event.type) {
      case 'dispatched':
        frames.push(...this.#start())
        break
      case 'entry.append':
      case 'entry.replace':
      case 'entry.set': {
        const k = this.#turn.entries.findLastIndex(({ id }) => id === event.entry)
        frames.push(...this.#start(), ...this.#entry(k, before.entries[k]?.text ?? ''))
        break
      }
      case 'reset':
        frames.push(...this.#reset(before))
        break
      case 'completed':
      case 'failed':
      case 'cancelled':
        this.#endedAt = event.at
        frames.push(...this.#end())
        break
      case 'submitted':
      case 'started':
      case 'yielded':
      case 'thread':
      case 'title':
      case 'usage':
        break
    }
    return frames
  }

  /** The end, from a state that stands in the place of events which cannot be read any more. `endedAt` in ms. */
  endWith(turn: Turn, endedAt: number | null): ResponseFrame[] {
    const frames = [...this.#begin()]
    if (turn.attempt > this.#turn.attempt) frames.push(...this.#reset(this.#turn))
    this.#turn = turn
    this.#endedAt = endedAt ?? 0
    return [...frames, ...this.#end()]
  }

  #begin(): ResponseFrame[] {
    if (this.#begun) return []
    this.#begun = true
    const response = responseObject(this.#head, { status: 'queued', attempt: 0, entries: [], endedAt: null })
    return [this.#frame('response.created', { response }), this.#frame('response.queued', { response })]
  }

  #start(): ResponseFrame[] {
    if (this.#inProgress) return []
    this.#inProgress = true
    const response = responseObject(this.#head, { status: 'waiting', attempt: 1, entries: [], endedAt: null })
    return [this.#frame('response.in_progress', { response })]
  }

  /** The k-th entry was touched; `was` is its text before. */
  #entry(k: number, was: string): ResponseFrame[] {
    const entry = this.#turn.entries[k]!
    const frames: ResponseFrame[] = []
    if (entry.kind === 'tool_call' || entry.kind === 'plan') {
      if (!this.#made.has(entry.id) && (entry.kind === 'tool_call' || entry.text !== ''))
        frames.push(...this.#closeSpeaking(), ...this.#add(entry, k, 0))
      const status = statusOfItem(this.#turn, k)
      if (entry.kind === 'tool_call' && status !== 'in_progress') frames.push(...this.#done(entry, status))
      return frames
    }
    const delta = entry.text.slice(was.length)
    if (delta === '') return []
    if (this.#speaking !== entry.id) {
      frames.push(...this.#closeSpeaking(), ...this.#add(entry, k, was.length))
      this.#speaking = entry.id
    }
    frames.push(this.#delta(entry, this.#open.get(entry.id)!, delta))
    return frames
  }

  #add(entry: Entry, k: number, from: number): ResponseFrame[] {
    const part = this.#made.get(entry.id) ?? 0
    this.#made.set(entry.id, part + 1)
    const id = idOf(this.#head.interaction, this.#turn.attempt, entry, k, part)
    const item: OpenItem = { index: this.#items++, id, from }
    this.#open.set(entry.id, item)
    const added = itemOf({ ...entry, text: '' }, id, 'in_progress', this.#head.pool)
    if (added.type === 'message') added.content = []
    if (added.type === 'reasoning') added.summary = []
    const frames = [this.#frame('response.output_item.added', { output_index: item.index, item: added })]
    switch (entry.kind) {
      case 'text':
        frames.push(this.#frame('response.content_part.added', { ...placeOf(item), part: textPart('') }))
        break
      case 'reasoning':
      case 'plan':
        frames.push(this.#frame('response.reasoning_summary_part.added', { ...summaryOf(item), part: summaryPart('') }))
        break
      case 'tool_call':
        frames.push(this.#frame('response.mcp_call.in_progress', { output_index: item.index, item_id: id }))
    }
    return frames
  }

  #delta({ kind }: Entry, item: OpenItem, delta: string): ResponseFrame {
    if (kind === 'text') return this.#frame('response.output_text.delta', { ...placeOf(item), delta, logprobs: [] })
    return this.#frame('response.reasoning_summary_text.delta', { ...summaryOf(item), delta })
  }

  /** Closes the entry's item, if one is open. */
  #done(entry: Entry, status: ItemStatus): ResponseFrame[] {
    const open = this.#open.get(entry.id)
    if (!open) return []
    this.#open.delete(entry.id)
    const text = entry.text.slice(open.from)
    const item = itemOf({ ...entry, text }, open.id, status, this.#head.pool)
    const frames: ResponseFrame[] = []
    switch (entry.kind) {
      case 'text':
        frames.push(
          this.#frame('response.output_text.done', { ...placeOf(open), text, logprobs: [] }),
          this.#frame('response.content_part.done', { ...placeOf(open), part: textPart(text) }),
        )
        break
      case 'plan':
      case 'reasoning':
        if (entry.kind === 'plan') frames.push(this.#delta(entry, open, text)) // it was not told before
        frames.push(
          this.#frame('response.reasoning_summary_text.done', { ...summaryOf(open), text }),
          this.#frame('response.reasoning_summary_part.done', { ...summaryOf(open), part: summaryPart(text) }),
        )
        break
      case 'tool_call':
        if (status === 'completed' || status === 'failed')
          frames.push(this.#frame(`response.mcp_call.${status}`, { output_index: open.index, item_id: open.id }))
    }
    return [...frames, this.#frame('response.output_item.done', { output_index: open.index, item })]
  }

  #closeSpeaking(): ResponseFrame[] {
    const entry = this.#turn.entries.find(({ id }) => id === this.#speaking)
    this.#speaking = undefined
    return entry ? this.#done(entry, 'completed') : []
  }

  /** What was told is void: it is closed, and the next attempt's items follow it. */
  #reset({ entries }: Turn): ResponseFrame[] {
    const frames = entries.flatMap((entry) => this.#done(entry, 'incomplete'))
    this.#open.clear()
    this.#made.clear()
    this.#speaking = undefined
    return frames
  }

  #end(): ResponseFrame[] {
    const turn = this.#turn
    const frames = turn.entries.flatMap((entry, k) => this.#done(entry, statusOfItem(turn, k)))
    const state = { ...turn, endedAt: this.#endedAt }
    const response = responseObject(this.#head, state)
    const status = statusOf(state)
    if (status === 'failed') frames.push(this.#frame('error', { error: failureOf(turn) }))
    // there is no event named after a cancel
    frames.push(this.#frame(`response.${status === 'cancelled' ? 'incomplete' : status}`, { response }))
    this.over = true
    return frames
  }

  #frame(type: string, fields: object): ResponseFrame {
    return { event: type, data: { type, sequence_number: this.next++, ...fields } }
  }
}

const placeOf = ({ id, index }: OpenItem) => ({ item_id: id, output_index: index, content_index: 0 })
const summaryOf = ({ id, index }: OpenItem) => ({ item_id: id, output_index: index, summary_index: 0 })
const summaryPart = (text: string) => ({ type: 'summary_text', text })
