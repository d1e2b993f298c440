import type { InteractionId, SessionId } from '../protocol/ids.js'
import type { Interaction, Session } from '../protocol/views.js'
import { GatewayError, request, type Asked, type Base, type ClientOptions } from './client-connection.js'

/*
 * The client half of Throughline, for browsers and Node: send a message once, follow its turn without a gap or a repeat,
 * over any number of broken connections. Every call goes on trying until a replica has answered, or `signal` ends it.
 */
export { GatewayError, type Base, type ClientOptions } from './client-connection.js'
export { follow, watch, type FollowOptions, type Update } from './client-follow.js'
export { emptyTurn, fold, outputText, type Entry, type Turn } from '../protocol/fold.js'
export { isTerminal, type Status } from '../protocol/interaction.js'
export type { EntryKind, EntryStatus, LogEvent, StopReason, Usage } from '../protocol/events.js'
export type { InteractionId, SessionId } from '../protocol/ids.js'
export type { Interaction, Session } from '../protocol/views.js'

/** A message to a session, or to a new session of a pool. `interrupt`: cancel the turn in flight and go before all that wait. */
export type Outgoing = ({ session: SessionId; interrupt?: boolean } | { pool: string }) & {
  text: string
  metadata?: Record<string, string>
}

export interface Sent {
  session: SessionId
  interaction: InteractionId
  /** 0: its turn has come; n: it is the n-th that waits. */
  queued: number
}

/** For calls that make something: all attempts of one call carry the same key, so it is made once. */
export interface MakeOptions extends ClientOptions {
  /** Give one of your own to try again after a call has thrown. Default: a random one per call. */
  idempotencyKey?: string | undefined
}

/**
 * Posts a message until a replica has taken it, and yet only once. Throws `GatewayError` when refused, or when nobody
 * answers for `giveUpMs`.
 */
export async function send(base: Base, message: Outgoing, options: MakeOptions = {}): Promise<Sent> {
  const { session, ...body } = { session: undefined, ...message }
  const path = session === undefined ? '/messages' : `/sessions/${session}/messages`
  return (await request(base, path, making(body, options), options)) as Sent
}

/** Makes a session of a pool, without a message. Throws as `send` does. */
export async function createSession(
  base: Base,
  given: { pool: string; title?: string; metadata?: Record<string, string> },
  options: MakeOptions = {},
): Promise<Session> {
  return (await request(base, '/sessions', making(given, options), options)) as Session
}

/** A session as it is now. Throws `GatewayError` with code `not_found` for one that is not yours or has expired. */
export async function getSession(base: Base, session: SessionId, options: ClientOptions = {}): Promise<Session> {
  return (await request(base, `/sessions/${session}`, reading, options)) as Session
}

/** Your sessions, newest first; further pages are fetched as you go. */
export async function* sessions(base: Base, options: ClientOptions = {}): AsyncGenerator<Session, void, undefined> {
  let before: string | null = null
  do {
    const query: string = before === null ? '' : `&before=${before}`
    const page = await request(base, `/sessions?limit=100${query}`, reading, options)
    const { sessions, next } = page as { sessions: Session[]; next: string | null }
    yield* sessions
    before = next
  } while (before !== null)
}

/** Cancels what runs or waits in a session and forgets it. One that is gone already is no error. */
export async function deleteSession(base: Base, session: SessionId, options: ClientOptions = {}): Promise<void> {
  await request(base, `/sessions/${session}`, { method: 'DELETE', headers: {} }, options).catch((err: unknown) => {
    if (!(err instanceof GatewayError) || err.code !== 'not_found') throw err // an attempt whose answer was lost did it
  })
}

/** A turn as it is now, with the answer so far. */
export async function getInteraction(
  base: Base,
  interaction: InteractionId,
  options: ClientOptions = {},
): Promise<Interaction> {
  return (await request(base, `/interactions/${interaction}`, reading, options)) as Interaction
}

/** The turns of a session, oldest first, the waiting ones last; further pages are fetched as you go. */
export async function* transcript(
  base: Base,
  session: SessionId,
  options: ClientOptions & { after?: InteractionId | undefined } = {},
): AsyncGenerator<Interaction, void, undefined> {
  let after: InteractionId | null = options.after ?? null
  do {
    const query: string = after === null ? '' : `&after=${after}`
    const page = await request(base, `/sessions/${session}/interactions?limit=20${query}`, reading, options)
    const { interactions, next } = page as { interactions: Interaction[]; next: InteractionId | null }
    yield* interactions
    after = next
  } while (after !== null)
}

/** Ends a turn, queued or running, as cancelled, and gives it; one that has ended stays as it is. */
export async function cancel(
  base: Base,
  interaction: InteractionId,
  options: ClientOptions = {},
): Promise<Interaction> {
  return (await request(base, `/interactions/${interaction}/cancel`, posting({}), options)) as Interaction
}

const reading: Asked = { headers: {} }

const posting = (body: object): Asked => ({
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
})

function making(body: object, { idempotencyKey = randomKey() }: MakeOptions): Asked {
  const asked = posting(body)
  return { ...asked, headers: { ...asked.headers, 'idempotency-key': idempotencyKey } }
}

const randomKey = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('')
