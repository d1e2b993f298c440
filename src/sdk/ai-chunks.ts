import type { LogEvent, StopReason } from '../protocol/events.js'
import { emptyTurn, fold, type Entry, type Turn } from '../protocol/fold.js'
import type { InteractionId } from '../protocol/ids.js'
import { isTerminal } from '../protocol/interaction.js'
import type { Update } from './client-follow.js'

/** One chunk of the AI SDK's UI message stream, as far as we speak it. */
export type Chunk =
  | { type: 'start'; messageId: string }
  | { type: 'start-step' | 'finish-step' }
  | { type: 'finish'; finishReason: 'stop' | 'length' | 'content-filter' | 'other' }
  | { type: 'abort'; reason: string }
  | { type: 'error'; errorText: string }
  | { type: 'text-start' | 'text-end' | 'reasoning-start' | 'reasoning-end'; id: string }
  | { type: 'text-delta' | 'reasoning-delta'; id: string; delta: string }
  | ({ type: 'tool-input-available'; toolName: string; title: string; input: object } & ToolChunk)
  | ({ type: 'tool-output-available'; output: string } & ToolChunk)
  | ({ type: 'tool-output-error'; errorText: string } & ToolChunk)
  | { type: 'data-throughline-plan'; id: string; data: { text: string } }
  | { type: 'data-throughline-reset'; data: { reason: 'replaced' | 'restarted' } }

/** The agent runs its tools itself, and of names that nobody declared. */
interface ToolChunk {
  toolCallId: string
  dynamic: true
  providerExecuted: true
}

const FINISH = {
  end_turn: 'stop',
  max_tokens: 'length',
  max_turn_requests: 'other',
  refusal: 'content-filter',
  unconfirmed: 'other',
} as const satisfies Record<StopReason, string>

/**
 * A turn as chunks of a UI message, which nothing can be taken back from. Where the log does so all the same (a text is
 * replaced, the agent was lost and its answer begins anew) a part `data-throughline-reset` says that all parts before it
 * are void, and the answer follows once more from its start. `lastingParts` leaves out what is void.
 */
export class ChunkProjection {
  readonly #interaction: InteractionId
  #turn = emptyTurn()
  /** The text or reasoning part that is open: at most one, for a UI shows parts in order. */
  #open: { kind: 'text' | 'reasoning'; id: string; entry: string } | undefined
  #parts = 0
  #told = new Set<string>()
  /** How often what was told became void. */
  #voided = 0
  #begun = false

  constructor(interaction: InteractionId) {
    this.#interaction = interaction
  }

