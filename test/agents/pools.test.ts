import { runPoolTrial } from '../pools/trial.js'

test('1,000 sessions onto 20 workers on 4 replicas: none over capacity, none starved, order kept, all answered once', async () => {
  const result = await runPoolTrial({
    sessions: 1000,
    turns: 1,
    workers: 20,
    replicas: 4,
    processes: true,
    limitMs: 120_000,
  })
  console.log('1,000 sessions', JSON.stringify(result))
  expect(result).toMatchObject({ turns: 1000, endedOnce: 1000, answered: 1000, attempts: 1000, overCapacity: [] })
  expect(result.overtaken).toBeLessThanOrEqual(result.places)
})

test('the same with a second turn each: every session goes back to the worker that has its thread', async () => {
  const result = await runPoolTrial({
    sessions: 300,
    turns: 2,
    workers: 20,
    replicas: 4,
    processes: true,
    env: { STICKY_WAIT_MS: '60000' },
    limitMs: 120_000,
  })
  console.log('with a second turn', JSON.stringify(result))
  expect(result).toMatchObject({ endedOnce: 600, answered: 600, overCapacity: [], stayed: 300, moved: 0 })
})

test('workers join, leave, are killed, lose their network and replicas roll, at random: no turn is lost, each ends once', async () => {
  const acts = { join: 4, leave: 8, kill: 8, cut: 20, drain: 4 }
  const result = await runPoolTrial({
    sessions: 500,
    turns: 2,
    workers: 20,
    replicas: 4,
    processes: true,
    acts,
    env: {
      ON_AGENT_LOSS: 'retry',
      MAX_ATTEMPTS: '100',
      SWEEP_EVERY_MS: '300',
      LEASE_TTL_MS: '3000',
      AGENT_GRACE_MS: '1000',
      ACCEPT_MS: '1000',
      STICKY_WAIT_MS: '2000',
    },
    limitMs: 150_000,
  })
  console.log('with trouble', JSON.stringify(result))
  expect(result).toMatchObject({ turns: 1000, endedOnce: 1000, answered: 1000, overCapacity: [], acts })
})
