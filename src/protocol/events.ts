import { z } from 'zod'

/** Largest event, as UTF-8 JSON in bytes. Text above it is split by `split`, anything else is refused. */
export const MAX_EVENT_BYTES = 256 * 1024

/** What an entry of an answer is. An entry keeps the kind it was first given; without one it is `text`. */
export const EntryKind = z.enum(['text', 'reasoning', 'tool_call', 'plan'])
export type EntryKind = z.infer<typeof EntryKind>

/** Where a tool call or plan step stands. `pending` and `in_progress` are open: they keep the silence deadline away. */
export const EntryStatus = z.enum(['pending', 'in_progress', 'completed', 'failed', 'cancelled'])
export type EntryStatus = z.infer<typeof EntryStatus>

/** How full an agent's conversation is, and what it has cost so far: ACP's `usage_update`. */
export const ContextUsage = z.object({
  /** Tokens that the model sees now, and how many it can see. */
  contextTokens: z.int().nonnegative().optional(),
  contextSize: z.int().nonnegative().optional(),
  /** Of the whole conversation. `currency`: ISO 4217, such as USD. */
  cost: z.object({ amount: z.number().nonnegative(), currency: z.string().min(1).max(16) }).optional(),
})
export type ContextUsage = z.infer<typeof ContextUsage>

/** Tokens of a turn as the agent counts them. */
export const Usage = z.object({
  inputTokens: z.int().nonnegative(),
  outputTokens: z.int().nonnegative(),
  reasoningTokens: z.int().nonnegative().optional(),
  cachedTokens: z.int().nonnegative().optional(),
  ...ContextUsage.shape,
})
export type Usage = z.infer<typeof Usage>

/**
 * Why an agent stopped; `max_tokens`, `max_turn_requests` and `refusal` are ACP's words. `unconfirmed`: it is done, but as the
 * protocol of the agent has no acknowledgements, and a connection broke, words of the answer may be missing or another turn's.
 */
export const StopReason = z.enum(['end_turn', 'max_tokens', 'max_turn_requests', 'refusal', 'unconfirmed'])
export type StopReason = z.infer<typeof StopReason>

/** What choosing an option of a permission means; ACP's words. */
export const PermissionKind = z.enum(['allow_once', 'allow_always', 'reject_once', 'reject_always'])
export type PermissionKind = z.infer<typeof PermissionKind>

const entry = z.string().min(1).max(128)
const name = z.string().max(512)
const permission = z.string().min(1).max(128)
const option = z.string().min(1).max(128)

/** One way to answer a permission. */
export const PermissionOption = z.object({ id: option, name, kind: PermissionKind })
export type PermissionOption = z.infer<typeof PermissionOption>

/** Who settled a permission: a `client`, the `timeout`, the agent's own `policy`, or nobody: the agent withdrew it. */
export const SettledBy = z.enum(['client', 'timeout', 'policy', 'cancel'])
export type SettledBy = z.infer<typeof SettledBy>

/** Longest time for which a permission may be asked, ms. */
export const MAX_PERMISSION_MS = 24 * 3600_000

