import { isSessionId, type InteractionId, type SessionId } from '../protocol/ids.js'
import { ChunkProjection, type Chunk } from './ai-chunks.js'
import { messagesOf, type ChatMessage } from './ai-messages.js'
import {
  cancel,
  createSession,
  follow,
  getSession,
  GatewayError,
  send,
  transcript,
  type Base,
  type ClientOptions,
} from './client.js'

/*
 * Serves `useChat` of the Vercel AI SDK (6) from Throughline: the routes that its DefaultChatTransport asks for, as
 * functions from a web `Request` to a `Response`, for any server that speaks these (Next.js, Hono, Bun, Deno).
 */

export { lastingParts, type ChatMessage, type ChatPart } from './ai-messages.js'

export interface ChatOptions extends Omit<ClientOptions, 'signal'> {
  /** Where the gateway is. */
  url: Base
  /** The pool that answers. */
  pool: string
  /**
   * The session of a chat; null where there is none. Default: a chat id that is a session id (`ses_…`, made by
   * `createSession` when the chat was begun) is that session; for any other id a session is made and found again for as
   * long as the gateway remembers Idempotency-Keys (a day).
   */
  session?: (chatId: string) => SessionId | null | Promise<SessionId | null>
}

export interface Chat {
  /** `<api>`: takes the last message of the chat, and streams its turn. */
  POST(request: Request): Promise<Response>
  /** `<api>/<chat id>/stream`: the turn that runs, from its start; 204 when none does. */
  GET(request: Request): Promise<Response>
  /**
   * `<api>/<chat id>/stream`: cancels the turn that runs; 204. A reader that goes away does not do so: it may come back.
   * So a stop button calls `stop()` and this.
   */
  DELETE(request: Request): Promise<Response>
  /** What was said so far, for `useChat({ messages })`. The answer that is being given is left to `resume`. */
  messages(chatId: string): Promise<ChatMessage[]>
}

/** The stream's comment, often enough for any proxy. */
const KEEP_ALIVE_MS = 15_000
const HEADERS = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-store, no-transform',
  'x-accel-buffering': 'no',
  'x-vercel-ai-ui-message-stream': 'v1',
}

/**
 * The routes of a chat. They hold nothing in memory: any instance of your server answers any of them. Who may use which
 * chat is for you to check before you call them.
 */
