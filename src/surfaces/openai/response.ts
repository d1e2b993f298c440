import type { Interaction } from '../../core/core.js'
import type { StopReason, Usage } from '../../protocol/events.js'
import type { InteractionId } from '../../protocol/ids.js'
import type { Asked } from './asked.js'
import { conversationIdOf, responseIdOf } from './ids.js'
import { outputOf, type Answer } from './items.js'

/** What is the same in every state of a response. `createdAt` in ms. */
export interface ResponseHead {
  interaction: InteractionId
  pool: string
  createdAt: number
  metadata: Record<string, string>
  asked: Asked
}

/** What changes while a turn goes on. `endedAt` in ms. */
export interface ResponseState extends Answer {
  usage?: Usage | null | undefined
  error?: { code: string; message: string } | null | undefined
  endedAt: number | null
}

type ResponseStatus = 'queued' | 'in_progress' | 'completed' | 'failed' | 'incomplete' | 'cancelled'

const REASON: Record<StopReason, string | null> = {
  end_turn: null,
  max_tokens: 'max_output_tokens',
  max_turn_requests: 'max_output_tokens',
  refusal: 'content_filter',
  unconfirmed: 'unconfirmed',
}

/** `in_progress` from the first delivery on, as the stream says it. */
export function statusOf({ status, attempt, stopReason }: Answer): ResponseStatus {
  switch (status) {
    case 'queued':
      return 'queued'
    case 'waiting':
      return attempt > 0 ? 'in_progress' : 'queued'
    case 'streaming':
      return 'in_progress'
    case 'completed':
      return REASON[stopReason ?? 'end_turn'] === null ? 'completed' : 'incomplete'
    case 'failed':
    case 'cancelled':
      return status
  }
}

/** A failure in OpenAI's words. `type` is not in their schema, but the AI SDK shows no message without it. */
export const failureOf = ({ error }: Pick<ResponseState, 'error'>) => ({
  type: 'server_error',
  code: error?.code ?? 'failed',
  message: error?.message ?? 'The turn failed.',
  param: null,
})

/** The response object: every field that an SDK's types or the Open Responses schema require, always. */
export function responseObject(head: ResponseHead, state: ResponseState): object {
  const { interaction, pool, asked } = head
  const status = statusOf(state)
  const ended = state.endedAt !== null
  const reason = status === 'cancelled' ? 'cancelled' : REASON[(ended && state.stopReason) || 'end_turn']
  return {
    id: responseIdOf(interaction),
    object: 'response',
    created_at: seconds(head.createdAt),
    status,
    completed_at: state.endedAt === null ? null : seconds(state.endedAt),
    background: asked.background,
    error: status === 'failed' ? failureOf(state) : null,
    incomplete_details: reason === null ? null : { reason },
    instructions: asked.instructions,
    model: pool,
    conversation: { id: conversationIdOf(interaction) },
    previous_response_id: asked.previous,
    output: outputOf(interaction, pool, state),
    usage: ended && state.usage ? usageOf(state.usage) : null,
    tools: [],
    ...echoed(asked.echo),
    store: asked.store,
    metadata: head.metadata,
  }
}

/** Request fields that the response repeats, with OpenAI's defaults. */
function echoed(echo: Asked['echo']): object {
  return {
    tool_choice: echo.tool_choice ?? 'auto',
    parallel_tool_calls: echo.parallel_tool_calls ?? true,
    text: { format: { type: 'text' }, ...echo.text },
    reasoning: { effort: null, summary: null, ...echo.reasoning },
    temperature: echo.temperature ?? 1,
    top_p: echo.top_p ?? 1,
    presence_penalty: 0,
    frequency_penalty: 0,
    top_logprobs: echo.top_logprobs ?? 0,
    truncation: echo.truncation ?? 'disabled',
    max_output_tokens: echo.max_output_tokens ?? null,
    max_tool_calls: echo.max_tool_calls ?? null,
    service_tier: 'default',
    user: echo.user ?? null,
    safety_identifier: echo.safety_identifier ?? null,
    prompt_cache_key: echo.prompt_cache_key ?? null,
  }
}

const usageOf = ({ inputTokens, outputTokens, cachedTokens = 0, reasoningTokens = 0 }: Usage) => ({
  input_tokens: inputTokens,
  input_tokens_details: { cached_tokens: cachedTokens, cache_write_tokens: 0 },
  output_tokens: outputTokens,
  output_tokens_details: { reasoning_tokens: reasoningTokens },
  total_tokens: inputTokens + outputTokens,
})

const seconds = (ms: number): number => Math.floor(ms / 1000)

export const headOf = (turn: Interaction, asked: Asked): ResponseHead => ({
  interaction: turn.id,
  pool: turn.pool,
  createdAt: turn.createdAt,
  metadata: turn.metadata,
  asked,
})

export const stateOf = (turn: Interaction): ResponseState => ({ ...turn, entries: turn.output })
