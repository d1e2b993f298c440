import { openAdmin, type Admin } from '../../src/admin.js'
import { readConfig } from '../../src/config.js'
import { newInteractionId } from '../../src/core/mint.js'
import { api, post, watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startHelixAgent } from '../support/helix-agent.js'
import { startNetwork, type Network } from '../support/network.js'
import { operator } from '../support/operator.js'
import { completed, text } from '../support/raw-agent.js'
import { secret, startReceiver } from '../support/receiver.js'

const FAST = { SWEEP_EVERY_MS: '200', LEASE_TTL_MS: '1500', AGENT_GRACE_MS: '500' }
const adminOf = (net: Network, env: Record<string, string> = {}): Promise<Admin> =>
  openAdmin(
    readConfig({ REDIS_URL: net.redisUrl, KEY_PREFIX: net.prefix, POOLS: 'coder', ...FAST, ...env }),
    'test',
    'ann',
  )

test('sessions and turns of all owners are seen, and where each turn hangs', async () => {
  await using net = await startNetwork({ replicas: 2, env: FAST })
  await using admin = await adminOf(net)
  const waits = await post(net.url(0), { pool: 'coder' }, 'top secret')
  const behind = await post(net.url(1), { session: waits.session }, 'later')
  const listed = await admin.interactions.list({ limit: 10 })
  expect(listed.rows.map((it) => it.id).sort()).toEqual([waits.interaction, behind.interaction].sort())
  const why = async (id: typeof waits.interaction) =>
    ((await admin.interactions.show(id)) as { why: string } | undefined)?.why
  expect(await why(waits.interaction)).toMatch(/1 of 1 in the line of pool coder; no agent of the pool is connected/)
  expect(await why(behind.interaction)).toContain(
    `1 of 1 that wait behind the turn in flight of its session, ${waits.interaction}`,
  )
  expect((await admin.sessions.list({ limit: 10, active: false })).rows).toEqual([])
  expect((await admin.sessions.list({ limit: 10 })).rows).toMatchObject([
    { id: waits.session, status: 'waiting', current: waits.interaction, queued: 1, agent: null },
  ])

  const anna = await net.rawAgent({ pool: 'coder', agent: 'anna', replica: 1 })
  const { request } = await anna.turn()
  expect(await why(waits.interaction)).toMatch(/^Given to agent anna at replica r1 .* attempt 1, and it has not begun/)
  anna.send(request, 1, text('half'))
  await anna.acked(request, 1)
  expect(await why(waits.interaction)).toMatch(
    /^With agent anna at replica r1, attempt 1, last heard .* ago \(entry\.append\)/,
  )
  expect(await admin.agents.list()).toMatchObject([
    { pool: 'coder', id: 'anna', replica: 'r1', busy: 1, draining: false },
  ])
  expect(await admin.agents.show('coder', 'anna')).toMatchObject({
    sessions: [{ session: waits.session, inFlight: waits.interaction }],
  })
  expect(await admin.replicas.show('r1')).toMatchObject({ id: 'r1', connected: [{ id: 'anna' }] })
  const shown = await admin.sessions.show(waits.session)
  expect(shown).toMatchObject({ lease: { agent: 'anna', connected: true }, queue: [behind.interaction] })
  expect(JSON.stringify([shown, await admin.interactions.show(waits.interaction)])).not.toContain('top secret')

  anna.send(request, 2, completed)
  await watch(net.url(0), waits.interaction).done
  await eventually(async () => {
    const { rows } = await admin.interactions.list({ status: 'completed', limit: 10 })
    expect(rows.map((it) => it.id)).toEqual([waits.interaction])
  })
  expect((await admin.interactions.list({ status: 'completed', pool: 'other', limit: 10 })).rows).toEqual([])
})

test('of a turn whose replica was killed it is said for how long its agent may come back', async () => {
  const env = { AGENT_GRACE_MS: '60000' }
  await using net = await startNetwork({ replicas: 2, processes: true, env: { ...FAST, ...env } })
  await using admin = await adminOf(net, env)
  const { interaction } = await post(net.url(1), { pool: 'coder' }, 'hello')
  const anna = await net.rawAgent({ pool: 'coder', agent: 'anna', replica: 0 })
  const { request } = await anna.turn()
  anna.send(request, 1, text('half'))
  await anna.acked(request, 1)
  await net.replicas[0]!.kill9()
  await eventually(
    async () => {
      const { why } = (await admin.interactions.show(interaction)) as { why: string }
      expect(why).toMatch(/^The lease of agent anna ran out: .* The agent has [0-9]+ s more to come back to another/)
    },
    { limitMs: 40_000 }, // a sweep that died with the replica holds up the next one for up to 15 s
  )
})

