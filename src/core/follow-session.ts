import { ThroughlineError } from '../protocol/errors.js'
import type { InteractionId, SessionId } from '../protocol/ids.js'
import { isTerminal } from '../protocol/interaction.js'
import { START } from '../protocol/sequence.js'
import type { SessionCursor, SessionFollowed } from './core.js'
import { persist, type Follow } from './follow.js'
import type { Parts } from './parts.js'

/** A follower of an idle session looks by itself after this time, ms: it may have expired, which nobody says. */
const LOOK_EVERY_MS = 15_000

/**
 * Every event of a session's turns, one turn after the other in the order of their starts. Without a cursor it begins
 * with the turn that runs now, or the next one. Level-triggered: between two turns it waits to be told to look, and then
 * asks for the turn after the last one it has shown. Ends when the session is deleted, or `signal` aborts.
 * Begins with `at`, the cursor to come back with when the stream breaks before its first event; `lost` says that turns
 * between the cursor and the next event are not kept any more.
 */
export async function* followSession(
  parts: Pick<Parts, 'store' | 'settings'>,
  session: SessionId,
  after: SessionCursor | undefined,
  signal: AbortSignal,
  follow: Follow,
): AsyncGenerator<SessionFollowed> {
  const { store } = parts
  const looking = new Look(signal)
  using _ = looking
  using __ = await persist(parts, signal, () => store.bus.listen(store.keys.live(session), looking))
  let { interaction: id, cursor } = after ?? (await persist(parts, signal, () => present(parts, session)))
  yield { type: 'at', at: { interaction: id, cursor } }
  while (!signal.aborted) {
    if (id !== null) {
      const last: InteractionId = id
      try {
        for await (const followed of follow(last, cursor, signal)) yield { ...followed, interaction: last }
      } catch (err) {
        if (!(err instanceof ThroughlineError && err.code === 'not_found')) throw err // else: the list below knows
      }
      if (signal.aborted) return
    }
    const next = await nextRun(parts, session, id, looking, signal)
    if (next === 'gone' || next === undefined) return
    if (next === 'lost') {
      id = null
      yield { type: 'lost' }
    } else id = next
    cursor = START
  }
}

/** Where a stream begins that names no cursor: at the start of the running turn, or after the last one. */
async function present({ store }: Pick<Parts, 'store'>, session: SessionId): Promise<SessionCursor> {
  const id = await store.sessions.lastRun(session)
  const head = id && (await store.turns.head(id))
  if (!id || !head) return { interaction: id ?? null, cursor: START }
  return { interaction: id, cursor: isTerminal(head.status) ? { n: head.tip, incarnation: head.incarnation } : START }
}

/** The turn after `id`, as soon as there is one; undefined at an abort. */
async function nextRun(
  parts: Pick<Parts, 'store' | 'settings'>,
  session: SessionId,
  id: InteractionId | null,
  looking: Look,
  signal: AbortSignal,
): Promise<InteractionId | 'lost' | 'gone' | undefined> {
  while (!signal.aborted) {
    looking.begin()
    const next = await persist(parts, signal, () => parts.store.sessions.runAfter(session, id))
    if (next !== 'none') return next
    await looking.told()
  }
  return undefined
}

/** Waits for anything to be said about the session since `begin`. */
class Look implements Disposable {
  readonly #signal: AbortSignal
  #said = false
  #wake: () => void = () => {}

  constructor(signal: AbortSignal) {
    this.#signal = signal
    signal.addEventListener('abort', this.look)
  }

  readonly look = (): void => {
    this.#said = true
    this.#wake()
  }

  message(): void {
    this.look()
  }

  begin(): void {
    this.#said = false
  }

  async told(): Promise<void> {
    if (this.#said || this.#signal.aborted) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, LOOK_EVERY_MS)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    this.#wake = () => {}
  }

  [Symbol.dispose](): void {
    this.#signal.removeEventListener('abort', this.look)
  }
}
