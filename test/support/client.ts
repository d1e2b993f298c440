import { setMaxListeners } from 'node:events'
import type { LogEvent } from '../../src/protocol/events.js'
import { emptyTurn, fold, type Turn } from '../../src/protocol/fold.js'
import type { InteractionId, SessionId } from '../../src/protocol/ids.js'
import { follow, type ClientOptions } from '../../src/sdk/client.js'

/** Plain requests to the native surface, for tests. */
export async function api<T = Record<string, unknown>>(
  url: string,
  path: string,
  body?: unknown,
  init: RequestInit = {},
): Promise<{ status: number; body: T; headers: Headers }> {
  const res = await fetch(`${url}/api/v1${path}`, {
    ...(body !== undefined && { method: 'POST', body: JSON.stringify(body) }),
    ...init,
    headers: { 'content-type': 'application/json', ...(init.headers as Record<string, string> | undefined) },
  })
  const text = await res.text()
  return { status: res.status, headers: res.headers, body: (text ? JSON.parse(text) : undefined) as T }
}

export interface Posted {
  session: SessionId
  interaction: InteractionId
  queued: number
}

/** Posts a message to a session, or to a new one of a pool; gives its ids. */
export async function post(
  url: string,
  to: { session: SessionId } | { pool: string },
  text: string,
  more: Record<string, unknown> = {},
  headers: Record<string, string> = {},
): Promise<Posted> {
  const path = 'session' in to ? `/sessions/${to.session}/messages` : '/messages'
  const { status, body } = await api<Posted>(url, path, { ...('pool' in to && to), text, ...more }, { headers })
  if (status !== 202) throw new Error(`POST ${path}: ${status} ${JSON.stringify(body)}`)
  return body
}

/** What a follower has seen, from its first event to the end. */
export interface Seen {
  events: LogEvent[]
  turn: Turn
  snapshots: number
  done: Promise<void>
}

/** Who follows goes on trying; what a test leaves behind ends with its file. */
const over = new AbortController()
setMaxListeners(0, over.signal)
afterAll(() => over.abort())

/** Follows with the client SDK: reconnects by itself to whatever `urls` says. */
export function watch(urls: string | string[], interaction: InteractionId, options: ClientOptions = {}): Seen {
  const all = [urls].flat()
  let asked = 0
  const seen: Seen = { events: [], turn: emptyTurn(), snapshots: 0, done: Promise.resolve() }
  seen.done = (async () => {
    for await (const item of follow(() => all[asked++ % all.length]!, interaction, {
      signal: over.signal,
      ...options,
    })) {
      if (item.type === 'snapshot') {
        seen.turn = item.turn
        seen.snapshots++
      } else {
        seen.events.push(item.event)
        seen.turn = fold(seen.turn, item.event)
      }
    }
  })()
  seen.done.catch(() => {}) // looked at by the test, if it wants to
  return seen
}