test('a turn past its deadline is stuck, when nobody sweeps', async () => {
  await using net = await startNetwork({ env: FAST })
  await using admin = await adminOf(net, { AGENT_WAIT_MS: '1' }) // as this operator judges it
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'hello')
  await eventually(async () => {
    const { rows } = await admin.interactions.list({ stuck: true, limit: 10 })
    expect(rows).toMatchObject([{ id: interaction, stuck: true, status: 'waiting' }])
  })
  await net.replicas[0]!.drain()
  await eventually(
    async () => {
      const shown = (await admin.interactions.show(interaction)) as { why: string }
      expect(shown.why).toMatch(/No sweep has looked at it for .*throughline doctor/)
    },
    { limitMs: 8000 },
  )
})

test('pages of a list neither repeat nor miss anything', async () => {
  await using net = await startNetwork({ env: FAST })
  await using admin = await adminOf(net)
  const posted = await Promise.all(Array.from({ length: 25 }, (_, i) => post(net.url(0), { pool: 'coder' }, `m${i}`)))
  for (const kind of ['sessions', 'interactions'] as const) {
    const seen: string[] = []
    for (let before: string | null | undefined; before !== null;) {
      const page = await admin[kind].list({ limit: 4, ...(before !== undefined && { before }) })
      seen.push(...page.rows.map((it) => it.id))
      before = page.next
    }
    expect([...seen].sort()).toEqual(posted.map((it) => (kind === 'sessions' ? it.session : it.interaction)).sort())
  }
})

test('a turn is cancelled from outside: viewers see it end, the agent is told, the next one starts, its webhook is posted', async () => {
  await using receiver = await startReceiver()
  await using net = await startNetwork({
    replicas: 2,
    env: { ...FAST, WEBHOOK_SECRET: secret('a'), WEBHOOK_ALLOW_HOSTS: '127.0.0.1' },
  })
  await using admin = await adminOf(net)
  const anna = await net.rawAgent({ pool: 'coder', agent: 'anna' })
  const first = await post(net.url(1), { pool: 'coder' }, 'go', { webhook: { url: receiver.url } })
  await post(net.url(1), { session: first.session }, 'next')
  const { request } = await anna.turn()
  const seen = watch(net.url(1), first.interaction)
  expect(await admin.interactions.cancel(first.interaction, 'it runs wild')).toMatchObject({
    ...{ act: 'interaction.cancelled', target: first.interaction, by: 'ann', outcome: 'done', detail: 'it runs wild' },
  })
  await seen.done
  expect(seen.events.at(-1)).toMatchObject({ type: 'cancelled', reason: 'it runs wild' })
  await eventually(() => anna.cancels.some((it) => it.request === request))
  anna.socket.emit('settled', { request })
  expect((await anna.turn(1)).input).toBe('next')
  await eventually(() => receiver.got.length === 1)
  expect((await admin.interactions.cancel(first.interaction, 'again')).outcome).toBe('already_ended')
  expect((await admin.interactions.cancel(newInteractionId(first.session), 'x')).outcome).toBe('not_found')
})

test('a session is deleted with what runs and waits in it; to its owner it is gone', async () => {
  await using net = await startNetwork({ env: FAST })
  await using admin = await adminOf(net)
  const anna = await net.rawAgent({ pool: 'coder', agent: 'anna' })
  const { session, interaction } = await post(net.url(0), { pool: 'coder' }, 'go')
  await anna.turn()
  const seen = watch(net.url(0), interaction)
  expect((await admin.sessions.delete(session)).outcome).toBe('done')
  await seen.done
  expect(seen.turn.status).toBe('cancelled')
  expect((await api(net.url(0), `/sessions/${session}`)).status).toBe(404)
  expect((await admin.sessions.list({ limit: 10 })).rows).toEqual([])
  expect((await admin.sessions.delete(session)).outcome).toBe('not_found')
  await eventually(async () => expect((await admin.parts.store.overview.inFlight()).turns).toEqual([]))
})

test('when the turn of an agent that is drained is cancelled, the next one of its session goes to another', async () => {
  await using net = await startNetwork({ replicas: 2 })
  await using admin = await adminOf(net)
  const anna = await net.rawAgent({ pool: 'coder', agent: 'anna' })
  const first = await post(net.url(0), { pool: 'coder' }, 'first')
  const { request } = await anna.turn()
  const second = await post(net.url(0), { session: first.session }, 'second')
  expect((await admin.agents.drain('coder', 'anna')).outcome).toBe('done')
  await api(net.url(1), `/interactions/${first.interaction}/cancel`, {})
  await eventually(() => anna.cancels.length > 0)
  anna.socket.emit('settled', { request })
  await eventually(() => anna.moves > 0)
  expect(anna.turns).toHaveLength(1)
  const bea = await net.rawAgent({ pool: 'coder', agent: 'bea', replica: 1 })
  expect(await bea.turn()).toMatchObject({ interaction: second.interaction, attempt: 1 })
})

