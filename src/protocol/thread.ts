/**
 * Code of a `failed` event by which an agent says that what answers behind it is lost, and the turn with it: the turn
 * goes on as if the agent itself had been lost, and is never shown as failed with this code.
 */
export const AGENT_LOST = 'agent_lost'

/** Wordings, as real agents send them, that mean the thread does not exist any more (not: could not be reached now). */
const GONE = [
  /entity released/,
  /no rollout found for thread id/,
  /no thread found with ID: SessionId\("/,
  /Resource not found: (\S+): \{"uri":"\1"\}/,
]

/**
 * Whether a `failed` event says that the agent's thread is lost for good: code `thread_gone`, or code
 * `thread_load_error` with one of the known wordings. Any other load error keeps the thread.
 */
export const threadIsGone = (code: string, message: string): boolean =>
  code === 'thread_gone' || (code === 'thread_load_error' && GONE.some((wording) => wording.test(message)))