/** What an agent may write to the log of its current turn. Offsets and lengths of text are UTF-16 units. */
export const AgentEvent = z.discriminatedUnion('type', [
  /** Adds text to the end of an entry; the first mention of an id creates the entry. */
  z.object({ type: z.literal('entry.append'), entry, kind: EntryKind.optional(), text: z.string() }),
  /** Cuts the entry's text at `offset` and puts `text` there. */
  z.object({
    type: z.literal('entry.replace'),
    entry,
    kind: EntryKind.optional(),
    offset: z.int().nonnegative(),
    text: z.string(),
  }),
  /** Sets the name or status of an entry (a tool call's title, a plan's state). */
  z.object({
    type: z.literal('entry.set'),
    entry,
    kind: EntryKind.optional(),
    name: name.optional(),
    status: EntryStatus.optional(),
  }),
  /** The agent's own id for this conversation. Sent back with every later turn of the session. */
  z.object({ type: z.literal('thread'), thread: z.string().min(1).max(512) }),
  z.object({ type: z.literal('title'), title: name }),
  z.object({ type: z.literal('usage'), usage: Usage }),
  /**
   * Asks the client before it does something; `entry` is the tool call that it is about. Open until it is settled;
   * `timeoutMs` is how long the agent will wait. An open permission keeps the silence deadline away.
   */
  z.object({
    type: z.literal('permission'),
    permission,
    title: name,
    entry: entry.optional(),
    options: z.array(PermissionOption).min(1).max(16),
    timeoutMs: z.int().positive().max(MAX_PERMISSION_MS).optional(),
  }),
  /** What the agent goes by: the chosen option, or null for none, which is a no. */
  z.object({ type: z.literal('permission.settled'), permission, option: option.nullable(), by: SettledBy }),
  z.object({ type: z.literal('completed'), reason: StopReason.default('end_turn') }),
  /** `thread_gone` clears the session's thread and, before any output, has the turn delivered once more without it. */
  z.object({
    type: z.literal('failed'),
    code: z.string().min(1).max(64),
    message: z.string().max(8192),
  }),
])
export type AgentEvent = z.infer<typeof AgentEvent>

/** What the gateway itself writes to a log. */
export type GatewayEvent =
  /** `origin: 'agent'`: a person wrote to the agent directly. */
  | { type: 'submitted'; queued: number; origin?: 'agent' }
  /** A queued turn got the session's place. A turn that never queued has it from `submitted` on. */
  | { type: 'started' }
  /** No agent has a free place: the turn waits, as the `position`-th of its line (1: next). Said again when that changes. */
  | { type: 'pending'; position: number }
  /** It goes back to the head of the queue: its agent began another turn by itself, before it answered this one. */
  | { type: 'yielded' }
  | { type: 'dispatched'; request: string; attempt: number; agent: string }
  | { type: 'reset'; reason: string; attempt: number }
  /** A client's answer is stored, and on its way to the agent. */
  | { type: 'permission.answered'; permission: string; option: string }
  | { type: 'cancelled'; reason: string }

export type TurnEvent = AgentEvent | GatewayEvent

/** One line of a log: event number `n` (1, 2, 3 …, no holes), `at` in ms of Redis time, and what happened. */
export type LogEvent = TurnEvent & { n: number; at: number }

export type EndEvent = Extract<TurnEvent, { type: 'completed' | 'failed' | 'cancelled' }>

export const isEnd = (event: { type: string }): boolean =>
  event.type === 'completed' || event.type === 'failed' || event.type === 'cancelled'

/** Whether an event is output, that is whether a turn that loses its agent after it can not simply start anew. */
export const isOutput = (event: { type: string }): boolean =>
  event.type.startsWith('entry.') || event.type === 'permission'

export const encode = (event: TurnEvent): string => JSON.stringify(event)
export const decode = (n: number, at: number, json: string): LogEvent => ({
  ...(JSON.parse(json) as TurnEvent),
  n,
  at,
})

/**
 * Cuts a text event into events of at most `maxUnits` UTF-16 units each, never inside a surrogate pair
 * (so at least two). Events without text come back as they are.
 */
export function split(event: AgentEvent, maxUnits = 32 * 1024): AgentEvent[] {
  if ((event.type !== 'entry.append' && event.type !== 'entry.replace') || event.text.length <= maxUnits) return [event]
  const pieces: AgentEvent[] = []
  const atMost = Math.max(maxUnits, 2)
  for (let from = 0; from < event.text.length;) {
    let to = Math.min(from + atMost, event.text.length)
    const last = event.text.charCodeAt(to - 1)
    if (to < event.text.length && last >= 0xd800 && last <= 0xdbff) to-- // a high surrogate stays with its low one
    const text = event.text.slice(from, to)
    if (from === 0) pieces.push({ ...event, text })
    else pieces.push({ type: 'entry.append', entry: event.entry, kind: event.kind, text })
    from = to
  }
  return pieces
}
