import { mostOvertaken, runPoolTrial } from './trial.js'

/** The small trials; `npm run test:agents` has the large ones. */
const TROUBLE = {
  ON_AGENT_LOSS: 'retry',
  MAX_ATTEMPTS: '100',
  SWEEP_EVERY_MS: '200',
  LEASE_TTL_MS: '1500',
  AGENT_GRACE_MS: '500',
  ACCEPT_MS: '500',
  STICKY_WAIT_MS: '500',
}

test('the measure of order counts who came later and was taken earlier', () => {
  const inOrder = [1, 2, 3, 4].map((since) => ({ since, taken: since + 10 }))
  expect(mostOvertaken(inOrder)).toBe(0)
  expect(mostOvertaken([...inOrder, { since: 0, taken: 99 }])).toBe(4)
})

test('many sessions onto few workers: none over capacity, none starved, order kept, all answered once, threads stay', async () => {
  const result = await runPoolTrial({ sessions: 100, turns: 2, workers: 6, replicas: 2, limitMs: 45_000 })
  expect(result).toMatchObject({ turns: 200, endedOnce: 200, answered: 200, attempts: 200, overCapacity: [] })
  expect(result.filled).toBe(6)
  expect(result).toMatchObject({ stayed: 100, moved: 0 })
  // a worker takes its own sessions before their time comes for others, so a wait is not shared evenly; but it ends
  expect(result.longestWaitMs).toBeLessThan(45_000)
})

test('sessions without a thread are taken in the order in which they came, but for those taken at the same time', async () => {
  const result = await runPoolTrial({ sessions: 100, turns: 1, workers: 6, replicas: 2, limitMs: 45_000 })
  expect(result).toMatchObject({ turns: 100, answered: 100, attempts: 100, overCapacity: [] })
  expect(result.overtaken).toBeLessThanOrEqual(result.places)
})

test('workers join, leave, are killed and lose their network at random: no turn is lost, each ends once', async () => {
  const result = await runPoolTrial({
    sessions: 60,
    turns: 2,
    workers: 6,
    replicas: 2,
    acts: { join: 1, leave: 3, kill: 3, cut: 6 },
    env: TROUBLE,
    limitMs: 50_000,
  })
  expect(result).toMatchObject({ turns: 120, endedOnce: 120, answered: 120, overCapacity: [] })
  expect(result.acts).toEqual({ join: 1, leave: 3, kill: 3, cut: 6 })
})
