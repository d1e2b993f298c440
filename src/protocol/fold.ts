import type { EntryKind, EntryStatus, LogEvent, PermissionOption, SettledBy, StopReason, Usage } from './events.js'
import type { Status } from './interaction.js'

/** One piece of an answer, in order of first appearance. `text` is its whole content so far. */
export interface Entry {
  id: string
  kind: EntryKind
  text: string
  name?: string
  status?: EntryStatus
}

/** A permission that the agent asked for. `askedAt` in ms of Redis time; it waits `timeoutMs` from then on, if it says so. */
export interface Permission {
  id: string
  title: string
  /** The tool call that it is about. */
  entry?: string
  options: PermissionOption[]
  askedAt: number
  timeoutMs?: number
  /** `answered`: a client chose and the agent has not yet said that it knows · `settled`: over, `by` says how. */
  status: 'open' | 'answered' | 'settled'
  /** The option that was chosen; null: none, which is a no. */
  option?: string | null
  by?: SettledBy
}

/** What a reader of a log knows after event `n`. Everything shown anywhere is a function of this. */
export interface Turn {
  n: number
  status: Status
  attempt: number
  entries: Entry[]
  /** What the agent has asked in this attempt; not there before its first question. */
  permissions?: Permission[]
  thread?: string
  title?: string
  usage?: Usage
  stopReason?: StopReason
  error?: { code: string; message: string }
}

export const emptyTurn = (): Turn => ({ n: 0, status: 'queued', attempt: 0, entries: [] })

/** The one reducer: the state after `event`. Pure; entries that an event does not touch are shared. */
export function fold(turn: Turn, event: LogEvent): Turn {
  return { ...apply(turn, event), n: event.n }
}

function apply(turn: Turn, event: LogEvent): Turn {
  switch (event.type) {
    case 'submitted':
      return { ...turn, status: event.queued > 0 ? 'queued' : 'waiting' }
    case 'yielded':
      return { ...turn, status: 'queued' }
    case 'started':
      return { ...turn, status: 'waiting' }
    case 'dispatched':
      return { ...turn, status: 'waiting', attempt: event.attempt }
    case 'reset': {
      const { permissions: _, ...rest } = turn
      return { ...rest, status: 'waiting', entries: [] } // the answer begins anew: what was shown is void
    }
    case 'entry.append':
      return touch(turn, event.entry, event.kind, (e) => ({ ...e, text: e.text + event.text }))
    case 'entry.replace':
      return touch(turn, event.entry, event.kind, (e) => ({ ...e, text: e.text.slice(0, event.offset) + event.text }))
    case 'entry.set':
      return touch(turn, event.entry, event.kind, (e) => ({
        ...e,
        ...(event.name !== undefined && { name: event.name }),
        ...(event.status !== undefined && { status: event.status }),
      }))
    case 'thread':
      return { ...turn, thread: event.thread }
    case 'title':
      return { ...turn, title: event.title }
    case 'usage':
      return { ...turn, usage: event.usage }
    case 'permission': {
      const { type: _, n: __, at, permission: id, ...asked } = event
      const others = (turn.permissions ?? []).filter((it) => it.id !== id)
      return { ...turn, status: 'streaming', permissions: [...others, { id, ...asked, askedAt: at, status: 'open' }] }
    }
    case 'permission.answered':
      return settle(turn, event.permission, { status: 'answered', option: event.option })
    case 'permission.settled':
      return settle(turn, event.permission, { status: 'settled', option: event.option, by: event.by })
    case 'completed':
      return { ...turn, status: 'completed', stopReason: event.reason }
    case 'failed':
      return { ...turn, status: 'failed', error: { code: event.code, message: event.message } }
    case 'cancelled':
      return { ...turn, status: 'cancelled' }
    default:
      event satisfies never // what a later version wrote, in a rolling update, is not ours to fold
      return turn
  }
}

function touch(turn: Turn, id: string, kind: EntryKind | undefined, change: (entry: Entry) => Entry): Turn {
  const at = turn.entries.findLastIndex((e) => e.id === id)
  const entries = turn.entries.slice()
  if (at < 0) entries.push(change({ id, kind: kind ?? 'text', text: '' }))
  else entries[at] = change(entries[at]!)
  return { ...turn, status: 'streaming', entries }
}

function settle(turn: Turn, id: string, how: Partial<Permission>): Turn {
  if (!turn.permissions) return turn
  return { ...turn, permissions: turn.permissions.map((it) => (it.id === id ? { ...it, ...how } : it)) }
}

/** The answer as plain text: the text entries, a blank line between them. */
export const outputText = (turn: Pick<Turn, 'entries'>): string =>
  turn.entries
    .filter((e) => e.kind === 'text' && e.text !== '')
    .map((e) => e.text)
    .join('\n\n')

/** Whether a tool call is still running; its silence is not the agent's silence. */
export const hasOpenTool = (turn: Turn): boolean =>
  turn.entries.some((e) => e.kind === 'tool_call' && (e.status === 'pending' || e.status === 'in_progress'))

/**
 * Until when (ms of Redis time) a silent agent is waiting for a client's answer, 0 when it asks for nothing. A permission
 * that names no time of its own is waited for `limitMs`, and none for longer.
 */
export const asksUntil = (turn: Turn, limitMs: number): number =>
  Math.max(
    0,
    ...(turn.permissions ?? [])
      .filter((it) => it.status === 'open')
      .map((it) => it.askedAt + Math.min(it.timeoutMs ?? limitMs, limitMs)),
  )
