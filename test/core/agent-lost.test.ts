import { LOOK_SOON_MS } from '../../src/core/parts.js'
import { outputText } from '../../src/protocol/fold.js'
import type { AgentEvent } from '../../src/protocol/events.js'
import { post, watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'

const lost: AgentEvent = { type: 'failed', code: 'agent_lost', message: 'its worker is gone' }

test('an agent that lost the turn before any output gets it again, at once', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder' })
  const seen = watch(net.url(1), (await post(net.url(1), { pool: 'coder' }, 'go')).interaction)
  const first = await agent.turn()
  agent.send(first.request, 1, { type: 'thread', thread: 'T' }, lost)
  const second = await agent.turn(1)
  expect(second).toMatchObject({ interaction: first.interaction, attempt: 2, thread: 'T' })
  await eventually(() => expect(agent.cancels).toMatchObject([{ request: first.request, reason: 'ended' }]))
  agent.send(second.request, 1, text('done'), completed)
  await seen.done
  expect([seen.turn.status, outputText(seen.turn)]).toEqual(['completed', 'done'])
  expect(seen.events.some((event) => event.type === 'failed')).toBe(false)
})

test.each(['fail', 'retry'])('after output, also in the same batch, ON_AGENT_LOSS=%s decides', async (policy) => {
  await using net = await startNetwork({ env: { ON_AGENT_LOSS: policy } })
  const agent = await net.rawAgent({ pool: 'coder' })
  const seen = watch(net.url(0), (await post(net.url(0), { pool: 'coder' }, 'go')).interaction)
  const first = await agent.turn()
  agent.send(first.request, 1, text('half'), lost)
  if (policy === 'retry') {
    const second = await agent.turn(1)
    agent.send(second.request, 1, text('whole'), completed)
  }
  await seen.done
  expect(seen.turn).toMatchObject(
    policy === 'fail'
      ? { status: 'failed', error: { code: 'agent_disconnected' }, entries: [{ text: 'half' }] }
      : { status: 'completed', entries: [{ text: 'whole' }], attempt: 2 },
  )
  expect(seen.events.filter((event) => event.type === 'reset')).toHaveLength(policy === 'retry' ? 1 : 0)
})

test('a replica that hangs: its agent, who has to find out by silence, finds its turn as it left it', async () => {
  const env = { LEASE_TTL_MS: '1000', AGENT_GRACE_MS: '30000', SWEEP_EVERY_MS: '150' }
  await using net = await startNetwork({ replicas: 2, processes: true, env })
  const agent = await net.rawAgent({ pool: 'coder', agent: 'one', replica: 0 })
  const { session, interaction } = await post(net.url(1), { pool: 'coder' }, 'go')
  const seen = watch(net.url(1), interaction)
  const { request } = await agent.turn()
  agent.send(request, 1, text('half '))
  await agent.acked(request, 1)
  net.replicas[0]!.freeze()
  await eventually(async () => (await net.redis.exists(`${net.prefix}{${session}}:lease`)) === 0)
  const lastSweep = async () => Number(await net.redis.hget(`${net.prefix}sweep`, 'last'))
  const expiredAt = await lastSweep()
  await eventually(async () => (await lastSweep()) > expiredAt + LOOK_SOON_MS, { limitMs: 15_000 }) // it was looked at
  const back = await net.rawAgent({
    pool: 'coder',
    agent: 'one',
    replica: 1,
    holding: [{ session, request, acked: 1 }],
  })
  expect(back.welcome).toMatchObject({ resumed: [{ request, after: 1 }] })
  back.send(request, 2, text('and half'), completed)
  await seen.done
  expect([seen.turn.status, outputText(seen.turn)]).toEqual(['completed', 'half and half'])
  net.replicas[0]!.thaw()
})

test('a word that is sent again after the replica is gone loses the turn once', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true, env: { LEASE_TTL_MS: '2000' } })
  const agent = await net.rawAgent({ pool: 'coder', agent: 'one', replica: 0 })
  const { session, interaction } = await post(net.url(1), { pool: 'coder' }, 'go')
  const seen = watch(net.url(1), interaction)
  const first = await agent.turn()
  await net.replicas[0]!.kill9()
  const holding = [{ session, request: first.request, acked: 0 }]
  const back = await net.rawAgent({ pool: 'coder', agent: 'one', replica: 1, holding })
  back.send(first.request, 1, lost)
  back.send(first.request, 1, lost)
  const second = await back.turn()
  expect(second.attempt).toBe(2)
  back.send(second.request, 1, text('done'), completed)
  await seen.done
  expect(seen.turn).toMatchObject({ status: 'completed', attempt: 2 })
})
