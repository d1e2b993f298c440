import { ThroughlineError } from '../protocol/errors.js'
import type { InteractionId, SessionId } from '../protocol/ids.js'
import { isTerminal } from '../protocol/interaction.js'
import { START, type Cursor } from '../protocol/sequence.js'
import type { Run } from '../store/sessions.js'
import type { Followed, SessionCursor, SessionFollowed } from './core.js'
import { persist, type Follow } from './follow.js'
import type { Parts } from './parts.js'

/** A follower of an idle session looks by itself after this time, ms: it may have expired, which nobody says. */
const LOOK_EVERY_MS = 15_000

/**
 * Every event of a session's turns, one turn after the other in the order in which they begin; one that steps back in
 * between is shown in two parts. Without a cursor it begins with the turn that runs now, or the next one. Level-triggered:
 * between two turns it waits to be told to look, and then asks for what comes after the last event it has shown. Ends
 * when the session is deleted, or `signal` aborts.
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
  let shown =
    id !== null && after !== undefined && (await persist(parts, signal, () => steppedBack(parts, id!, cursor)))
  yield { type: 'at', at: { interaction: id, cursor } }
  while (!signal.aborted) {
    if (id !== null && !shown) {
      const turn: InteractionId = id
      try {
        for await (const followed of follow(turn, cursor, signal)) {
          const part = untilYielded(followed)
          cursor = endOf(part)
          yield { ...part, interaction: turn }
          if (part !== followed) break
        }
      } catch (err) {
        if (!(err instanceof ThroughlineError && err.code === 'not_found')) throw err // else: the list below knows
      }
      if (signal.aborted) return
    }
    const last = id === null ? null : { interaction: id, n: cursor.n }
    const next = await nextRun(parts, session, last, looking, signal)
    if (next === 'gone' || next === undefined) return
    shown = false
    if (next === 'lost') {
      id = null
      yield { type: 'lost' }
    } else {
      id = next.interaction
      cursor = await persist(parts, signal, () => cursorAt(parts, next))
    }
  }
}

/** Where a stream begins that names no cursor: at the start of the running turn, or after the last one. */
async function present(parts: Pick<Parts, 'store'>, session: SessionId): Promise<SessionCursor> {
  const run = await parts.store.sessions.lastRun(session)
  if (!run) return { interaction: null, cursor: START }
  const head = await parts.store.turns.head(run.interaction)
  const cursor = head && isTerminal(head.status) ? { n: head.tip, incarnation: head.incarnation } : undefined
  return { interaction: run.interaction, cursor: cursor ?? (await cursorAt(parts, run)) }
}

async function cursorAt({ store }: Pick<Parts, 'store'>, { interaction, n }: Run): Promise<Cursor> {
  if (n === 0) return START
  return { n, incarnation: (await store.turns.head(interaction))?.incarnation ?? '' }
}

/** Whether the turn stepped back with this very event: what follows it in the log comes after other turns. */
async function steppedBack({ store }: Pick<Parts, 'store'>, id: InteractionId, { n }: Cursor): Promise<boolean> {
  return n > 0 && (await store.log.read(id, n - 1, 1))[0]?.type === 'yielded'
}

/** The batch up to the event with which the turn steps back; the batch itself when there is none. */
function untilYielded(followed: Followed): Followed {
  if (followed.type === 'snapshot') return followed
  const at = followed.events.findIndex(({ type }) => type === 'yielded')
  return at < 0 ? followed : { ...followed, events: followed.events.slice(0, at + 1) }
}

const endOf = (followed: Followed): Cursor =>
  followed.type === 'snapshot' ? followed.cursor : { n: followed.events.at(-1)!.n, incarnation: followed.incarnation }

/** What comes after `last`, as soon as there is something; undefined at an abort. */
async function nextRun(
  parts: Pick<Parts, 'store' | 'settings'>,
  session: SessionId,
  last: Run | null,
  looking: Look,
  signal: AbortSignal,
): Promise<Run | 'lost' | 'gone' | undefined> {
  while (!signal.aborted) {
    looking.begin()
    const next = await persist(parts, signal, () => parts.store.sessions.runAfter(session, last))
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
