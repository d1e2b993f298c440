import { outputText } from '../../../src/protocol/fold.js'
import type { InteractionId, SessionId } from '../../../src/protocol/ids.js'
import { tokens } from '../../../src/auth/token.js'
import { api, post, watch } from '../../support/client.js'
import { eventually } from '../../support/eventually.js'
import { startHelixAgent } from '../../support/helix-agent.js'
import { startNetwork, type Network } from '../../support/network.js'

const env = { HELIX_READY_MS: '300', HELIX_QUIET_MS: '300', HELIX_BOUNCE_MS: '50', SWEEP_EVERY_MS: '200' }

async function newSession(net: Network, headers: Record<string, string> = {}): Promise<SessionId> {
  const { body } = await api<{ id: SessionId }>(net.url(0), '/sessions', { pool: 'coder' }, { headers })
  return body.id
}

interface Shown {
  status: string
  text: string
  origin: string
  input: string
  output: { id: string; kind: string; text: string; name?: string; status?: string }[]
  error: { code: string; message: string } | null
  usage: { inputTokens: number } | null
}
const shown = async (net: Network, id: InteractionId, replica = 0) =>
  (await api<Shown>(net.url(replica), `/interactions/${id}`)).body

test('first prompt and follow-up, as the trace tells them: agent on one replica, reader on another', async () => {
  await using net = await startNetwork({ replicas: 2, env })
  const session = await newSession(net)
  await using zed = await startHelixAgent({ url: net.url(0), session })
  const { interaction } = await post(net.url(1), { session }, 'Fix the test')
  const seen = watch(net.url(1), interaction)
  zed.say('agent_ready', { agent_name: 'zed-connection', thread_id: null })
  const prompt = await zed.command('chat_message')
  expect(prompt).toEqual({
    message: 'Fix the test',
    request_id: expect.stringMatching(/^req_/) as string,
    acp_thread_id: null,
    agent_name: 'zed-agent',
    interrupt: false,
    interaction_id: interaction,
    session_id: session,
  })
  const R1 = prompt['request_id']
  zed.say('agent_ready', { agent_name: 'zed-agent', thread_id: 'T' })
  zed.say('thread_created', { acp_thread_id: 'T', request_id: R1 })
  zed.text('T', '1', 'I', R1)
  zed.text('T', '1', "I'll look", R1)
  zed.text('T', '2', '**Tool Call: Read**\nStatus: Pending', R1, {
    entry_type: 'tool_call',
    tool_name: 'Read',
    tool_status: 'Pending',
  })
  zed.text('T', '1', "I'll look at it.", R1)
  zed.text('T', '2', '**Tool Call: Read**\nStatus: Completed\n\n42 lines', R1, {
    entry_type: 'tool_call',
    tool_name: 'Read',
    tool_status: 'Completed',
  })
  zed.text('T', '3', 'Done', R1)
  for (const [id, text] of [
    ['1', "I'll look at it."],
    ['3', 'Done.'],
  ] as const)
    zed.text('T', id, text, R1)
  zed.completed('T', R1, { usage: { total_tokens: 900, input_tokens: 700, output_tokens: 200, thought_tokens: 0 } })
  await seen.done
  expect(seen.turn.status).toBe('completed')
  expect(outputText(seen.turn)).toBe("I'll look at it.\n\nDone.")
  const turn = await shown(net, interaction, 1)
  expect(turn.output).toEqual([
    { id: '1', kind: 'text', text: "I'll look at it." },
    {
      id: '2',
      kind: 'tool_call',
      name: 'Read',
      status: 'completed',
      text: '**Tool Call: Read**\nStatus: Completed\n\n42 lines',
    },
    { id: '3', kind: 'text', text: 'Done.' },
  ])
  expect(turn.usage).toMatchObject({ inputTokens: 700, outputTokens: 200 })

  const second = await post(net.url(1), { session }, 'And now?')
  const next = await zed.command('chat_message', 1)
  expect(next).toMatchObject({ message: 'And now?', acp_thread_id: 'T', interaction_id: second.interaction })
  zed.text('T', '5', 'Now this.', next['request_id'])
  zed.completed('T', next['request_id'])
  await eventually(async () => (await shown(net, second.interaction)).status === 'completed')
  expect((await shown(net, second.interaction)).text).toBe('Now this.')
})

