import type { Parts } from '../../core/parts.js'
import { isRequestId, sessionOf, type SessionId } from '../../protocol/ids.js'
import type { Conversation } from './conversation.js'

/** Threads that were announced and in which nobody has written. */
const MOST_DRAFTS = 1000

/** The conversations of a connection. */
export interface Conversations {
  /** The agent's pool; null where it serves just the session that it is named after. */
  readonly pool: string | null
  readonly open: ReadonlyMap<SessionId, Conversation>
  /** A session that the agent has a thread of; undefined when it is none of the agent's. */
  lookUp(session: SessionId): Promise<Conversation | undefined>
}

/** Which conversation a thread of the agent belongs to: as this connection has heard, or as Redis knows from earlier ones. */
export class Threads {
  readonly #store: Parts['store']
  readonly #conversations: Conversations
  readonly #known = new Map<string, Conversation>()
  /** Title of threads that a person opened and has not written in. */
  readonly #drafts = new Map<string, string>()
  /** Conversations whose thread is being loaded: it may come back under another name. */
  readonly #opening = new Set<Conversation>()

  constructor(store: Parts['store'], conversations: Conversations) {
    this.#store = store
    this.#conversations = conversations
  }

  /** The conversation is the one of this thread, as Redis has it. */
  know(thread: string, conversation: Conversation): void {
    this.#known.set(thread, conversation)
  }

  forget(conversation: Conversation): void {
    for (const [thread, of] of this.#known) if (of === conversation) this.#known.delete(thread)
  }

  async bind(conversation: Conversation, thread: string): Promise<void> {
    this.#drafts.delete(thread)
    this.#known.set(thread, conversation)
    await this.#store.threads.bind(conversation.pool, thread, conversation.session)
    conversation.bind(thread)
  }

  /** Has the agent load the conversation's thread. */
  open(conversation: Conversation): void {
    this.#opening.add(conversation)
    conversation.open()
  }

  /** A load may end under another id: the same conversation by another name. */
  async loaded(thread: string): Promise<void> {
    const loading = [...this.#opening]
    for (const conversation of loading) if (conversation.thread === thread) this.#opening.delete(conversation)
    if (thread === '' || loading.length !== 1 || loading[0]!.thread === thread) return
    if (await this.of(thread, '')) return
    this.#opening.clear()
    this.#known.set(thread, loading[0]!)
    await this.#store.threads.bind(loading[0]!.pool, thread, loading[0]!.session)
  }

  /** A person opened a thread. It is a draft until somebody writes in it. */
  announced(thread: string, title: string): void {
    if (this.#known.has(thread) || this.#drafts.size >= MOST_DRAFTS) return
    this.#drafts.set(thread, title)
  }

  /** The title of a draft; '' for none. */
  draft(thread: string): string {
    return this.#drafts.get(thread) ?? ''
  }

  /** A thread was made: for our prompt (the newest one counts), or by a person, who has not written in it yet. */
  async created(thread: string, request: string): Promise<void> {
    const conversation = this.ofRequest(request) ?? this.#onlyWithoutThread(request)
    if (conversation) return this.bind(conversation, thread)
    if (!(await this.of(thread, ''))) this.announced(thread, '')
  }

  async titled(thread: string, title: string): Promise<void> {
    if (this.#drafts.has(thread)) return void this.#drafts.set(thread, title)
    const conversation = await this.of(thread, '')
    if (conversation && !conversation.title(title)) await this.#store.sessions.rename(conversation.session, title)
  }

  ofRequest(request: string): Conversation | undefined {
    const { open } = this.#conversations
    if (isRequestId(request)) return open.get(sessionOf(request))
    return request === '' || open.size !== 1 ? undefined : [...open.values()][0]
  }

  /** Agents of 2025 name no request when they make the thread of our first prompt. */
  #onlyWithoutThread(request: string): Conversation | undefined {
    const candidates = [...this.#conversations.open.values()].filter((it) => it.request !== '' && it.thread === '')
    return request === '' && candidates.length === 1 ? candidates[0] : undefined
  }

  /**
   * The conversation of a thread, if it is one of this agent's: known here, or in Redis from an earlier connection. A
   * thread that nobody knows is that of the request it answers: word of its making was lost.
   */
  async of(thread: string, request: string): Promise<Conversation | undefined> {
    const known = this.#known.get(thread)
    if (known) return known
    if (thread === '') return this.ofRequest(request)
    const { open, pool } = this.#conversations
    const asked = isRequestId(request) ? open.get(sessionOf(request)) : undefined
    for (const of of new Set([...open.values()].map((it) => it.pool).concat(pool ?? []))) {
      const session = await this.#store.threads.session(of, thread)
      const mine = session && (open.get(session) ?? (await this.#conversations.lookUp(session)))
      if (!mine) continue
      this.#known.set(thread, mine)
      if (mine.thread === '') mine.bind(thread) // its connection ended before that was in the log
      return mine
    }
    if (!asked || asked.request !== request) return undefined
    await this.bind(asked, thread)
    return asked
  }
}
