import { policyOf } from '../../src/core/policy.js'
import { readConfig } from '../../src/config.js'
import type { InteractionId } from '../../src/protocol/ids.js'
import { api, post, watch } from '../support/client.js'
import { startNetwork } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'

/** A gateway with two pools of different policies; times that a test does not name are far away. */
const twoPools = (patient: object, hasty: object, env: Record<string, string> = {}) =>
  startNetwork({
    replicas: 2,
    env: {
      POOL_POLICIES: JSON.stringify({ patient, hasty }),
      SWEEP_EVERY_MS: '150',
      AGENT_GRACE_MS: '100',
      LEASE_TTL_MS: '600',
      ...env,
    },
  })

test('what a pool does not set is as the settings say, and so is every pool without a word of its own', () => {
  const { core } = readConfig({
    AGENT_WAIT_MS: '1234',
    MAX_ATTEMPTS: '7',
    POOL_POLICIES: '{"coder": {"maxAttempts": 1, "onAgentLoss": "retry"}}',
  })
  expect(policyOf(core, 'coder')).toMatchObject({ agentWaitMs: 1234, maxAttempts: 1, onAgentLoss: 'retry' })
  expect(policyOf(core, 'writer')).toMatchObject({ agentWaitMs: 1234, maxAttempts: 7, onAgentLoss: 'fail' })
  expect(policyOf(core, '__proto__')).toEqual(policyOf(core, ''))
})

test('one pool waits for an agent while another gives up soon', async () => {
  await using net = await twoPools({ agentWaitMs: 600_000 }, { agentWaitMs: 500 })
  const patient = await post(net.url(0), { pool: 'patient' }, 'anyone?')
  const hasty = await post(net.url(0), { pool: 'hasty' }, 'anyone?')
  const seen = watch(net.url(1), hasty.interaction)
  await seen.done
  expect(seen.turn.error).toMatchObject({ code: 'agent_unavailable', message: expect.stringContaining('500 ms') })
  expect(await statusOf(net.url(1), patient.interaction)).toBe('waiting')
})

test('an agent lost in mid-answer: one pool fails the turn, the other begins it anew', async () => {
  await using net = await twoPools({ onAgentLoss: 'retry' }, { onAgentLoss: 'fail' })
  const ended = await Promise.all(
    ['patient', 'hasty'].map(async (pool) => {
      const first = await net.rawAgent({ pool })
      const { interaction } = await post(net.url(1), { pool }, 'go')
      const turn = await first.turn()
      first.send(turn.request, 1, text('half'))
      await first.acked(turn.request, 1)
      const seen = watch(net.url(1), interaction)
      first.close()
      const second = await net.rawAgent({ pool, replica: 1 })
      if (pool === 'patient') {
        const again = await second.turn()
        second.send(again.request, 1, text('whole'), completed)
      }
      await seen.done
      return seen
    }),
  )
  expect(ended.map(({ turn }) => turn.status)).toEqual(['completed', 'failed'])
  expect(ended[0]!.turn.entries).toMatchObject([{ text: 'whole' }])
  expect(ended[1]!.turn.error?.code).toBe('agent_disconnected')
})

test('also for an agent that serves named sessions of both: it comes back without the turns it had', async () => {
  await using net = await twoPools({ onAgentLoss: 'retry' }, { onAgentLoss: 'fail' }, { AGENT_GRACE_MS: '30000' })
  const posted = await Promise.all(['patient', 'hasty'].map((pool) => post(net.url(0), { pool }, pool)))
  const sessions = posted.map(({ session }) => session)
  const first = await net.rawAgent({ agent: 'own', sessions })
  await first.turn(1)
  for (const { request } of first.turns) first.send(request, 1, text('half'))
  for (const { request } of first.turns) await first.acked(request, 1)
  first.close()
  const second = await net.rawAgent({ agent: 'own', sessions })
  const again = await second.turn()
  expect(again).toMatchObject({ pool: 'patient', attempt: 2 })
  second.send(again.request, 1, completed)
  const ends = await Promise.all(
    posted.map(async ({ interaction }) => {
      const seen = watch(net.url(1), interaction)
      await seen.done
      return seen.turn.status
    }),
  )
  expect(ends).toEqual(['completed', 'failed'])
})

test('a silent agent, a start that is too slow, attempts: each by the word of its own pool', async () => {
  await using net = await twoPools(
    { staleAfterMs: 700, maxAttempts: 5 },
    { agentSilentMs: 500, maxAttempts: 1, onAgentLoss: 'retry' },
  )
  const hasty = await net.rawAgent({ pool: 'hasty', capacity: 2 })
  const silent = await post(net.url(1), { pool: 'hasty' }, 'say something')
  const turn = await hasty.turn()
  hasty.send(turn.request, 1, text('so'))
  const slow = await post(net.url(1), { pool: 'patient' }, 'nobody comes')
  const ends = await Promise.all(
    [silent, slow].map(async ({ interaction }) => {
      const seen = watch(net.url(0), interaction)
      await seen.done
      return seen.turn.error?.code
    }),
  )
  expect(ends).toEqual(['agent_silent', 'stale'])

  const once = await post(net.url(1), { pool: 'hasty' }, 'one attempt')
  await hasty.turn(1)
  hasty.close()
  await net.rawAgent({ pool: 'hasty' })
  const seen = watch(net.url(0), once.interaction)
  await seen.done
  expect(seen.turn.error?.code).toBe('attempts_exhausted')
})

test('how many messages may wait in a session is the word of its pool', async () => {
  await using net = await twoPools({ queueLimit: 2 }, { queueLimit: 0 })
  const status = async (pool: string) => {
    const { session } = await post(net.url(0), { pool }, 'first')
    const answers: number[] = []
    for (let i = 0; i < 3; i++)
      answers.push((await api(net.url(1), `/sessions/${session}/messages`, { text: `more ${i}` })).status)
    return answers
  }
  expect(await status('patient')).toEqual([202, 202, 429])
  expect(await status('hasty')).toEqual([429, 429, 429])
})

test('a tool call in progress excuses silence for as long as its pool allows', async () => {
  const silent = { agentSilentMs: 400 }
  await using net = await twoPools({ ...silent, toolLimitMs: 600_000 }, { ...silent, toolLimitMs: 1 })
  const turns: InteractionId[] = []
  for (const pool of ['patient', 'hasty']) {
    const agent = await net.rawAgent({ pool })
    turns.push((await post(net.url(0), { pool }, 'build it')).interaction)
    const { request } = await agent.turn()
    agent.send(request, 1, { type: 'entry.set', entry: 'x', kind: 'tool_call', name: 'make', status: 'in_progress' })
    await agent.acked(request, 1)
  }
  const seen = watch(net.url(1), turns[1]!)
  await seen.done // the hasty one is judged after the patient one was due too
  expect(seen.turn.error?.code).toBe('agent_silent')
  expect(await statusOf(net.url(1), turns[0]!)).toBe('streaming')
})

const statusOf = async (url: string, id: InteractionId) =>
  (await api<{ status: string }>(url, `/interactions/${id}`)).body.status
