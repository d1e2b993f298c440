import { z } from 'zod'
import type { Interaction, Session, Submitted } from '../../core/core.js'
import {
  AgentEvent,
  EntryKind,
  EntryStatus,
  PermissionOption,
  SettledBy,
  StopReason,
  Usage,
  type GatewayEvent,
} from '../../protocol/events.js'
import type { Entry, Permission, Turn } from '../../protocol/fold.js'
import { STATUSES } from '../../protocol/interaction.js'
import { CURSOR_PATTERN } from '../../protocol/sequence.js'
import { InteractionIdText, SessionIdText } from './schemas.js'

// What goes out, described. `satisfies` holds each schema to the type that core gives: a field more or another does not
// compile. Readers must ignore fields that they do not know: later versions add some.

const ms = z.int().nonnegative().meta({ description: 'ms since 1970, on the clock of Redis.' })
const count = z.int().nonnegative()
const pairs = z.record(z.string(), z.string())

const StatusText = z.enum(STATUSES).meta({
  id: 'Status',
  description: '`completed`, `failed` and `cancelled` are final.',
})
const TokenUsage = Usage.meta({ id: 'Usage', description: 'Tokens, as the agent counts them.' })
const Failure = z.object({ code: z.string(), message: z.string() }).meta({
  id: 'TurnError',
  description: 'Why the turn failed: a code of docs/errors.md, or one of the agent’s own.',
})

const EntryReply = z
  .object({
    id: z.string(),
    kind: EntryKind,
    text: z.string().meta({ description: 'Its whole content so far.' }),
    name: z.string().optional(),
    status: EntryStatus.optional(),
  })
  .meta({ id: 'Entry', description: 'One piece of an answer.' }) satisfies z.ZodType<Entry>

const PermissionReply = z
  .object({
    id: z.string(),
    title: z.string(),
    entry: z.string().optional().meta({ description: 'The tool call that it is about.' }),
    options: z.array(PermissionOption),
    askedAt: ms,
    timeoutMs: z.int().optional(),
    status: z.enum(['open', 'answered', 'settled']),
    option: z.string().nullable().optional().meta({ description: 'The option that was chosen; null: none, a no.' }),
    by: SettledBy.optional(),
  })
  .meta({
    id: 'Permission',
    description: 'What the agent asks the client before it does it.',
  }) satisfies z.ZodType<Permission>

export const SessionReply = z
  .object({
    id: SessionIdText,
    pool: z.string(),
    title: z.string(),
    thread: z.string().nullable().meta({ description: 'The agent’s own id for the conversation.' }),
    metadata: pairs,
    createdAt: ms,
    updatedAt: ms,
    turns: count.meta({ description: 'Turns begun so far, the running one included.' }),
    current: InteractionIdText.nullable().meta({ description: 'The turn in flight.' }),
    queued: count.meta({ description: 'Messages that wait for their turn.' }),
    agent: z
      .object({ id: z.string(), connected: z.boolean() })
      .nullable()
      .meta({ description: 'Who holds the lease.' }),
  })
  .meta({ id: 'Session' }) satisfies z.ZodType<Session>

export const InteractionReply = z
  .object({
    id: InteractionIdText,
    session: SessionIdText,
    pool: z.string(),
    status: StatusText,
    origin: z.enum(['client', 'agent']).meta({ description: '`agent`: a person wrote to the agent directly.' }),
    input: z.string(),
    metadata: pairs,
    attempt: count.meta({ description: 'Deliveries to agents so far.' }),
    createdAt: ms,
    startedAt: ms.nullable(),
    firstOutputAt: ms.nullable(),
    endedAt: ms.nullable(),
    output: z.array(EntryReply).meta({ description: 'The answer so far; final once the status is.' }),
    text: z.string().meta({ description: '`output` as plain text.' }),
    permissions: z.array(PermissionReply),
    usage: TokenUsage.nullable(),
    stopReason: StopReason.nullable().meta({
      description: '`unconfirmed`: words of the answer may be missing, or not its own.',
    }),
    error: Failure.nullable(),
    tip: count.meta({ description: 'Number of the last event in the log; a cursor to follow on from.' }),
  })
  .meta({ id: 'Interaction' }) satisfies z.ZodType<Interaction>

