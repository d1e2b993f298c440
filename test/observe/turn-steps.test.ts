import { nextSteps, type TurnStep } from '../../src/observe/turn-steps.js'
import type { LogEvent, TurnEvent } from '../../src/protocol/events.js'

/** The steps of a log whose n-th event (from 1) was at n × 10 ms. */
const stepsOf = (...events: TurnEvent[]) =>
  events.reduce<readonly TurnStep[]>(
    (steps, event, i) => nextSteps(steps, { ...event, n: i + 1, at: (i + 1) * 10 } as LogEvent),
    [],
  )
const dispatched = (attempt: number, agent = 'a'): TurnEvent => ({
  type: 'dispatched',
  request: `req_${attempt}`,
  attempt,
  agent,
})
const text: TurnEvent = { type: 'entry.append', entry: 't', text: 'x' }
const completed: TurnEvent = { type: 'completed', reason: 'end_turn' }
const attempt = (n: number, from: number, to: number, outcome: string, firstOutputAt = 0) => ({
  kind: 'attempt',
  request: `req_${n}`,
  attempt: n,
  agent: 'a',
  ...{ from, to, outcome, firstOutputAt },
})

test('a turn that an agent takes at once', () => {
  expect(
    stepsOf({ type: 'submitted', queued: 0 }, dispatched(1), { type: 'thread', thread: 'T' }, text, text, completed),
  ).toEqual([{ kind: 'wait', from: 10, to: 20, position: 0 }, attempt(1, 20, 60, 'completed', 40)])
})

test('one that waits behind another, then in its pool’s line, and is given to a second agent when the first is lost', () => {
  expect(
    stepsOf(
      { type: 'submitted', queued: 2 },
      { type: 'started' },
      { type: 'pending', position: 3 },
      { type: 'pending', position: 1 },
      dispatched(1),
      { type: 'pending', position: 1 },
      dispatched(2),
      text,
      { type: 'failed', code: 'agent_error', message: '' },
    ),
  ).toEqual([
    { kind: 'queue', from: 10, to: 20, position: 2 },
    { kind: 'wait', from: 20, to: 50, position: 3 },
    attempt(1, 50, 60, 'lost'),
    { kind: 'wait', from: 60, to: 70, position: 1 },
    attempt(2, 70, 90, 'failed', 80),
  ])
})

test('one that is taken up again without a line between, one that begins anew, and one that steps back', () => {
  expect(
    stepsOf({ type: 'submitted', queued: 0 }, dispatched(1), dispatched(2), { type: 'cancelled', reason: '' }),
  ).toEqual([
    { kind: 'wait', from: 10, to: 20, position: 0 },
    attempt(1, 20, 30, 'lost'),
    attempt(2, 30, 40, 'cancelled'),
  ])
  expect(
    stepsOf(
      { type: 'submitted', queued: 0 },
      dispatched(1),
      text,
      { type: 'reset', reason: '', attempt: 2 },
      dispatched(2),
      completed,
    ).slice(1),
  ).toEqual([
    attempt(1, 20, 40, 'reset', 30),
    { kind: 'wait', from: 40, to: 50, position: 0 },
    attempt(2, 50, 60, 'completed'),
  ])
  expect(
    stepsOf({ type: 'submitted', queued: 0 }, dispatched(1), { type: 'yielded' }, { type: 'started' }).slice(1),
  ).toEqual([
    attempt(1, 20, 30, 'yielded'),
    { kind: 'queue', from: 30, to: 40, position: 1 },
    { kind: 'wait', from: 40, to: 0, position: 0 },
  ])
})

test('one that steps back for ever is told up to a limit', () => {
  const round: TurnEvent[] = [dispatched(1), { type: 'yielded' }, { type: 'started' }]
  const steps = stepsOf(
    { type: 'submitted', queued: 0 },
    ...Array.from({ length: 1000 }, () => round).flat(),
    completed,
  )
  expect(steps).toHaveLength(200)
  expect(steps.every(({ to }) => to > 0)).toBe(true)
})
