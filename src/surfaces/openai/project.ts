import type { LogEvent, StopReason, Usage } from '../../protocol/events.js'
import type { Turn } from '../../protocol/fold.js'
import type { Frame } from '../http/sse.js'
import { CANCELLED, type OpenAiError } from './errors.js'
import type { Projection } from './projection.js'

type Finish = 'stop' | 'length' | 'content_filter'

export const FINISH: Record<StopReason, Finish> = {
  end_turn: 'stop',
  max_tokens: 'length',
  max_turn_requests: 'length',
  refusal: 'content_filter',
}

/** Tokens in the words of Chat Completions. */
export const chatUsage = ({ inputTokens, outputTokens, cachedTokens = 0, reasoningTokens = 0 }: Usage) => ({
  prompt_tokens: inputTokens,
  completion_tokens: outputTokens,
  total_tokens: inputTokens + outputTokens,
  prompt_tokens_details: { cached_tokens: cachedTokens, audio_tokens: 0 },
  completion_tokens_details: {
    reasoning_tokens: reasoningTokens,
    audio_tokens: 0,
    accepted_prediction_tokens: 0,
    rejected_prediction_tokens: 0,
  },
})

/** What is the same in every chunk of a stream. `created` in s. */
export interface ChatHead {
  id: string
  created: number
  model: string
}

/** How far an entry has come: its kind, its length now, and how much of it was sent; both in UTF-16 units. */
interface Progress {
  kind: string
  length: number
  sent: number
}

/**
 * A log as Chat Completions chunks: the text entries, a blank line between them; tool calls and thoughts are not shown.
 *
 * Nothing that was sent can be taken back on this API. So, of a text that was changed after it was sent, only what lies
 * beyond the sent length is sent, and entries that grow in turns are told in the order of their growing. The whole and
 * right text is in the interaction (`throughline-interaction-id`). When all of the answer becomes void (`reset`: the
 * agent was lost, another one began anew) the stream ends with an error: two answers run together, with a separator or
 * without, would be taken for one by every program that reads it.
 */
export class ChatProjection implements Projection {
  readonly #head: ChatHead
  readonly #includeUsage: boolean
  readonly #entries = new Map<string, Progress>()
  #begun = false
  /** The entry that was sent from last. */
  #speaking: string | undefined
  #usage: Usage | undefined
  #attempt = 0
  over = false

  constructor(head: ChatHead, { includeUsage }: { includeUsage: boolean }) {
    this.#head = head
    this.#includeUsage = includeUsage
  }

  event(event: LogEvent): Frame[] {
    const frames = this.#begin()
    switch (event.type) {
      case 'entry.append': {
        const progress = this.#progress(event.entry, event.kind)
        frames.push(...this.#grow(event.entry, progress, progress.length, event.text))
        break
      }
      case 'entry.replace': {
        const progress = this.#progress(event.entry, event.kind)
        const level = progress.sent === progress.length // it is not while a lost tail comes again, see `snapshot`
        const offset = Math.min(event.offset, progress.length)
        frames.push(...this.#grow(event.entry, progress, offset, event.text))
        if (level) progress.sent = progress.length // it may be shorter now; what is appended from here on is new
        break
      }
      case 'entry.set':
        this.#progress(event.entry, event.kind)
        break
      case 'usage':
        this.#usage = event.usage
        break
      case 'dispatched':
        this.#attempt = event.attempt
        break
      case 'reset':
        frames.push(...this.#reset())
        break
      case 'completed':
        frames.push(...this.#complete(event.reason))
        break
      case 'failed':
        frames.push(...this.#fail(event))
        break
      case 'cancelled':
        frames.push(...this.#fail(CANCELLED))
        break
      case 'submitted':
      case 'thread':
      case 'title':
      case 'permission': // not a thing of theirs: answered over the native surface
      case 'permission.answered':
      case 'permission.settled':
        break
    }
    return frames
  }

  snapshot(turn: Turn): Frame[] {
    const frames = this.#begin()
    if (turn.attempt > this.#attempt && this.#speaking !== undefined) return [...frames, ...this.#reset()]
    this.#attempt = turn.attempt
    for (const { id, kind, text } of turn.entries) {
      const progress = this.#progress(id, kind)
      // `sent` stays where it is when the text is shorter: what was lost comes again, and must not be sent again.
      frames.push(...this.#grow(id, progress, 0, text))
    }
    this.#usage = turn.usage ?? this.#usage
    if (turn.status === 'completed') frames.push(...this.#complete(turn.stopReason ?? 'end_turn'))
    if (turn.status === 'failed')
      frames.push(...this.#fail(turn.error ?? { code: 'failed', message: 'The turn failed.' }))
    if (turn.status === 'cancelled') frames.push(...this.#fail(CANCELLED))
    return frames
  }

  failure(error: OpenAiError): Frame[] {
    this.over = true
    return [{ data: { error } }]
  }

  #begin(): Frame[] {
    if (this.#begun) return []
    this.#begun = true
    return [this.#chunk({ role: 'assistant', content: '' })]
  }

  #progress(id: string, kind: string | undefined): Progress {
    const progress = this.#entries.get(id) ?? { kind: kind ?? 'text', length: 0, sent: 0 }
    this.#entries.set(id, progress)
    return progress
  }

  /** `text` now stands at `offset` and ends the entry; sends what of it lies beyond the sent length. */
  #grow(id: string, progress: Progress, offset: number, text: string): Frame[] {
    progress.length = offset + text.length
    const fresh = text.slice(Math.max(0, progress.sent - offset))
    progress.sent = Math.max(progress.sent, progress.length)
    if (progress.kind !== 'text' || fresh === '') return []
    const gap = this.#speaking !== undefined && this.#speaking !== id ? '\n\n' : ''
    this.#speaking = id
    return [this.#chunk({ content: gap + fresh })]
  }

  #reset(): Frame[] {
    this.#entries.clear()
    if (this.#speaking === undefined) return []
    return this.#fail({
      code: 'reset_after_output',
      message:
        'The agent was lost and another one begins the answer anew: what was sent so far is void. ' +
        'Send the same request without "stream", with the same Idempotency-Key, or read the interaction.',
    })
  }

  #complete(reason: StopReason): Frame[] {
    this.over = true
    const finish = this.#chunk({}, FINISH[reason])
    if (!this.#includeUsage || !this.#usage) return [finish] // an agent that counts nothing is not made to say zero
    return [finish, { data: { ...this.#envelope(), choices: [], usage: chatUsage(this.#usage) } }]
  }

  #fail({ code, message }: { code: string; message: string }): Frame[] {
    return this.failure({ message, type: 'server_error', param: null, code })
  }

  #chunk(delta: { role?: 'assistant'; content?: string }, finish: Finish | null = null): Frame {
    const choices = [{ index: 0, delta, logprobs: null, finish_reason: finish }]
    return { data: { ...this.#envelope(), choices, ...(this.#includeUsage && { usage: null }) } }
  }

  #envelope() {
    const { id, created, model } = this.#head
    return { id, object: 'chat.completion.chunk', created, model }
  }
}