export const SubmittedReply = z
  .object({
    session: SessionIdText,
    interaction: InteractionIdText,
    queued: count.meta({ description: '0: it is this message’s turn now; n: it is the n-th that waits.' }),
    links: z
      .object({ interaction: z.string(), events: z.string(), cancel: z.string() })
      .meta({ description: 'Paths to go on by.' }),
  })
  .meta({ id: 'Submitted' }) satisfies z.ZodType<Pick<Submitted, 'session' | 'interaction' | 'queued'>>

export const SessionsReply = z
  .object({
    sessions: z.array(SessionReply),
    next: z.string().nullable().meta({ description: 'Give it as `before` for the next page; null at the end.' }),
  })
  .meta({ id: 'SessionsPage' })

export const TranscriptReply = z
  .object({
    interactions: z.array(InteractionReply),
    next: InteractionIdText.nullable().meta({ description: 'Give it as `after` for the next page; null at the end.' }),
  })
  .meta({ id: 'TranscriptPage' })

export const QueueReply = z
  .object({ current: InteractionReply.nullable(), waiting: z.array(InteractionReply) })
  .meta({ id: 'Queue' })

export const CancelledReply = z
  .object({
    interaction: InteractionReply.nullable().meta({ description: 'null: nothing was running.' }),
    status: z.enum(['cancelled', 'noop']).meta({ description: '`noop`: nothing ran, or it had ended by itself.' }),
  })
  .meta({ id: 'CancelledSession' })

export const TokenReply = z
  .object({ token: z.string(), expiresAt: z.int().meta({ description: 'ms since 1970.' }) })
  .meta({ id: 'StreamToken' })

export const ExportReply = z
  .object({ session: SessionReply, interactions: z.array(InteractionReply) })
  .meta({ id: 'Transcript' })

/** One line of the `ndjson` export: the session first, then turn after turn. */
export const ExportLine = z
  .union([z.object({ session: SessionReply }), z.object({ interaction: InteractionReply })])
  .meta({ id: 'TranscriptLine' })

const TurnReply = z
  .object({
    n: count.meta({ description: 'Number of the last event that it holds.' }),
    status: StatusText,
    attempt: count,
    entries: z.array(EntryReply),
    permissions: z.array(PermissionReply).optional(),
    thread: z.string().optional(),
    title: z.string().optional(),
    usage: TokenUsage.optional(),
    stopReason: StopReason.optional(),
    error: Failure.optional(),
    position: count.optional().meta({ description: 'Its place in the line of its pool, from 1.' }),
  })
  .meta({ id: 'Turn', description: 'All that a reader of the log knows after event `n`.' }) satisfies z.ZodType<Turn>

type Shape<Event extends { type: string }> = {
  [T in Event['type']]: z.ZodObject & z.ZodType<Extract<Event, { type: T }>>
}

/** What the gateway itself writes to a log. */
const GATEWAY_EVENTS = {
  submitted: z.object({ type: z.literal('submitted'), queued: count, origin: z.literal('agent').optional() }),
  started: z.object({ type: z.literal('started') }),
  pending: z.object({ type: z.literal('pending'), position: count }),
  yielded: z.object({ type: z.literal('yielded') }),
  dispatched: z.object({ type: z.literal('dispatched'), request: z.string(), attempt: count, agent: z.string() }),
  reset: z.object({ type: z.literal('reset'), reason: z.string(), attempt: count }),
  'permission.answered': z.object({
    type: z.literal('permission.answered'),
    permission: z.string(),
    option: z.string(),
  }),
  cancelled: z.object({ type: z.literal('cancelled'), reason: z.string() }),
} satisfies Shape<GatewayEvent>

