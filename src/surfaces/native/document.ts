import { z } from 'zod'
import type { Described, Operation, Reply } from '../http/openapi.js'
import {
  CancelledReply,
  CursorText,
  errorReply,
  ExportReply,
  InteractionReply,
  QueueReply,
  SESSION_FRAMES,
  SessionReply,
  SessionsReply,
  SubmittedReply,
  TokenReply,
  TranscriptReply,
  TURN_FRAMES,
} from './replies.js'
import {
  Answer,
  Export,
  FirstMessage,
  InteractionIdText,
  Message,
  NewSession,
  NewToken,
  SessionCursorText,
  SessionIdText,
  SessionsPage,
  TranscriptPage,
} from './schemas.js'

const json = (description: string, schema: z.ZodType, headers?: z.ZodObject): Reply => ({
  description,
  content: { 'application/json': schema },
  ...(headers && { headers }),
})

const IDEMPOTENCY_KEY = z
  .string()
  .regex(/^[\x21-\x7e]{1,255}$/)
  .optional()
  .meta({ description: 'Of your making, for this one request: repeated with it, it is done once. UUIDs are good.' })
const Once = z.object({ 'Idempotency-Key': IDEMPOTENCY_KEY })

const REPLAYED = z.literal('true').optional().meta({ description: 'The request was known: nothing new was stored.' })
const Replayed = z.object({ 'Idempotent-Replayed': REPLAYED })
const About = z.object({ 'throughline-session-id': SessionIdText, 'throughline-interaction-id': InteractionIdText })
const Taken = About.extend(Replayed.shape)
const Located = z.object({ Location: z.string().meta({ description: 'The path of what was made.' }) })

const PING = z.string().optional().meta({ description: '`1`: signs of life are `ping` events, not comments.' })
const TOKEN_HINT = 'EventSource cannot send headers: give it `?token=`, which POST /sessions/{session}/token makes.'
const cursorOf = (text: z.ZodType) => ({
  query: z.object({
    after: text.optional().meta({ description: 'The cursor to go on after. `Last-Event-ID` wins over it.' }),
    ping: PING,
  }),
  headers: z.object({
    'Last-Event-ID': text.optional().meta({ description: 'The `id:` of the last event that was seen.' }),
  }),
})

const TURN_STREAM: Reply = {
  description: 'The events of the turn, live to its end. `id:` is the cursor.',
  frames: TURN_FRAMES,
  headers: Taken,
}

const posted = (id: string, summary: string, body: z.ZodType, errors: Operation['errors']): Operation => ({
  id,
  summary,
  description:
    'Answers 202 at once; with `wait` 200 and the turn when it has ended (or as it is after WAIT_LIMIT_MS, or when the replica leaves); with `stream` 200 and the event stream of the turn. A stream that broke may be asked for again by the same POST with its Idempotency-Key and Last-Event-ID.',
  headers: Once.extend(cursorOf(CursorText).headers.shape),
  body,
  replies: {
    200: {
      ...TURN_STREAM,
      ...json(`\`wait\`: the turn. \`stream\`: ${TURN_STREAM.description}`, InteractionReply, Taken),
    },
    202: json(
      'The message is stored; it will be answered whatever restarts.',
      SubmittedReply,
      Taken.extend(Located.shape),
    ),
    204: { description: '`stream`, with a cursor: the turn has ended and all of it was seen.' },
  },
  errors: ['invalid_cursor', 'idempotency_key_reused', ...errors],
})

