import { once } from 'node:events'
import { outputText } from '../../src/protocol/fold.js'
import { api, post, watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'

test('SIGTERM: the agent is told to move and goes on elsewhere, the viewer resumes elsewhere, exit code 0', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true })
  const agent = await net.rawAgent({ pool: 'coder', replica: 0, agent: 'mover' })
  const { session, interaction } = await post(net.url(0), { pool: 'coder' }, 'go')
  const seen = watch([net.url(0), net.url(1)], interaction)
  const { request } = await agent.turn()
  agent.send(request, 1, text('one '))
  await agent.acked(request, 1)
  await eventually(() => seen.events.length >= 3)
  const left = net.replicas[0]!.drain()
  await eventually(() => agent.moves > 0)
  const again = await net.rawAgent({
    pool: 'coder',
    replica: 1,
    agent: 'mover',
    holding: [{ session, request, acked: 1 }],
  })
  if (!again.welcome.ok) throw new Error(again.welcome.message)
  expect(again.welcome.resumed).toMatchObject([{ request, after: 1 }])
  again.send(request, 2, text('two'), completed)
  agent.close()
  await seen.done
  expect(outputText(seen.turn)).toBe('one two')
  expect(await left).toBe(0)
})

test('a plain OpenAI stream runs on through a drain until it ends', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true })
  const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
  const res = await fetch(`${net.url(0)}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'coder', stream: true, messages: [{ role: 'user', content: 'hi' }] }),
  })
  const { request } = await agent.turn()
  const left = net.replicas[0]!.drain()
  await eventually(async () => !(await fetch(`${net.replicas[0]!.opsUrl}/readyz`)).ok)
  agent.send(request, 1, text('said during the drain'), completed)
  const body = await res.text()
  expect(body).toContain('said during the drain')
  expect(body).toContain('[DONE]')
  expect(await left).toBe(0)
})

test('a plain stream that outlives the grace is cut, not ended: it must not look complete', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true, env: { DRAIN_MS: '700' } })
  const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
  const res = await fetch(`${net.url(0)}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'coder', stream: true, messages: [{ role: 'user', content: 'hi' }] }),
  })
  await agent.turn()
  const left = net.replicas[0]!.drain()
  await expect(res.text()).rejects.toThrow()
  expect(await left).toBe(0)
})

test('an agent that connects again elsewhere has its old connection closed', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const old = await net.rawAgent({ pool: 'coder', replica: 0, agent: 'twice' })
  const closed = once(old.socket as never, 'disconnect')
  await net.rawAgent({ pool: 'coder', replica: 1, agent: 'twice' })
  await closed
  expect(old.notices.map((n) => n.code)).toEqual(['superseded'])
})

test('what a superseded connection still sends is dropped', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true })
  const old = await net.rawAgent({ pool: 'coder', replica: 0, agent: 'twice' })
  const { session, interaction } = await post(net.url(1), { pool: 'coder' }, 'go')
  const { request } = await old.turn()
  old.send(request, 1, text('mine '))
  await old.acked(request, 1)
  net.replicas[0]!.freeze() // its old connection cannot be closed from outside now
  const again = await net.rawAgent({
    pool: 'coder',
    replica: 1,
    agent: 'twice',
    holding: [{ session, request, acked: 1 }],
  })
  old.send(request, 2, text('ghost'))
  again.send(request, 2, text('yours'))
  await again.acked(request, 2)
  net.replicas[0]!.thaw()
  await eventually(() => net.logged('late_event_fenced').length > 0 || !old.socket.connected, { limitMs: 10_000 })
  again.send(request, 3, completed)
  const seen = watch(net.url(1), interaction)
  await seen.done
  expect(outputText(seen.turn)).toBe('mine yours')
  expect((await api<{ status: string }>(net.url(1), `/interactions/${interaction}`)).body.status).toBe('completed')
})
