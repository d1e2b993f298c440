import type { Request } from 'express'
import { z } from 'zod'
import { ThroughlineError } from '../../protocol/errors.js'
import { isInteractionId, isSessionId, type InteractionId, type SessionId } from '../../protocol/ids.js'
import { parseCursor, START, type Cursor } from '../../protocol/sequence.js'
import type { Call } from './call.js'

/** Checks what came in. Throws `invalid_request` with the path of the first field that does not fit. */
export function parse<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const issue = result.error.issues[0]!
  const path = issue.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0]!] : issue.path
  const param = spell(path)
  const missing = issue.code === 'invalid_type' && issue.message.endsWith('received undefined')
  const what = missing ? 'is missing' : issue.message
  throw new ThroughlineError('invalid_request', {
    message: param ? `${param}: ${what}` : missing ? 'The body is missing: send a JSON object.' : what,
    ...(param && { param }),
  })
}

/** `['messages', 0, 'content']` → `messages[0].content` */
const spell = (path: readonly PropertyKey[]): string =>
  path.reduce<string>(
    (text, key) => (typeof key === 'number' ? `${text}[${key}]` : text ? `${text}.${String(key)}` : String(key)),
    '',
  )

/** The session that the path names. What cannot be an id is no different from an unknown one. */
export function sessionIn(call: Call, text: unknown): SessionId {
  if (typeof text !== 'string' || !isSessionId(text)) throw new ThroughlineError('not_found')
  call.session = text
  return text
}

/** The interaction that the path names, as `sessionIn`. */
export function interactionIn(call: Call, text: unknown): InteractionId {
  if (typeof text !== 'string' || !isInteractionId(text)) throw new ThroughlineError('not_found')
  call.interaction = text
  return text
}

/** Where a viewer wants to go on: `Last-Event-ID`, else `?after=`, else the start. Throws `invalid_cursor`. */
export function cursorIn(req: Request): Cursor {
  const text = cursorText(req)
  const cursor = text === '' ? START : parseCursor(text)
  if (!cursor) throw new ThroughlineError('invalid_cursor')
  return cursor
}

/** The cursor as it was given; empty when none was. */
export function cursorText(req: Request): string {
  // The header is the newer one: EventSource repeats its URL, `?after=` and all, at every reconnect.
  const given = req.get('last-event-id') || (req.query['after'] ?? '')
  if (typeof given !== 'string') throw new ThroughlineError('invalid_cursor')
  return given
}

/** Longest text of a message, in UTF-16 units. */
export const MAX_TEXT = 1_000_000

/** Up to 16 pairs of strings that come back with what they were given to. */
export const Metadata = z
  .record(z.string().min(1).max(64), z.string().max(512))
  .refine((pairs) => Object.keys(pairs).length <= 16, 'at most 16 pairs')
