import { z } from 'zod'
import { MAX_TEXT } from '../http/parse.js'

const Content = z.union([
  z.string(),
  z.looseObject({ content_type: z.string().nullish(), parts: z.array(z.unknown()).min(1) }),
])

/** What is read of `POST /api/v1/sessions/chat`; all else is accepted and ignored, as Helix' clients send much. */
export const ChatRequest = z.looseObject({
  /** Empty: a new session. */
  session_id: z.string().nullish(),
  /** The last one is the prompt; the agent knows the others by itself. */
  messages: z.array(z.looseObject({ role: z.string().nullish(), content: Content })).min(1, 'must not be empty'),
  stream: z.boolean().nullish(),
  /** Put before the first prompt of a new session. */
  system: z.string().max(MAX_TEXT).nullish(),
  /** A pool's name, instead of HELIX_POOL. */
  app_id: z.string().nullish(),
  model: z.string().nullish(),
  /** Both ask for another answer to an earlier prompt, which is not offered. */
  regenerate: z.boolean().nullish(),
  interaction_id: z.string().nullish(),
})
export type ChatRequest = z.infer<typeof ChatRequest>

export const QueuedMessage = z.looseObject({
  content: z.string().min(1, 'is required').max(MAX_TEXT),
  interrupt: z.boolean().nullish(),
})

/** Pages count from 0. */
export const Page = z.looseObject({
  page: z.coerce.number().int().min(0).catch(0),
  per_page: z.coerce.number().int().min(1).max(100).catch(100),
  order: z.enum(['asc', 'desc']).catch('asc'),
})
