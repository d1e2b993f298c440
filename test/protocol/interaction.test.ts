import { isTerminal, next, STATUSES, TRANSITIONS, VERBS, type Status } from '../../src/protocol/interaction.js'

const reachable = (from: Status): Set<Status> => {
  const seen = new Set<Status>([from])
  for (const status of seen) for (const verb of VERBS) if (next(status, verb)) seen.add(next(status, verb)!)
  return seen
}

test('the table decides every verb in every status', () => {
  expect(Object.keys(TRANSITIONS)).toEqual([...STATUSES])
  for (const status of STATUSES) expect(Object.keys(TRANSITIONS[status])).toEqual([...VERBS])
})

test('a terminal status refuses everything, and only a terminal one does', () => {
  for (const status of STATUSES) {
    const refusesAll = VERBS.every((verb) => next(status, verb) === null)
    expect([status, refusesAll]).toEqual([status, isTerminal(status)])
  }
  expect(STATUSES.filter(isTerminal)).toEqual(['completed', 'failed', 'cancelled'])
})

test('every status can come about, and from every one that is not terminal each end can be reached', () => {
  expect([...reachable('queued')].sort()).toEqual([...STATUSES].sort())
  for (const status of STATUSES.filter((it) => !isTerminal(it)))
    expect([...reachable(status)].filter(isTerminal).sort()).toEqual(['cancelled', 'completed', 'failed'])
})

test('only a turn that nobody has begun to answer steps back into the queue', () => {
  for (const status of STATUSES)
    for (const verb of VERBS) if (next(status, verb) === 'queued') expect([status, verb]).toEqual(['waiting', 'yield'])
})

test('a queued turn can only start or be cancelled: whoever has not got the place says nothing', () => {
  expect(VERBS.filter((verb) => next('queued', verb) !== null)).toEqual(['start', 'cancel'])
})

test('a turn with output is not handed out again without a reset', () => {
  expect(next('streaming', 'dispatch')).toBeNull()
  expect(next('streaming', 'reset')).toBe('waiting')
  expect(next('waiting', 'dispatch')).toBe('waiting')
})

test('each end has one status of its own', () => {
  for (const status of STATUSES) {
    expect([null, 'completed']).toContain(next(status, 'finish'))
    expect([null, 'failed']).toContain(next(status, 'fail'))
    expect([null, 'cancelled']).toContain(next(status, 'cancel'))
  }
})
