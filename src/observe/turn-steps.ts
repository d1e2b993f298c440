import { isEnd, isOutput, type LogEvent } from '../protocol/events.js'

/** A part of a turn's life, in ms of Redis time: behind another turn · waiting for an agent · in the hands of one. */
export type TurnStep = { from: number; to: number } & (
  | { kind: 'queue' | 'wait'; position: number }
  | {
      kind: 'attempt'
      request: string
      attempt: number
      agent: string
      /** 0 without any. */
      firstOutputAt: number
      /** What ended it: the turn's own end, or `lost`, `yielded`, `reset` where another follows. */
      outcome: string
    }
)

/** A turn may step back any number of times; what comes after this many steps is not told. */
const MOST_STEPS = 200

/** What a log tells of a turn's steps: a fold, like everything that is shown of a turn. The last is open while `to` is 0. */
export function nextSteps(steps: readonly TurnStep[], event: LogEvent): readonly TurnStep[] {
  const last = steps.at(-1)
  const open = last?.to === 0 ? last : undefined
  const waiting = (kind: 'queue' | 'wait', position = 0): TurnStep => ({ kind, from: event.at, to: 0, position })

  function then(outcome: string, next?: TurnStep): readonly TurnStep[] {
    const closed = open && { ...open, to: event.at, ...(open.kind === 'attempt' && { outcome }) }
    const before = closed ? [...steps.slice(0, -1), closed] : steps
    return next && before.length < MOST_STEPS ? [...before, next] : before
  }

  switch (event.type) {
    case 'submitted':
      return then('', event.queued > 0 ? waiting('queue', event.queued) : waiting('wait'))
    case 'started':
      return then('', waiting('wait'))
    case 'pending':
      if (open?.kind !== 'wait') return then('lost', waiting('wait', event.position))
      return open.position > 0 ? steps : [...steps.slice(0, -1), { ...open, position: event.position }]
    case 'yielded':
      return then('yielded', waiting('queue', 1))
    case 'reset':
      return then('reset', waiting('wait'))
    case 'dispatched': {
      const { request, attempt, agent, at } = event
      return then('lost', { kind: 'attempt', from: at, to: 0, request, attempt, agent, firstOutputAt: 0, outcome: '' })
    }
    default:
      if (isEnd(event)) return then(event.type)
      if (open?.kind !== 'attempt' || open.firstOutputAt > 0 || !isOutput(event)) return steps
      return [...steps.slice(0, -1), { ...open, firstOutputAt: event.at }]
  }
}
