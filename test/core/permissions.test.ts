import type { AgentEvent, PermissionOption } from '../../src/protocol/events.js'
import type { AnswerMessage } from '../../src/protocol/agent-wire.js'
import type { Permission } from '../../src/protocol/fold.js'
import { outputText } from '../../src/protocol/fold.js'
import { serve, type Ask, type Decision, type Turn } from '../../src/sdk/agent.js'
import { api, post, watch, type Seen } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'
import { completed, text, type RawAgent } from '../support/raw-agent.js'

const options: PermissionOption[] = [
  { id: 'yes', name: 'Yes', kind: 'allow_once' },
  { id: 'no', name: 'No', kind: 'reject_once' },
]
const ask = (more: { permission?: string; timeoutMs?: number; entry?: string } = {}): AgentEvent => ({
  type: 'permission',
  permission: 'p',
  title: 'Delete everything?',
  options,
  ...more,
})

interface View {
  status: string
  permissions: Permission[]
  error: { code: string } | null
}
interface Refused {
  error: { code: string; param: string | null; message: string }
}

const answer = (url: string, interaction: string, permission: string, option: string) =>
  api<View & Refused>(url, `/interactions/${interaction}/permissions/${permission}`, { option })

function answersTo(agent: RawAgent): AnswerMessage[] {
  const heard: AnswerMessage[] = []
  agent.socket.on('answer', (message) => void heard.push(message))
  return heard
}

test('a client answers at another replica than the one that has the agent; everybody sees question, answer and outcome', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder', replica: 0 })
  const heard = answersTo(agent)
  const { session, interaction } = await post(net.url(1), { pool: 'coder' }, 'clean up')
  const seen = watch(net.url(1), interaction)
  const { request } = await agent.turn()
  agent.send(request, 1, { type: 'entry.set', entry: 'rm', kind: 'tool_call', name: 'rm', status: 'pending' })
  agent.send(request, 2, ask({ entry: 'rm', timeoutMs: 60_000 }))
  await eventually(() => seen.turn.permissions?.[0]?.status === 'open')
  const { body } = await api<View>(net.url(1), `/interactions/${interaction}`)
  expect(body.permissions).toMatchObject([
    { id: 'p', title: 'Delete everything?', entry: 'rm', options, status: 'open', timeoutMs: 60_000 },
  ])

  const given = await answer(net.url(1), interaction, 'p', 'yes')
  expect(given.status).toBe(200)
  expect(given.body.permissions).toMatchObject([{ id: 'p', status: 'answered', option: 'yes' }])
  await eventually(() => heard.length > 0)
  expect(heard[0]).toEqual({ session, request, permission: 'p', option: 'yes' })
  agent.send(request, 3, { type: 'permission.settled', permission: 'p', option: 'yes', by: 'client' })
  agent.send(request, 4, text('gone'), completed)
  await seen.done
  expect(seen.turn.permissions).toMatchObject([{ status: 'settled', option: 'yes', by: 'client' }])
  expect(seen.events.map((event) => event.type)).toEqual([
    'submitted',
    'dispatched',
    'entry.set',
    'permission',
    'permission.answered',
    'permission.settled',
    'entry.append',
    'completed',
  ])
})

test('what is wrong with an answer is said in a word and a sentence', async () => {
  await using net = await startNetwork({ env: { CLIENT_KEYS: 'me=my-own-key,you=your-own-key' } })
  const agent = await net.rawAgent({ pool: 'coder' })
  const mine = { authorization: 'Bearer my-own-key' }
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'go', {}, mine)
  const { request } = await agent.turn()
  agent.send(request, 1, ask())
  await agent.acked(request, 1)
  const path = (permission: string) => `/interactions/${interaction}/permissions/${permission}`
  const say = async (permission: string, body: unknown, headers: Record<string, string> = mine) => {
    const { status, body: said } = await api<Refused>(net.url(0), path(permission), body, { headers })
    return [status, said.error?.code, said.error?.param]
  }
  expect(await say('p', { option: 'yes' }, { authorization: 'Bearer your-own-key' })).toEqual([404, 'not_found', null])
  expect(await say('q', { option: 'yes' })).toEqual([404, 'not_found', 'permission'])
  expect(await say('p', { option: 'maybe' })).toEqual([400, 'invalid_request', 'option'])
  expect(await say('p', {})).toEqual([400, 'invalid_request', 'option'])
  expect((await say('p', { option: 'no' }))[0]).toBe(200)
  expect((await say('p', { option: 'no' }))[0]).toBe(200) // the same again is no contradiction
  expect(await say('p', { option: 'yes' })).toEqual([409, 'permission_settled', 'permission'])
  agent.send(request, 2, { type: 'permission.settled', permission: 'p', option: 'no', by: 'client' })
  await agent.acked(request, 2)
  expect((await say('p', { option: 'no' }))[0]).toBe(200) // a client that did not hear the answer to its own
  expect(await say('p', { option: 'yes' })).toEqual([409, 'permission_settled', 'permission'])
  agent.send(request, 3, ask({ permission: 'late' }))
  agent.send(request, 4, { type: 'permission.settled', permission: 'late', option: 'no', by: 'timeout' })
  await agent.acked(request, 4)
  expect(await say('late', { option: 'no' })).toEqual([409, 'permission_settled', 'permission'])
  agent.send(request, 5, completed)
  await agent.acked(request, 5)
  expect((await say('p', { option: 'no' }))[0]).toBe(200)
  expect(await say('p', { option: 'yes' })).toEqual([409, 'permission_settled', 'permission'])
  expect(await say('late', { option: 'no' })).toEqual([409, 'permission_settled', 'permission'])
})