const MEANING: Record<string, string> = {
  submitted: 'The message is stored. `queued` 0: it is its turn.',
  started: 'A queued turn got the session’s place.',
  pending: 'No agent has a free place: its place in the line of its pool, from 1.',
  yielded: 'The turn goes back to the head of the queue: its agent began another one by itself.',
  dispatched: 'An agent was given the turn.',
  reset: 'The answer begins anew: what was shown is void.',
  'entry.append': 'Adds text to an entry; the first mention creates it.',
  'entry.replace': 'Cuts the entry’s text at `offset` (UTF-16 units) and puts `text` there.',
  'entry.set': 'Sets the name or status of an entry.',
  thread: 'The agent’s own id for the conversation.',
  title: 'A title for the session.',
  usage: 'Tokens; the last word counts.',
  permission: 'The agent asks before it does something: POST …/permissions/{permission} answers.',
  'permission.answered': 'A client’s answer is stored, and on its way to the agent.',
  'permission.settled': 'What the agent goes by.',
  completed: 'The end.',
  failed: 'The end, with an error.',
  cancelled: 'The end, by a cancel.',
}

const logged = (event: z.ZodObject) => {
  const type = [...(event.shape['type'] as z.ZodLiteral<string>).values][0]!
  const id = `${type.replaceAll(/(?:^|\.)(.)/g, (_, letter: string) => letter.toUpperCase())}Event`
  const schema = event
    .extend({
      interaction: InteractionIdText,
      n: z.int().positive().meta({ description: 'Its number in the log: 1, 2, 3 … without holes.' }),
      at: ms,
    })
    .meta({ id, ...(MEANING[type] && { description: MEANING[type] }) })
  return [type, schema] as const
}

/** The events of a log as a stream shows them: SSE `event:` → its `data:`. */
const LOG_FRAMES: Record<string, z.ZodType> = Object.fromEntries(
  [...Object.values(GATEWAY_EVENTS), ...(AgentEvent.options as z.ZodObject[])].map(logged),
)

export const CursorText = z.string().regex(CURSOR_PATTERN)

/** What the error reply holds, whatever the status. */
export const errorReply = (codes: [string, ...string[]]) =>
  z.object({
    error: z.object({
      code: z.enum(codes),
      message: z.string(),
      param: z.string().nullable().meta({ description: 'The field or header that is to blame.' }),
      requestId: z.string().meta({ description: 'Also in the header `x-request-id`, and in the log of the gateway.' }),
      retry: z.boolean().meta({ description: 'Whether sending the same request again may help.' }),
    }),
  })

const PROBLEM = errorReply(['store_unavailable', 'not_durable', 'internal', 'not_found']).meta({
  id: 'ProblemFrame',
  description: 'Something went wrong here; the stream ends. Come again with your cursor.',
})

const PING = z.object({}).meta({ id: 'PingFrame', description: 'A sign of life, asked for by `?ping=1`.' })

/** Every `event:` of a turn's stream, with what its `data:` holds. */
export const TURN_FRAMES: Record<string, z.ZodType> = {
  ...LOG_FRAMES,
  snapshot: z.object({ interaction: InteractionIdText, turn: TurnReply, cursor: z.string() }).meta({
    id: 'SnapshotFrame',
    description:
      'The log cannot be continued from your cursor. This is the state as a whole: put it in place of yours.',
  }),
  done: z
    .object({ interaction: InteractionIdText, status: StatusText })
    .meta({ id: 'DoneFrame', description: 'All was said. Do not come again; who does gets a 204.' }),
  problem: PROBLEM,
  ping: PING,
}

/** Every `event:` of a session's stream. */
export const SESSION_FRAMES: Record<string, z.ZodType> = {
  ...LOG_FRAMES,
  snapshot: TURN_FRAMES['snapshot']!,
  lost: z.object({ session: SessionIdText }).meta({
    id: 'LostFrame',
    description: 'The turn of your cursor is not kept any more. What follows begins with the oldest one that is.',
  }),
  done: z.object({ session: SessionIdText }).meta({ id: 'GoneFrame', description: 'The session was deleted.' }),
  problem: PROBLEM,
  ping: PING,
}
