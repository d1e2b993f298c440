/**
 * Ids carry their session, so that the Redis slot of anything is computed and never looked up:
 * `ses_<s>` · `int_<s>_<i>` · `req_<s>_<i>_<attempt>`, with `<s>` a lower-case ULID and `<i>` ten random characters.
 */
export type SessionId = `ses_${string}`
export type InteractionId = `int_${string}`
export type RequestId = `req_${string}`

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz' // Crockford base 32, as in ULID
const SESSION = /^ses_[0-9a-hjkmnp-tv-z]{26}$/
const INTERACTION = /^int_[0-9a-hjkmnp-tv-z]{26}_[0-9a-hjkmnp-tv-z]{10}$/
const REQUEST = /^req_[0-9a-hjkmnp-tv-z]{26}_[0-9a-hjkmnp-tv-z]{10}_[1-9][0-9]{0,5}$/

/** What each kind of id looks like, for those who describe it. */
export const ID_PATTERNS = { session: SESSION, interaction: INTERACTION, request: REQUEST }

function spell(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += ALPHABET[byte & 31]
  return text
}

function timeText(ms: number): string {
  let text = ''
  for (let left = ms, i = 0; i < 10; i++, left = Math.floor(left / 32)) text = ALPHABET[left % 32] + text
  return text
}

/** A session id of this time and 16 random bytes. */
export const sessionId = (nowMs: number, random16: Uint8Array): SessionId =>
  `ses_${timeText(nowMs)}${spell(random16.subarray(0, 16))}`
/** An interaction id of this session and 10 random bytes. */
export const interactionId = (session: SessionId, random10: Uint8Array): InteractionId =>
  `int_${session.slice(4)}_${spell(random10.subarray(0, 10))}`
/** A short-lived name for a connection, a replica or an agent: `<prefix>_` and a character per random byte. */
export const nameOf = (prefix: string, random: Uint8Array): string => `${prefix}_${spell(random)}`

/** The request id of the given delivery attempt (1, 2, …) of an interaction. */
export const requestOf = (interaction: InteractionId, attempt: number): RequestId =>
  `req_${interaction.slice(4)}_${attempt}`

export const sessionOf = (id: InteractionId | RequestId): SessionId => `ses_${id.slice(4, 30)}`
export const interactionOf = (request: RequestId): InteractionId => `int_${request.slice(4, 41)}`
export const attemptOf = (request: RequestId): number => Number(request.slice(42))

export const isSessionId = (text: string): text is SessionId => SESSION.test(text)
export const isInteractionId = (text: string): text is InteractionId => INTERACTION.test(text)
export const isRequestId = (text: string): text is RequestId => REQUEST.test(text)