/** An agent of the SDK that asks once per turn, and says what was decided. */
function asking(net: Network, url: string | string[], how: Partial<Ask> = {}) {
  const decisions: Decision[] = []
  const agent = serve({ url, pool: 'coder', log: { info() {}, warn() {} } }, async (turn: Turn) => {
    await turn.text('May I? ')
    const decision = await turn.permission({ title: 'Go on?', options, ...how })
    decisions.push(decision)
    await turn.text(decision.option ?? 'nothing')
  })
  net.onDispose(() => agent.close(0))
  return decisions
}

const asked = (seen: Seen) => eventually(() => seen.turn.permissions?.find((it) => it.status === 'open') ?? false)

test('an answer that is posted elsewhere while the replica of the agent is killed reaches the agent', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true, env: { LEASE_TTL_MS: '2000' } })
  const decisions = asking(net, [net.url(0), net.url(1)])
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'go')
  const seen = watch([net.url(0), net.url(1)], interaction)
  const { id } = await asked(seen)
  const its = net.replicas.findIndex((replica) => replica.logs.some((line) => line['event'] === 'agent_joined'))
  const [killed, given] = await Promise.all([
    net.replicas[its]!.kill9(),
    answer(net.url(1 - its), interaction, id, 'yes'),
  ])
  expect([killed, given.status]).toEqual([undefined, 200])
  await seen.done
  expect(decisions).toEqual([{ option: 'yes', by: 'client' }])
  expect(outputText(seen.turn)).toBe('May I? \n\nyes')
  expect(seen.turn.permissions).toMatchObject([{ status: 'settled', option: 'yes', by: 'client' }])
  expect(seen.events.filter((event) => event.type === 'permission.answered')).toHaveLength(1)
})

test('nobody answers: after its time the fallback is taken, and none is a no', async () => {
  await using net = await startNetwork()
  const decisions = asking(net, net.url(0), { timeoutMs: 30, fallback: 'no' })
  const seen = watch(net.url(0), (await post(net.url(0), { pool: 'coder' }, 'go')).interaction)
  await seen.done
  expect(decisions).toEqual([{ option: 'no', by: 'timeout' }])
  expect(seen.turn.permissions).toMatchObject([{ status: 'settled', option: 'no', by: 'timeout' }])
})

test('a decision by a rule of the agent is shown and needs nobody', async () => {
  await using net = await startNetwork()
  const decisions = asking(net, net.url(0), { policy: 'yes' })
  const seen = watch(net.url(0), (await post(net.url(0), { pool: 'coder' }, 'go')).interaction)
  await seen.done
  expect(decisions).toEqual([{ option: 'yes', by: 'policy' }])
  expect(seen.turn.permissions).toMatchObject([{ status: 'settled', option: 'yes', by: 'policy' }])
})

test('a question ends with its turn, and with its withdrawal', async () => {
  await using net = await startNetwork()
  const decisions = asking(net, net.url(0))
  const first = await post(net.url(0), { pool: 'coder' }, 'go')
  await asked(watch(net.url(0), first.interaction))
  await api(net.url(0), `/interactions/${first.interaction}/cancel`, {})
  await eventually(() => expect(decisions).toEqual([{ option: null, by: 'cancel' }]))
  await using other = await startNetwork()
  const withdraw = new AbortController()
  const others = asking(other, other.url(0), { signal: withdraw.signal })
  const seen = watch(other.url(0), (await post(other.url(0), { pool: 'coder' }, 'go')).interaction)
  await asked(seen)
  withdraw.abort()
  await seen.done
  expect(others).toEqual([{ option: null, by: 'cancel' }])
  expect(seen.turn.permissions).toMatchObject([{ status: 'settled', option: null, by: 'cancel' }])
  expect(seen.turn.status).toBe('completed')
})

test('an open question keeps the silence deadline away, for its own time and no longer', async () => {
  await using net = await startNetwork({ env: { AGENT_SILENT_MS: '300', SWEEP_EVERY_MS: '100' } })
  const agent = await net.rawAgent({ pool: 'coder' })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'go')
  const seen = watch(net.url(0), interaction)
  const { request } = await agent.turn()
  agent.send(request, 1, ask({ timeoutMs: 1500 }))
  await seen.done
  expect(seen.turn.error?.code).toBe('agent_silent')
  const at = (type: string) => seen.events.find((event) => event.type === type)!.at
  expect(at('failed') - at('permission')).toBeGreaterThanOrEqual(1500)
})
