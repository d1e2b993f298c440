import { z } from 'zod'
import { Metadata } from '../http/parse.js'

const Part = z.looseObject({ type: z.string(), text: z.string().optional(), refusal: z.string().optional() })

export const ChatMessage = z.looseObject({
  role: z.enum(['system', 'developer', 'user', 'assistant', 'tool', 'function']),
  content: z.union([z.string(), z.array(Part)], 'must be a text or a list of content parts').nullish(),
})
export type ChatMessage = z.infer<typeof ChatMessage>

/** What is read of a Chat Completions request. Everything else is accepted and ignored, as OpenAI's clients expect. */
export const ChatRequest = z.looseObject({
  model: z.string().min(1),
  messages: z.array(ChatMessage).min(1).max(10_000),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
  metadata: Metadata.nullish(),
  n: z.number().nullish(),
  tools: z.array(z.unknown()).nullish(),
  functions: z.array(z.unknown()).nullish(),
  modalities: z.array(z.string()).nullish(),
  audio: z.unknown().optional(),
})
export type ChatRequest = z.infer<typeof ChatRequest>
