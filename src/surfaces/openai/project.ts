import type { LogEvent, StopReason, Usage } from '../../protocol/events.js'
import type { Turn } from '../../protocol/fold.js'
import { Spoken } from '../../protocol/spoken.js'
import type { Frame } from '../http/sse.js'
import { CANCELLED, type OpenAiError } from './errors.js'
import type { Projection } from './projection.js'

type Finish = 'stop' | 'length' | 'content_filter'

export const FINISH: Record<StopReason, Finish> = {
  end_turn: 'stop',
  max_tokens: 'length',
  max_turn_requests: 'length',
  refusal: 'content_filter',
  unconfirmed: 'length', // of their words the one for an answer that may go on
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

const RESET = {
  code: 'reset_after_output',
  message:
    'The agent was lost and another one begins the answer anew: what was sent so far is void. ' +
    'Send the same request without "stream", with the same Idempotency-Key, or read the interaction.',
}

/**
 * A log as Chat Completions chunks: the text as `Spoken` tells it; tool calls and thoughts are not shown. The whole and
 * right text is in the interaction (`throughline-interaction-id`). When what was sent becomes void the stream ends with an
 * error.
 */
export class ChatProjection implements Projection {
  readonly #head: ChatHead
  readonly #includeUsage: boolean
  readonly #spoken = new Spoken()
  #begun = false
  #usage: Usage | undefined
  over = false

  constructor(head: ChatHead, { includeUsage }: { includeUsage: boolean }) {
    this.#head = head
    this.#includeUsage = includeUsage
  }

  event(event: LogEvent): Frame[] {
    const fresh = this.#spoken.event(event)
    const frames = this.#told(fresh === '' ? [] : [fresh])
    switch (event.type) {
      case 'usage':
        this.#usage = event.usage
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
      case 'pending':
      case 'dispatched':
      case 'reset':
      case 'entry.append':
      case 'entry.replace':
      case 'entry.set':
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
    const frames = this.#told(this.#spoken.snapshot(turn))
    if (this.over) return frames
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

  /** Frames for what is told now; with the first the beginning, and the end when what was told is void. */
  #told(pieces: string[]): Frame[] {
    const frames = this.#begun ? [] : [this.#chunk({ role: 'assistant', content: '' })]
    this.#begun = true
    frames.push(...pieces.map((content) => this.#chunk({ content })))
    if (this.#spoken.void) frames.push(...this.#fail(RESET))
    return frames
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
