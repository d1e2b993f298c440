/** The states of an interaction. `completed`, `failed` and `cancelled` are final. */
export const STATUSES = ['queued', 'waiting', 'streaming', 'completed', 'failed', 'cancelled'] as const
export type Status = (typeof STATUSES)[number]

/**
 * What can happen to an interaction: `start` its turn has come · `yield` it steps back for a turn that its agent began by
 * itself · `dispatch` it is handed to an agent ·
 * `output` the agent said something · `reset` its agent is lost in the middle of the answer, which begins anew ·
 * `finish`, `fail`, `cancel` it ends.
 */
export const VERBS = ['start', 'yield', 'dispatch', 'output', 'reset', 'finish', 'fail', 'cancel'] as const
export type Verb = (typeof VERBS)[number]

const no = null // refused
/** Rows: the state before; columns: the verb; cell: the state after, or null where the verb is refused. */
export const TRANSITIONS: Record<Status, Record<Verb, Status | null>> = {
  queued: {
    start: 'waiting',
    yield: no,
    dispatch: no,
    output: no,
    reset: no,
    finish: no,
    fail: no,
    cancel: 'cancelled',
  },
  waiting: {
    start: no,
    yield: 'queued',
    dispatch: 'waiting',
    output: 'streaming',
    reset: no,
    finish: 'completed',
    fail: 'failed',
    cancel: 'cancelled',
  },
  streaming: {
    start: no,
    yield: no,
    dispatch: no,
    output: 'streaming',
    reset: 'waiting',
    finish: 'completed',
    fail: 'failed',
    cancel: 'cancelled',
  },
  completed: { start: no, yield: no, dispatch: no, output: no, reset: no, finish: no, fail: no, cancel: no },
  failed: { start: no, yield: no, dispatch: no, output: no, reset: no, finish: no, fail: no, cancel: no },
  cancelled: { start: no, yield: no, dispatch: no, output: no, reset: no, finish: no, fail: no, cancel: no },
}

export const next = (status: Status, verb: Verb): Status | null => TRANSITIONS[status][verb]

export const isTerminal = (status: Status): boolean =>
  status === 'completed' || status === 'failed' || status === 'cancelled'
