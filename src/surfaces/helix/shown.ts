import type { Interaction } from '../../core/core.js'
import type { Entry } from '../../protocol/fold.js'
import type { Status } from '../../protocol/interaction.js'

/** Helix' words for where a turn stands. */
const STATE: Record<Status, 'waiting' | 'complete' | 'error' | 'interrupted'> = {
  queued: 'waiting',
  waiting: 'waiting',
  streaming: 'waiting',
  completed: 'complete',
  failed: 'error',
  cancelled: 'interrupted',
}

/** What a list shows of one turn: its last entries, each cut to its end. */
const LISTED = { entries: 50, units: 100_000 }

/** A turn in the shape of Helix' interactions. */
export function shown(turn: Interaction, listed = false): object {
  const entries = turn.output.filter(said).map((entry) => entryOf(entry, listed))
  return {
    id: turn.id,
    session_id: turn.session,
    generation_id: 0,
    created: time(turn.createdAt),
    updated: time(turn.endedAt ?? turn.firstOutputAt ?? turn.startedAt ?? turn.createdAt),
    completed: turn.endedAt === null ? null : time(turn.endedAt),
    prompt_message: turn.input,
    response_message: listed && entries.length > 0 ? '' : turn.text,
    response_entries: listed ? entries.slice(-LISTED.entries) : entries,
    state: STATE[turn.status],
    error: turn.error?.message ?? '',
    duration_ms: turn.endedAt === null ? 0 : turn.endedAt - turn.createdAt,
    last_zed_message_id: turn.output.at(-1)?.id ?? '',
    prompt_id: turn.id,
  }
}

const said = (entry: Entry): boolean => entry.text !== '' && (entry.kind === 'text' || entry.kind === 'tool_call')

function entryOf({ id, kind, text, name, status }: Entry, listed: boolean): object {
  return {
    type: kind,
    content: listed ? text.slice(-LISTED.units) : text,
    message_id: id,
    ...(name !== undefined && { tool_name: name }),
    ...(status !== undefined && { tool_status: STATUS[status] }),
  }
}

const STATUS = {
  pending: 'Pending',
  in_progress: 'In Progress',
  completed: 'Completed',
  failed: 'Failed',
  cancelled: 'Canceled',
}

const time = (ms: number): string => new Date(ms).toISOString()
