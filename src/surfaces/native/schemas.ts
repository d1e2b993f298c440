import { z } from 'zod'
import { PoolName } from '../../protocol/agent-wire.js'
import { ID_PATTERNS, type InteractionId, type SessionId } from '../../protocol/ids.js'
import { STATUSES } from '../../protocol/interaction.js'
import { MAX_TEXT, Metadata } from '../http/parse.js'

/** An id by its pattern, with the type that the pattern stands for. */
const idLike = <Id extends string>(pattern: RegExp, what: string) =>
  z.string().regex(pattern, `is not ${what}`) as unknown as z.ZodType<Id, string>

export const SessionIdText = idLike<SessionId>(ID_PATTERNS.session, 'a session id').meta({
  id: 'SessionId',
  description: 'A conversation, `ses_…`.',
})
export const InteractionIdText = idLike<InteractionId>(ID_PATTERNS.interaction, 'an interaction id').meta({
  id: 'InteractionId',
  description: 'A turn of a session, `int_…`; it holds the id of its session.',
})

/** A cursor of a session's stream: `0`, or a turn and a cursor into its log. */
export const SessionCursorText = z
  .string()
  .regex(new RegExp(`^(0|${ID_PATTERNS.interaction.source.slice(1, -1)}/\\d{1,15}(\\.[0-9a-z]{1,32})?)$`))

const Pool = PoolName.meta({ description: 'The pool of agents that answers; what OpenAI calls a model.' })
const Title = z.string().max(512).meta({ description: 'For people. An agent may replace it.' })
const Pairs = Metadata.meta({
  id: 'Metadata',
  description: 'Up to 16 pairs of your own: keys of 1 to 64 characters, values of at most 512.',
  maxProperties: 16,
})

const Text = z
  .string()
  .min(1)
  .max(MAX_TEXT)
  .refine((text) => text.trim() !== '', 'must not be only white space')
  .meta({ description: 'The message. At most 1,000,000 UTF-16 units, not only white space.', pattern: '\\S' })

/** How a turn is answered: as a stream, as the final interaction, or (neither) with 202 and links at once. */
const Reply = {
  stream: z.boolean().default(false).meta({ description: 'Answer with the event stream of the turn.' }),
  wait: z.boolean().default(false).meta({ description: 'Answer when the turn has ended. Not together with `stream`.' }),
}

const oneReply = ({ stream, wait }: { stream: boolean; wait: boolean }): boolean => !(stream && wait)
/** The same in JSON Schema. */
const NOT_BOTH = {
  not: { required: ['stream', 'wait'], properties: { stream: { const: true }, wait: { const: true } } },
}
const twoReplies = { path: ['wait'], message: 'choose stream or wait, not both' }

export const NewSession = z
  .strictObject({
    pool: Pool,
    title: Title.optional(),
    metadata: Pairs.optional(),
  })
  .meta({ id: 'NewSession' })

export const Message = z
  .strictObject({
    text: Text,
    metadata: Pairs.optional(),
    interrupt: z
      .boolean()
      .default(false)
      .meta({ description: 'Cancel the turn in flight and go before all that wait.' }),
    ...Reply,
  })
  .refine(oneReply, twoReplies)
  .meta({ id: 'Message', ...NOT_BOTH })

/** A message to a session that is made for it; `session` describes that one, `metadata` the message. */
export const FirstMessage = z
  .strictObject({
    pool: Pool,
    session: z
      .strictObject({ title: Title.optional(), metadata: Pairs.optional() })
      .default({})
      .meta({ description: 'The session that is made for the message.' }),
    text: Text,
    metadata: Pairs.optional().meta({ description: 'Pairs of the message, not of the session.' }),
    ...Reply,
  })
  .refine(oneReply, twoReplies)
  .meta({ id: 'FirstMessage', ...NOT_BOTH })

/** The answer to a permission: the id of one of its options. */
export const Answer = z.strictObject({ option: z.string().min(1).max(128) }).meta({ id: 'Answer' })

/** Longest life of a token for reading a session's streams, in seconds. */
const MAX_TOKEN_S = 24 * 3600

export const NewToken = z
  .strictObject({
    ttlSeconds: z.int().min(1).max(MAX_TOKEN_S).default(3600).meta({ description: 'How long it opens anything.' }),
  })
  .default({ ttlSeconds: 3600 })
  .meta({ id: 'NewToken' })

const limit = z.coerce.number().int().min(1).max(100).default(20).meta({ description: 'Most items of the page.' })

export const SessionsPage = z.strictObject({
  limit,
  before: z
    .string()
    .regex(/^\d{1,15}\.ses_[0-9a-hjkmnp-tv-z]{26}$/, 'is the `next` of the page before')
    .optional()
    .meta({ description: 'The `next` of the page before.' }),
  pool: PoolName.optional().meta({ description: 'Only sessions of this pool.' }),
  active: z
    .enum(['true', 'false'])
    .transform((word) => word === 'true')
    .optional()
    .meta({ description: 'Only sessions with a turn that runs or waits (`true`), or without one (`false`).' }),
  metadata: z
    .string()
    .regex(/^[^:]{1,64}:.{0,512}$/s, 'is <key>:<value>')
    .optional()
    .meta({ description: 'Only sessions with this pair, as `<key>:<value>`. The key cannot hold a colon.' }),
})

const order = z.enum(['asc', 'desc']).default('asc').meta({ description: 'Oldest or newest turns first.' })
const status = z.enum(STATUSES).optional().meta({ description: 'Only turns in this state.' })

export const TranscriptPage = z.strictObject({
  limit,
  order,
  status,
  after: InteractionIdText.optional().meta({
    description: 'The `next` of the page before: turns that follow this one.',
  }),
})

export const EXPORT_FORMATS = ['json', 'markdown', 'ndjson'] as const

export const Export = z.strictObject({
  format: z.enum(EXPORT_FORMATS).default('json').meta({ description: 'How the transcript is written.' }),
  order,
  status,
})
