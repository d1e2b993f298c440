import type { EventSourceMessage } from 'eventsource-parser'
import type { LogEvent } from '../protocol/events.js'
import { emptyTurn, fold, type Turn } from '../protocol/fold.js'
import type { InteractionId } from '../protocol/ids.js'
import { formatCursor, parseCursor, place, START, type Cursor } from '../protocol/sequence.js'
import {
  addresses,
  Connection,
  GatewayError,
  Passing,
  Patience,
  type Base,
  type ClientOptions,
} from './client-connection.js'

/** What a follower gets: the next event of the log or, where that cannot be continued, the state in its place. */
export type Update =
  { type: 'event'; event: LogEvent; cursor: string } | { type: 'snapshot'; turn: Turn; cursor: string }

export interface FollowOptions extends ClientOptions {
  /** Go on after this cursor. Default: from the start. */
  after?: string | undefined
  /**
   * A token that opens the streams of the session and nothing else, for a browser that has no key. A function is asked
   * anew for every attempt, since tokens run out.
   */
  token?: string | (() => string | Promise<string>) | undefined
}

/**
 * Every event of a turn after the cursor, once and in order, up to the turn's end. To go on later, keep the `cursor` of
 * the last update and give it as `after`. Throws `GatewayError` when refused, or when nobody answers for `giveUpMs`.
 */
export async function* follow(
  base: Base,
  interaction: InteractionId,
  options: FollowOptions = {},
): AsyncGenerator<Update, void, undefined> {
  const address = addresses(base)
  let cursor = options.after === undefined ? START : parseCursor(options.after)
  if (!cursor) throw new GatewayError(400, 'invalid_cursor', `"${options.after}" is not a cursor.`)
  const patience = new Patience(options)
  let refused = false
  for (;;) {
    const connection = new Connection(options)
    let pause: number | undefined // what the gateway asks for before we come again
    let cause: unknown
    try {
      const token = typeof options.token === 'function' ? await options.token() : options.token
      const query = new URLSearchParams({ after: formatCursor(cursor), ...(token !== undefined && { token }) })
      const path = `/interactions/${interaction}/events?${query.toString()}`
      const response = await connection.open(address, path, { headers: { accept: 'text/event-stream' } })
      if (response.status === 204) return // we have all of it
      refused = false
      patience.heard()
      for await (const message of connection.messages(response, (ms) => (pause = ms))) {
        if (message.event === 'done') return
        const update = read(message, cursor)
        if (update === 'hole') break // nothing is lost: the log has it
        if (update === 'seen') continue
        cursor = parseCursor(update.cursor)!
        patience.progressed()
        yield update
      }
    } catch (thrown) {
      const isStale = thrown instanceof GatewayError && thrown.status === 401 && typeof options.token === 'function'
      if (isStale && !refused) {
        refused = true // it may have run out on its way: a new one is worth one more try
        continue
      }
      if (!(thrown instanceof Passing)) throw thrown
      pause = thrown.afterMs
      cause = thrown.cause
    } finally {
      connection.close()
    }
    await patience.wait(pause, cause)
  }
}

/** The turn after every update, from its start: what `follow` and `fold` make of it. The last one is final. */
export async function* watch(
  base: Base,
  interaction: InteractionId,
  options: Omit<FollowOptions, 'after'> = {},
): AsyncGenerator<Turn, void, undefined> {
  let turn = emptyTurn()
  for await (const update of follow(base, interaction, options)) {
    turn = update.type === 'snapshot' ? update.turn : fold(turn, update.event)
    yield turn
  }
}

/** What a frame is to a reader who has everything up to `seen`. */
function read({ id, event, data }: EventSourceMessage, seen: Cursor): Update | 'seen' | 'hole' {
  const at = parseCursor(id ?? '')
  if (id === undefined || !at) return 'seen' // not of the log: `ping`, `problem`, or what a later gateway may add
  const { interaction: _, ...content } = JSON.parse(data) as { interaction: string }
  if (event === 'snapshot') return { type: 'snapshot', turn: (content as { turn: Turn }).turn, cursor: id }
  const where = place(seen.n, at.n)
  return where === 'next' ? { type: 'event', event: content as LogEvent, cursor: id } : where
}