test('a token opens its own session’s socket and no other; keys open what their pools allow', async () => {
  const TOKEN_SECRET = 'a secret of more than thirty-two characters'
  const keys = { CLIENT_KEYS: 'anna=anna-key-1', AGENT_KEYS: 'coder=coder-key-1,other=other-key-1', TOKEN_SECRET }
  await using net = await startNetwork({ env: { ...env, ...keys } })
  const headers = { authorization: 'Bearer anna-key-1' }
  const [mine, other] = [await newSession(net, headers), await newSession(net, headers)]
  const token = await tokens([TOKEN_SECRET])!.mint('agent', mine, 60_000)
  const connect = async (session: string, key: string) => {
    await using agent = await startHelixAgent({ url: net.url(0), session, key })
    return agent.socket.readyState
  }
  expect(await connect(mine, token)).toBe(1)
  await expect(connect(other, token)).rejects.toThrow('401 Invalid token')
  expect(await connect(other, 'coder-key-1')).toBe(1)
  await expect(connect(mine, 'other-key-1')).rejects.toThrow('401 Invalid token')
  await expect(connect(mine, 'anna-key-1')).rejects.toThrow('401 Invalid token')
  const bare = await fetch(`${net.url(0)}/api/v1/external-agents/sync?session_id=${mine}`, {
    headers: { connection: 'upgrade', upgrade: 'websocket' },
  }).catch(() => undefined)
  expect([undefined, 401, 404]).toContain(bare?.status)
})

test('rubbish frames are counted, answered by nothing, and do not close the socket', async () => {
  await using net = await startNetwork({ env })
  const session = await newSession(net)
  await using zed = await startHelixAgent({ url: net.url(0), session })
  const { interaction } = await post(net.url(0), { session }, 'go')
  const { request_id: R } = await zed.command('chat_message')
  for (const rubbish of ['', '{', 'null', '[]', '{"event_type":7}', '{"event_type":"message_added","data":"x"}'])
    zed.socket.send(rubbish)
  zed.socket.send(Buffer.from([0, 1, 2]))
  zed.say('message_added', { role: 'assistant', content: 'no thread', message_id: '1' })
  zed.say('a_later_agents_event', { anything: true })
  zed.text('T', '1', 'fine', R)
  zed.completed('T', R)
  await eventually(async () => (await shown(net, interaction)).status === 'completed')
  expect((await shown(net, interaction)).text).toBe('fine')
  expect(net.logged('agent_message_dropped')).toHaveLength(8)
  expect(zed.commands.map((command) => command.type)).toEqual(['chat_message'])
})

test('a frame of 17 MB becomes bounded events, and the answer is what the agent holds', async () => {
  await using net = await startNetwork({ env })
  const session = await newSession(net)
  await using zed = await startHelixAgent({ url: net.url(0), session })
  const { interaction } = await post(net.url(0), { session }, 'go')
  const { request_id: R } = await zed.command('chat_message')
  const large = `begin ${'0123456789abcde😀'.repeat(1_000_000)} end`
  expect(Buffer.byteLength(large)).toBeGreaterThan(17_000_000)
  zed.text('T', '1', large, R)
  zed.text('T', '1', `${large}!`, R)
  zed.completed('T', R)
  const seen = watch(net.url(0), interaction)
  await seen.done
  expect(seen.turn.status).toBe('completed')
  expect(outputText(seen.turn) === `${large}!`).toBe(true)
  const largest = Math.max(...seen.events.map((event) => ('text' in event ? event.text.length : 0)))
  expect(largest).toBeLessThanOrEqual(32 * 1024)
})