/** The native surface in the words of OpenAPI. A test holds it to the router. */
export const nativeDescription: Described = {
  path: '/api/v1',
  tag: { name: 'native', description: 'Sessions, messages, turns and their event streams.' },
  params: { session: SessionIdText, interaction: InteractionIdText, permission: z.string().min(1).max(128) },
  errorBody: errorReply,
  operations: {
    '/messages': {
      post: posted('startConversation', 'A new session and its first message', FirstMessage, ['model_not_found']),
    },

    '/sessions': {
      post: {
        id: 'createSession',
        summary: 'A new session',
        headers: Once,
        body: NewSession,
        replies: { 201: json('The session.', SessionReply, Replayed.extend(Located.shape)) },
        errors: ['model_not_found', 'idempotency_key_reused'],
      },
      get: {
        id: 'listSessions',
        summary: 'Your sessions, newest first',
        description:
          'A filter looks at 1,000 sessions per call at most, so a page may hold fewer than `limit`, even none, and still have a `next`: go on until it is null.',
        query: SessionsPage,
        replies: { 200: json('A page of sessions.', SessionsReply) },
        errors: [],
      },
    },

    '/sessions/:session': {
      get: {
        id: 'getSession',
        summary: 'A session',
        replies: { 200: json('The session.', SessionReply) },
        errors: ['not_found'],
      },
      delete: {
        id: 'deleteSession',
        summary: 'Forget a session',
        description: 'What runs or waits is cancelled; open streams end.',
        replies: { 204: { description: 'It is forgotten.' } },
        errors: ['not_found'],
      },
    },

    '/sessions/:session/messages': {
      post: posted('sendMessage', 'The next message of a session', Message, ['not_found', 'queue_full']),
    },

    '/sessions/:session/interactions': {
      get: {
        id: 'getTranscript',
        summary: 'The turns of a session',
        description:
          'In the order in which they were posted. A page ends early when its answers are larger than some 8 MB.',
        query: TranscriptPage,
        replies: { 200: json('A page of turns.', TranscriptReply) },
        errors: ['not_found'],
      },
    },

    '/sessions/:session/queue': {
      get: {
        id: 'getQueue',
        summary: 'The turn that runs and the messages that wait',
        replies: { 200: json('What runs and what waits, in order.', QueueReply) },
        errors: ['not_found'],
      },
    },

    '/sessions/:session/export': {
      get: {
        id: 'exportTranscript',
        summary: 'The whole transcript as a file',
        description:
          'Of any size: it is written turn by turn. A connection that breaks before the end means that it is not whole.',
        query: Export,
        replies: {
          200: {
            description: 'The file. `ndjson`: a line with the session, then a line for each turn.',
            content: {
              'application/json': ExportReply,
              'application/x-ndjson': z.string(),
              'text/markdown': z.string(),
            },
            headers: z.object({ 'Content-Disposition': z.string() }),
          },
        },
        errors: ['not_found'],
      },
    },

    '/sessions/:session/events': {
      get: {
        id: 'followSession',
        summary: 'Follow a session: its turns, one after the other',
        description: `One stream for whatever runs in the session, in the order in which turns begin. Without a cursor it begins with the turn that runs now, or the next one; \`after=0\` begins with the oldest turn that is kept, and \`after=<interaction>/<tip>\` after what a transcript has shown. ${TOKEN_HINT}`,
        ...cursorOf(SessionCursorText),
        replies: {
          200: {
            description: 'The events of the session’s turns. `id:` is `<interaction>/<cursor>`.',
            frames: SESSION_FRAMES,
          },
        },
        errors: ['invalid_cursor', 'not_found'],
        token: true,
      },
    },

    '/sessions/:session/token': {
      post: {
        id: 'createStreamToken',
        summary: 'A token that reads the streams of this session',
        description: 'For EventSource, as `?token=`. It reads streams, nothing else, until it expires; then they end.',
        body: NewToken,
        bodyOptional: true,
        replies: { 201: json('The token.', TokenReply) },
        errors: ['not_found', 'tokens_disabled'],
      },
    },

    '/sessions/:session/cancel': {
      post: {
        id: 'cancelSession',
        summary: 'Cancel whatever runs',
        description: 'The next message that waits begins.',
        replies: { 200: json('The turn that was cancelled, or null.', CancelledReply) },
        errors: ['not_found', 'body_too_large', 'unsupported_media_type'],
      },
    },

    '/interactions/:interaction': {
      get: {
        id: 'getInteraction',
        summary: 'A turn as it is',
        replies: { 200: json('The turn.', InteractionReply, About) },
        errors: ['not_found'],
      },
    },

    '/interactions/:interaction/events': {
      get: {
        id: 'followInteraction',
        summary: 'Follow a turn: its events from a cursor on',
        description: `Live or finished, at any replica, without a gap or a repeat. ${TOKEN_HINT}`,
        ...cursorOf(CursorText),
        replies: {
          200: { ...TURN_STREAM, headers: About },
          204: { description: 'The turn has ended and all of it was seen: do not come again.' },
        },
        errors: ['invalid_cursor', 'not_found'],
        token: true,
      },
    },

    '/interactions/:interaction/permissions/:permission': {
      post: {
        id: 'answerPermission',
        summary: 'Answer what the agent asks',
        description: 'Idempotent; the first answer counts.',
        body: Answer,
        replies: { 200: json('The turn.', InteractionReply, About) },
        errors: ['not_found', 'permission_settled'],
      },
    },

    '/interactions/:interaction/cancel': {
      post: {
        id: 'cancelInteraction',
        summary: 'Cancel a turn, running or waiting',
        description: 'Idempotent: an ended turn stays as it is.',
        replies: { 200: json('The turn.', InteractionReply, About) },
        errors: ['not_found', 'body_too_large', 'unsupported_media_type'],
      },
    },
  },
}
