import { z } from 'zod'
import { PoolName } from '../../protocol/agent-wire.js'
import { isInteractionId, type InteractionId } from '../../protocol/ids.js'
import { MAX_TEXT, Metadata } from '../http/parse.js'

const Title = z.string().max(512)

const Text = z
  .string()
  .min(1)
  .max(MAX_TEXT)
  .refine((text) => text.trim() !== '', 'must not be only white space')

/** How a turn is answered: as a stream, as the final interaction, or (neither) with 202 and links at once. */
const Reply = { stream: z.boolean().default(false), wait: z.boolean().default(false) }

/** Where the end of a turn is to be posted, signed; of a session: the ends of all its turns. */
const Webhook = z.strictObject({ url: z.string().min(1).max(2048) })

const oneReply = ({ stream, wait }: { stream: boolean; wait: boolean }): boolean => !(stream && wait)
const twoReplies = { path: ['wait'], message: 'choose stream or wait, not both' }

export const NewSession = z.strictObject({
  pool: PoolName,
  title: Title.optional(),
  metadata: Metadata.optional(),
  webhook: Webhook.optional(),
})

/** `interrupt`: cancel the turn in flight and go before all that wait. */
export const Message = z
  .strictObject({
    text: Text,
    metadata: Metadata.optional(),
    interrupt: z.boolean().default(false),
    webhook: Webhook.optional(),
    ...Reply,
  })
  .refine(oneReply, twoReplies)

/** A message to a session that is made for it; `session` describes that one, `metadata` the message. */
export const FirstMessage = z
  .strictObject({
    pool: PoolName,
    session: z.strictObject({ title: Title.optional(), metadata: Metadata.optional() }).default({}),
    text: Text,
    metadata: Metadata.optional(),
    webhook: Webhook.optional(),
    ...Reply,
  })
  .refine(oneReply, twoReplies)

/** The answer to a permission: the id of one of its options. */
export const Answer = z.strictObject({ option: z.string().min(1).max(128) })

const limit = z.coerce.number().int().min(1).max(100).default(20)

export const SessionsPage = z.object({
  limit,
  before: z
    .string()
    .regex(/^\d{1,15}\.ses_[0-9a-z]{26}$/, 'is the `next` of the page before')
    .optional(),
})

export const TranscriptPage = z.object({
  limit,
  after: z
    .custom<InteractionId>((text) => typeof text === 'string' && isInteractionId(text), 'not an interaction id')
    .optional(),
})
