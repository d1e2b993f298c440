/** How one error looks from outside. `retryAfterS` goes out as `Retry-After` (seconds). */
export interface ErrorKind {
  /** HTTP status. */
  status: number
  /** Whether sending the same request again may help. */
  retry: boolean
  /** What it means and what to do, for the one who reads it. */
  sentence: string
  retryAfterS?: number
}

/**
 * Every error that a caller or reader can meet. `docs/errors.md` lists the same table; a test compares them.
 * The `turn` half never answers a request: it is the `code` of a `failed` event in a log.
 */
export const ERRORS = {
  invalid_request: { status: 400, retry: false, sentence: 'The request is malformed; the message names the field.' },
  invalid_cursor: {
    status: 400,
    retry: false,
    sentence: 'The cursor is not one this gateway gave out. Start without Last-Event-ID and ?after=.',
  },
  session_moved_on: {
    status: 400,
    retry: false,
    sentence: 'Only the newest turn of a session can be continued: agents keep one line of conversation.',
  },
  response_not_cancellable: {
    status: 400,
    retry: false,
    sentence: 'The response has ended already. Only one that is queued or in progress can be cancelled.',
  },
  stream_expired: {
    status: 400,
    retry: false,
    sentence: 'The events of this turn are not kept any more (RESUME_WINDOW_MS). Read the result without stream.',
  },
  unsupported_parameter: {
    status: 400,
    retry: false,
    sentence: 'This gateway cannot do what the parameter asks for. Leave it out.',
  },
  unauthorized: {
    status: 401,
    retry: false,
    sentence: 'No valid API key. Send the header "Authorization: Bearer <key>".',
  },
  not_found: { status: 404, retry: false, sentence: 'Nothing with this id is known to you. It may have expired.' },
  response_not_found: {
    status: 404,
    retry: false,
    sentence: 'No response with this id is known to you. It may be deleted, expired, or made with "store": false.',
  },
  conversation_not_found: {
    status: 404,
    retry: false,
    sentence: 'No conversation with this id is known to you. It may be deleted or expired.',
  },
  model_not_found: {
    status: 404,
    retry: false,
    sentence: 'No pool of this name. GET /v1/models lists the pools you may use.',
  },
  unknown_url: { status: 404, retry: false, sentence: 'There is no such route. /docs shows those there are.' },
  method_not_allowed: { status: 405, retry: false, sentence: 'The route exists, but not with this method.' },
  request_timeout: {
    status: 408,
    retry: true,
    sentence: 'The request did not arrive as a whole in time. Send it again.',
  },
  permission_settled: {
    status: 409,
    retry: false,
    sentence: 'The permission was answered before, has timed out, or its turn is over. The first answer counts.',
  },
  body_too_large: { status: 413, retry: false, sentence: 'The body is larger than MAX_BODY_BYTES allows.' },
  unsupported_media_type: {
    status: 415,
    retry: false,
    sentence: 'The body must be JSON: send the header "Content-Type: application/json".',
  },
  idempotency_key_reused: {
    status: 422,
    retry: false,
    sentence: 'This Idempotency-Key was used with another body. Use a new key for a new message.',
  },
  queue_full: {
    status: 429,
    retry: true,
    retryAfterS: 5,
    sentence: 'The session has as many waiting messages as it may hold. Wait for a turn to end, or cancel one.',
  },
  rate_limit_exceeded: {
    status: 429,
    retry: true,
    retryAfterS: 10,
    sentence: 'Too many requests, messages or failed attempts in this window. Wait as long as Retry-After says.',
  },
  too_many_streams: {
    status: 429,
    retry: true,
    retryAfterS: 10,
    sentence: 'You have as many streams open as you may have (MAX_STREAMS_PER_OWNER). Close one, or come again later.',
  },
  headers_too_large: {
    status: 431,
    retry: false,
    sentence: 'The headers, the address included, are larger than 16 KiB.',
  },
  internal: {
    status: 500,
    retry: true,
    sentence: 'A bug in the gateway. The log line with this request id says more.',
  },
  tokens_disabled: {
    status: 501,
    retry: false,
    sentence: 'This gateway makes no tokens: its operator must set TOKEN_SECRET.',
  },
  turn_failed: { status: 502, retry: false, sentence: 'The agent did not finish the turn; the message says why.' },
  store_unavailable: {
    status: 503,
    retry: true,
    retryAfterS: 2,
    sentence: 'Redis cannot be reached at the moment. Send the same request again with the same Idempotency-Key.',
  },
  issuer_unavailable: {
    status: 503,
    retry: true,
    retryAfterS: 5,
    sentence: 'The keys by which tokens are verified cannot be read at the moment. Send the same request again.',
  },
  not_durable: {
    status: 503,
    retry: true,
    retryAfterS: 2,
    sentence:
      'It is written, but not yet as safely as this gateway must have it (DURABILITY): a replica of Redis is away or slow. Send the same request again with the same Idempotency-Key.',
  },
  draining: { status: 503, retry: true, retryAfterS: 1, sentence: 'This replica is leaving. Send the request again.' },
  wait_limit: {
    status: 504,
    retry: false,
    sentence: 'The turn is still running. Follow it: GET /api/v1/interactions/<id>/events.',
  },
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof ERRORS

/** Codes with which the gateway itself ends a turn; an agent's `failed` event brings its own code. */
export const TURN_ERRORS = {
  agent_unavailable: 'No agent of the pool took the turn in time. Check that an agent is connected.',
  agent_disconnected: 'The agent went away in the middle of its answer and did not come back in time.',
  agent_silent: 'The agent took the turn and then said nothing until the deadline.',
  attempts_exhausted: 'The turn was handed to agents as often as allowed, and none answered.',
  stale: 'The turn waited longer than STALE_AFTER_MS without any output.',
  log_full: 'The answer grew past the limit of a log (MAX_LOG_EVENTS, MAX_LOG_BYTES).',
  thread_gone: "The agent's thread could not be loaded any more. The next message starts a new one.",
} as const

export type TurnErrorCode = keyof typeof TURN_ERRORS

/** What a caller must see. Thrown in core and surfaces; one handler per surface renders it. */
export class ThroughlineError extends Error {
  readonly code: ErrorCode
  /** The offending field, such as `messages[0].content`. */
  readonly param: string | undefined
  /** When to come again, s. */
  readonly retryAfterS: number | undefined

  constructor(code: ErrorCode, detail?: { message?: string; param?: string; retryAfterS?: number; cause?: unknown }) {
    super(detail?.message ?? ERRORS[code].sentence, detail?.cause === undefined ? undefined : { cause: detail.cause })
    this.name = 'ThroughlineError'
    this.code = code
    this.param = detail?.param
    this.retryAfterS = detail?.retryAfterS ?? this.kind.retryAfterS
  }

  get kind(): ErrorKind {
    return ERRORS[this.code]
  }
}