export function serveChat(options: ChatOptions): Chat {
  const { url, pool } = options

  async function sessionOf(chatId: string, signal?: AbortSignal): Promise<SessionId | null> {
    if (options.session) return options.session(chatId)
    if (isSessionId(chatId)) return chatId
    const key = `ai-chat-${await digest(chatId)}`
    return (await createSession(url, { pool }, { ...options, signal, idempotencyKey: key })).id
  }

  async function runs(request: Request): Promise<InteractionId | null> {
    const session = await sessionOf(chatIn(request), request.signal)
    return session && (await getSession(url, session, { ...options, signal: request.signal })).current
  }

  const stream = (request: Request, interaction: InteractionId): Response =>
    new Response(frames(interaction, request.signal), {
      headers: { ...HEADERS, 'throughline-interaction-id': interaction },
    })

  function frames(interaction: InteractionId, asked: AbortSignal): ReadableStream<Uint8Array> {
    const encoder = new TextEncoder()
    const left = new AbortController()
    const signal = AbortSignal.any([asked, left.signal])
    const projection = new ChunkProjection(interaction)
    const updates = follow(url, interaction, { ...options, signal })
    const frame = (chunk: Chunk) => encoder.encode(`data: ${JSON.stringify(chunk)}\n\n`)
    let alive: ReturnType<typeof setInterval>
    return new ReadableStream<Uint8Array>({
      start(out) {
        const comment = encoder.encode(': ka\n\n')
        alive = setInterval(() => (out.desiredSize ?? 0) > 0 && out.enqueue(comment), KEEP_ALIVE_MS)
      },
      async pull(out) {
        try {
          for (;;) {
            const { value, done } = await updates.next()
            const chunks = value ? projection.next(value) : []
            for (const chunk of chunks) out.enqueue(frame(chunk))
            if (done) {
              clearInterval(alive)
              out.enqueue(encoder.encode('data: [DONE]\n\n'))
              return out.close()
            }
            if (chunks.length > 0) return
          }
        } catch (thrown) {
          clearInterval(alive)
          if (signal.aborted || !(thrown instanceof GatewayError)) return out.error(thrown)
          out.enqueue(frame({ type: 'error', errorText: thrown.message }))
          out.close()
        }
      },
      cancel() {
        clearInterval(alive)
        left.abort()
      },
    })
  }

  return {
    POST: (request) =>
      answer(async () => {
        const { id, text, key } = await messageIn(request)
        const { signal } = request
        const session = await sessionOf(id, signal)
        if (!session) return refusal(404, 'not_found', 'There is no such chat.')
        const sent = await send(
          url,
          { session, text },
          { ...options, signal, idempotencyKey: key && (await digest(key)) },
        )
        return stream(request, sent.interaction)
      }),

    GET: (request) =>
      answer(async () => {
        const interaction = await runs(request).catch((err: unknown) => {
          if (err instanceof GatewayError && err.status === 404) return null // a chat that is yet to begin, or expired
          throw err
        })
        return interaction ? stream(request, interaction) : new Response(null, { status: 204 })
      }),

    DELETE: (request) =>
      answer(async () => {
        const interaction = await runs(request)
        if (interaction) await cancel(url, interaction, { ...options, signal: request.signal })
        return new Response(null, { status: 204 })
      }),

    async messages(chatId) {
      const session = await sessionOf(chatId)
      const messages: ChatMessage[] = []
      if (session) for await (const turn of transcript(url, session, options)) messages.push(...messagesOf(turn))
      return messages
    },
  }
}

interface Posted {
  id?: unknown
  trigger?: unknown
  messages?: { id?: unknown; role?: unknown; parts?: { type?: unknown; text?: unknown }[] }[]
}

/** The chat, the text of its last message, and what makes the same POST the same message: a regeneration is a new one. */
async function messageIn(request: Request): Promise<{ id: string; text: string; key: string | undefined }> {
  const body = (await request.json().catch(() => null)) as Posted | null
  const last = body?.messages?.findLast?.(({ role }) => role === 'user')
  if (typeof body?.id !== 'string' || body.id === '' || !Array.isArray(last?.parts))
    throw new GatewayError(400, 'invalid_request', 'The body is not what useChat sends: id, messages, trigger.')
  const foreign = last.parts.find(({ type }) => type !== 'text')
  if (foreign)
    throw new GatewayError(
      400,
      'invalid_request',
      `A message may hold text only, not a part of type "${String(foreign.type)}".`,
    )
  const text = last.parts.map(({ text }) => String(text)).join('\n\n')
  const again = body.trigger === 'regenerate-message'
  return { id: body.id, text, key: again ? undefined : JSON.stringify([body.id, last.id, text]) }
}

/** `<api>/<chat id>/stream` */
function chatIn(request: Request): string {
  const found = /\/([^/]+)\/stream\/?$/.exec(new URL(request.url).pathname)
  if (!found) throw new GatewayError(404, 'unknown_url', 'The path must end with /<chat id>/stream.')
  return decodeURIComponent(found[1]!)
}

async function answer(work: () => Promise<Response>): Promise<Response> {
  try {
    return await work()
  } catch (thrown) {
    if (!(thrown instanceof GatewayError)) throw thrown
    return refusal(thrown.status || 503, thrown.code, thrown.message)
  }
}

const refusal = (status: number, code: string, message: string): Response =>
  Response.json({ error: { code, message } }, { status })

/** A short and safe name for any text. */
async function digest(text: string): Promise<string> {
  const bytes = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text))
  return Array.from(new Uint8Array(bytes).subarray(0, 16), (byte) => byte.toString(16).padStart(2, '0')).join('')
}