  next(update: Update): Chunk[] {
    const before = this.#turn
    this.#turn = update.type === 'snapshot' ? update.turn : fold(before, update.event)
    const chunks: Chunk[] = []
    if (!this.#begun) {
      this.#begun = true
      chunks.push({ type: 'start', messageId: this.#interaction }, { type: 'start-step' })
    }
    const void_ = takenBack(before, this.#turn, update)
    if (void_) chunks.push(...this.#anew(void_))
    else if (update.type === 'event') chunks.push(...this.#grown(update.event, before))
    else chunks.push(...this.#extended(before))
    if (isTerminal(this.#turn.status)) chunks.push(...this.#end())
    return chunks
  }

  /** All of the answer again, after the mark that voids what was told. */
  #anew(reason: 'replaced' | 'restarted'): Chunk[] {
    const chunks: Chunk[] = this.#close()
    if (this.#told.size > 0) {
      this.#voided++
      this.#told.clear()
      chunks.push({ type: 'data-throughline-reset', data: { reason } })
    }
    for (const entry of this.#turn.entries) chunks.push(...this.#tell(entry, undefined))
    return chunks
  }

  #grown(event: LogEvent, before: Turn): Chunk[] {
    if (!('entry' in event)) return []
    const find = (turn: Turn) => turn.entries.findLast(({ id }) => id === event.entry)
    return this.#tell(find(this.#turn)!, find(before))
  }

  #extended(before: Turn): Chunk[] {
    return this.#turn.entries.flatMap((entry, i) => this.#tell(entry, before.entries[i]))
  }

  /** What an entry has on top of what it was. */
  #tell(entry: Entry, was: Entry | undefined): Chunk[] {
    const delta = entry.text.slice(was?.text.length ?? 0)
    switch (entry.kind) {
      case 'text':
      case 'reasoning':
        return delta === '' ? [] : this.#say(entry.kind, entry.id, delta)
      case 'tool_call':
        return this.#tool(entry, was)
      case 'plan':
        if (delta === '' && was?.text === entry.text) return []
        this.#told.add(entry.id)
        return [{ type: 'data-throughline-plan', id: this.#idOf(entry.id), data: { text: entry.text } }]
    }
  }

  #say(kind: 'text' | 'reasoning', entry: string, delta: string): Chunk[] {
    const chunks: Chunk[] = []
    if (this.#open?.entry !== entry) {
      chunks.push(...this.#close())
      this.#open = { kind, entry, id: `${this.#idOf(entry)}.${++this.#parts}` }
      chunks.push({ type: `${kind}-start`, id: this.#open.id })
      this.#told.add(entry)
    }
    chunks.push({ type: `${kind}-delta`, id: this.#open!.id, delta })
    return chunks
  }

  #tool(entry: Entry, was: Entry | undefined): Chunk[] {
    const head = { toolCallId: this.#idOf(entry.id), dynamic: true, providerExecuted: true } as const
    const chunks: Chunk[] = this.#close()
    const name = entry.name ?? 'tool'
    if (!was || was.name !== entry.name)
      chunks.push({ type: 'tool-input-available', ...head, toolName: name, title: name, input: {} })
    this.#told.add(entry.id)
    const { status, text } = entry
    if (status === was?.status && (status === 'in_progress' || text === was?.text)) return chunks
    if (status === 'completed') chunks.push({ type: 'tool-output-available', ...head, output: text })
    if (status === 'failed' || status === 'cancelled')
      chunks.push({ type: 'tool-output-error', ...head, errorText: text || `The tool call has ${status}.` })
    return chunks
  }

  #end(): Chunk[] {
    const { status, stopReason = 'end_turn', error } = this.#turn
    const chunks: Chunk[] = this.#close()
    for (const entry of this.#turn.entries.filter(isOpen))
      // the turn is over, and so is the tool
      chunks.push(...this.#tool({ ...entry, status: status === 'completed' ? 'completed' : 'cancelled' }, entry))
    chunks.push({ type: 'finish-step' })
    if (status === 'completed') chunks.push({ type: 'finish', finishReason: FINISH[stopReason] })
    if (status === 'cancelled') chunks.push({ type: 'abort', reason: 'cancelled' })
    if (status === 'failed') chunks.push({ type: 'error', errorText: error?.message ?? 'The turn has failed.' })
    return chunks
  }

  #close(): Chunk[] {
    const open = this.#open
    this.#open = undefined
    return open ? [{ type: `${open.kind}-end`, id: open.id }] : []
  }

  #idOf(entry: string): string {
    // unique in the chat, for every turn may have a `tool-1`; and a void part is not written on
    return `${this.#interaction}.${entry}${this.#voided > 0 ? `.${this.#voided}` : ''}`
  }
}

const isOpen = ({ kind, status }: Entry): boolean =>
  kind === 'tool_call' && !['completed', 'failed', 'cancelled'].includes(status ?? '')

/** Why what was told of a turn no longer holds, if it does not. */
function takenBack(before: Turn, turn: Turn, update: Update): 'replaced' | 'restarted' | undefined {
  if (update.type === 'snapshot') return extendsIt(before, turn) ? undefined : 'replaced'
  const { event } = update
  if (event.type === 'reset') return 'restarted'
  if (event.type !== 'entry.replace') return undefined
  const was = before.entries.findLast(({ id }) => id === event.entry)
  if (!was || was.kind === 'plan' || event.offset >= was.text.length) return undefined
  if (was.kind === 'tool_call') return undefined // its output is told as a whole
  return turn.entries.findLast(({ id }) => id === event.entry)!.text.startsWith(was.text) ? undefined : 'replaced'
}

const extendsIt = (before: Turn, turn: Turn): boolean =>
  before.entries.every(({ id, kind, text }, i) => {
    const now = turn.entries[i]
    const shown = kind === 'text' || kind === 'reasoning'
    return now?.id === id && now.kind === kind && (!shown || now.text.startsWith(text))
  })
