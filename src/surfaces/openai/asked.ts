import { z } from 'zod'
import { Metadata } from '../http/parse.js'

const Echo = z.object({
  tool_choice: z.union([z.string(), z.looseObject({})]).nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  text: z.looseObject({}).nullish(),
  reasoning: z.looseObject({}).nullish(),
  temperature: z.number().nullish(),
  top_p: z.number().nullish(),
  top_logprobs: z.int().nullish(),
  truncation: z.string().nullish(),
  max_output_tokens: z.int().nullish(),
  max_tool_calls: z.int().nullish(),
  user: z.string().nullish(),
  safety_identifier: z.string().nullish(),
  prompt_cache_key: z.string().nullish(),
})

/** Items are checked one by one by `input.ts`, which can say which part of which item does not fit. */
export const InputItems = z.array(z.looseObject({ type: z.string().nullish() })).max(10_000)
export type InputItems = z.infer<typeof InputItems>

/** What is read of `POST /v1/responses`. Unknown fields are accepted and ignored, as OpenAI's clients expect. */
export const ResponseRequest = z.looseObject({
  model: z.string().min(1).nullish(),
  input: z.union([z.string(), InputItems], 'must be a text or a list of input items'),
  stream: z.boolean().nullish(),
  background: z.boolean().nullish(),
  store: z.boolean().nullish(),
  conversation: z.union([z.string(), z.looseObject({ id: z.string() })], 'must be an id or {id}').nullish(),
  previous_response_id: z.string().nullish(),
  instructions: z.string().nullish(),
  metadata: Metadata.nullish(),
  tools: z.array(z.unknown()).nullish(),
  ...Echo.shape,
})
export type ResponseRequest = z.infer<typeof ResponseRequest>

/** One message of an input. `text` parts of an assistant are `output_text`. */
export interface InputMessage {
  role: 'user' | 'system' | 'developer' | 'assistant'
  texts: string[]
}

/** What a response repeats of its request, beside its metadata: kept as the turn's note. */
export interface Asked {
  instructions: string | null
  background: boolean
  store: boolean
  previous: string | null
  /** The messages of the input; left out where there is one, the user's, and the turn's own input holds it. */
  items?: InputMessage[]
  echo: z.infer<typeof Echo>
}

/** Of a turn that did not come through this API. */
export const UNASKED: Asked = { instructions: null, background: false, store: true, previous: null, echo: {} }

/** `prompt` is what the agent is told: the turn's input. */
export function askedOf(request: ResponseRequest, messages: InputMessage[], prompt: string): Asked {
  const { instructions, background, store, previous_response_id: previous } = request
  const given = Object.entries(Echo.parse(request)).filter(([, value]) => value !== null && value !== undefined)
  const [{ role, texts }, ...others] = messages as [InputMessage, ...InputMessage[]]
  const plain = others.length === 0 && role === 'user' && texts.length === 1 && texts[0] === prompt
  return {
    instructions: instructions ?? null,
    background: background ?? false,
    store: store ?? true,
    previous: previous ?? null,
    ...(!plain && { items: messages }),
    echo: Object.fromEntries(given),
  }
}

/** Reads a note. What another version wrote is not ours to trip over. */
export const readAsked = (note: string): Asked =>
  note === '' ? UNASKED : { ...UNASKED, ...(JSON.parse(note) as Partial<Asked>) }