test('an agent that is drained ends its turn, takes nothing new, and moves; the rest goes to another', async () => {
  await using net = await startNetwork({ replicas: 2 })
  await using admin = await adminOf(net)
  const anna = await net.rawAgent({ pool: 'coder', agent: 'anna', capacity: 2 })
  const first = await post(net.url(0), { pool: 'coder' }, 'first')
  const { request } = await anna.turn()
  const second = await post(net.url(0), { session: first.session }, 'second')
  expect((await admin.agents.drain('coder', 'anna')).outcome).toBe('done')
  expect(await admin.agents.list('coder')).toMatchObject([{ id: 'anna', draining: true, capacity: 0, busy: 1 }])
  const third = await post(net.url(1), { pool: 'coder' }, 'third')
  let moves = 0
  anna.socket.on('move', () => moves++)
  anna.send(request, 1, text('done'), completed)
  await watch(net.url(0), first.interaction).done
  await eventually(() => moves > 0)
  expect(anna.turns).toHaveLength(1)
  const bea = await net.rawAgent({ pool: 'coder', agent: 'bea', capacity: 2, replica: 1 })
  await bea.turn(1)
  expect(bea.turns.map((it) => it.interaction).sort()).toEqual([second.interaction, third.interaction].sort())

  // when it has moved it is as new
  anna.close()
  const again = await net.rawAgent({ pool: 'coder', agent: 'anna', replica: 1 })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'fourth')
  expect((await again.turn()).interaction).toBe(interaction)
})

test('an agent that is disconnected loses its connection and nothing else', async () => {
  await using net = await startNetwork({ env: { ...FAST, AGENT_GRACE_MS: '8000' } })
  await using admin = await adminOf(net)
  const anna = await net.rawAgent({ pool: 'coder', agent: 'anna' })
  const { interaction, session } = await post(net.url(0), { pool: 'coder' }, 'go')
  const { request } = await anna.turn()
  anna.send(request, 1, text('one '))
  await anna.acked(request, 1)
  expect((await admin.agents.disconnect('coder', 'anna')).outcome).toBe('done')
  await eventually(() => !anna.socket.connected)
  const back = await net.rawAgent({ pool: 'coder', agent: 'anna', holding: [{ session, request, acked: 1 }] })
  expect(back.welcome).toMatchObject({ resumed: [{ request, after: 1 }] })
  back.send(request, 2, text('two'), completed)
  const seen = watch(net.url(0), interaction)
  await seen.done
  expect(seen.turn.status).toBe('completed')
  expect((await admin.agents.disconnect('coder', 'nobody')).outcome).toBe('not_found')
})

test('agents of editors, which serve one session each, are seen and disconnected as pool "-"', async () => {
  await using net = await startNetwork({ env: FAST })
  await using admin = await adminOf(net)
  const { body } = await api<{ id: `ses_${string}` }>(net.url(0), '/sessions', { pool: 'coder' })
  await using zed = await startHelixAgent({ url: net.url(0), session: body.id })
  await eventually(async () =>
    expect(await admin.agents.list()).toMatchObject([{ pool: '-', id: body.id, transport: 'helix' }]),
  )
  expect((await admin.agents.disconnect('-', body.id)).outcome).toBe('done')
  void zed
})

test('a replica that is asked to leave drains and ends with 0; its next process of the same name stays', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true, env: FAST })
  const drained = await operator(net, ['replicas', 'drain', 'r0', '--as', 'ann'])
  expect(drained.stderr).toMatch(/as by SIGTERM.*Kubernetes starts its container again/)
  expect(drained.code).toBe(0)
  expect(await net.replicas[0]!.ended()).toBe(0) // by itself: a signal as it ends would be what ended it
  expect(net.logged('drain_ended')).toHaveLength(1)
  expect(net.logged('drain_started')).toHaveLength(1)
  await net.replicas[0]!.restart()
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'hello')
  const list = await operator(net, ['interactions', 'list', '--json'])
  expect(JSON.parse(list.stdout)).toMatchObject({ id: interaction, status: 'waiting' })
  expect(net.replicas[0]!.logs.filter((line) => line['event'] === 'drain_started')).toHaveLength(1)
  await eventually(() => net.logged('audit').length === 1)
}, 60_000)

test('a replica that hangs does not confirm: the act is written as asked, and the command ends with 1', async () => {
  await using net = await startNetwork({ processes: true, env: FAST })
  net.replicas[0]!.freeze()
  const asked = await operator(net, ['replicas', 'drain', 'r0'])
  expect(asked.code).toBe(1)
  expect(asked.stderr).toMatch(/has not confirmed it within 10 s/)
  expect(JSON.parse(asked.stderr.trim().split('\n').at(-1)!)).toMatchObject({
    audit: { outcome: 'asked', target: 'r0' },
  })
  net.replicas[0]!.thaw()
  await eventually(() => net.logged('drain_started').length === 1, { limitMs: 15_000 })
}, 60_000)
