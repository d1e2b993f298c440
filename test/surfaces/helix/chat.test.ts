import { api } from '../../support/client.js'
import { eventually } from '../../support/eventually.js'
import { startHelixAgent, type HelixAgent } from '../../support/helix-agent.js'
import { startNetwork, type Network } from '../../support/network.js'
import { completed, text } from '../../support/raw-agent.js'

const env = { HELIX_READY_MS: '200', HELIX_POOL: 'zed', SWEEP_EVERY_MS: '200' }

/** A pool's agent that answers each prompt word by word on a thread of its session. */
async function startPoolAgent(net: Network, says: (prompt: string) => string[]): Promise<HelixAgent> {
  const zed = await startHelixAgent({ url: net.url(0), session: 'zed-1', query: '&capacity=4' })
  zed.socket.on('message', (data: Buffer) => {
    const { type, data: it } = JSON.parse(data.toString()) as { type: string; data: Record<string, string> }
    if (type !== 'chat_message') return
    const thread = it['acp_thread_id'] ?? `T-${it['session_id']}`
    if (it['acp_thread_id'] === null) zed.say('thread_created', { acp_thread_id: thread, request_id: it['request_id'] })
    let content = ''
    for (const word of says(it['message']!))
      zed.text(thread, `${it['request_id']}`.slice(-9), (content += word), it['request_id'])
    zed.completed(thread, it['request_id'])
  })
  return zed
}

const chat = (net: Network, body: object) =>
  fetch(`${net.url(1)}/api/v1/sessions/chat`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
const user = (text: string) => [{ role: 'user', content: { content_type: 'text', parts: [text] } }]

test('POST sessions/chat, blocking and then streaming in the same session, real text at another replica', async () => {
  await using net = await startNetwork({ replicas: 2, env })
  await using zed = await startPoolAgent(net, (prompt) => [`You said `, prompt.split('\n').at(-1)!, '.'])
  const first = await chat(net, { messages: user('one'), system: 'Be brief.', agent_type: 'zed_external', model: 'm' })
  expect(first.status).toBe(200)
  const body = (await first.json()) as { id: string; object: string }
  expect(body).toMatchObject({
    object: 'chat.completion',
    model: 'm',
    choices: [{ index: 0, message: { role: 'assistant', content: 'You said one.' }, finish_reason: 'stop' }],
  })
  expect(zed.of('chat_message')[0]!['message']).toBe('Be brief.\n\n**User Request:**\none')

  const second = await chat(net, { session_id: body.id, messages: user('two'), stream: true })
  expect(second.headers.get('content-type')).toContain('text/event-stream')
  const interaction = second.headers.get('x-interaction-id')!
  const frames = (await second.text()).split('\n\n').filter((frame) => frame.startsWith('data: '))
  expect(frames.at(-1)).toBe('data: [DONE]')
  const chunks = frames.slice(0, -1).map((frame) => JSON.parse(frame.slice(6)) as Chunk)
  expect(chunks[0]).toMatchObject({ id: body.id, object: 'chat.completion.chunk', choices: null })
  expect(chunks.map((chunk) => chunk.choices?.[0]?.delta.content ?? '').join('')).toBe('You said two.')
  expect(chunks.at(-1)!.choices![0]!.finish_reason).toBe('stop')

  const list = await api<{ interactions: object[]; totalCount: number }>(
    net.url(0),
    `/sessions/${body.id}/interactions?page=0&per_page=1&order=desc`,
  )
  expect(list.body).toMatchObject({
    page: 0,
    pageSize: 1,
    totalCount: 2,
    totalPages: 2,
    interactions: [{ id: interaction, state: 'complete', prompt_message: 'two', response_message: '' }],
  })
  const one = await api(net.url(0), `/sessions/${body.id}/interactions/${interaction}`)
  expect(one.body).toMatchObject({
    session_id: body.id,
    response_message: 'You said two.',
    response_entries: [{ type: 'text', content: 'You said two.' }],
  })
})

interface Chunk {
  id: string
  choices: { delta: { content?: string }; finish_reason: string | null }[] | null
}

test('messages are queued and cancelled through the doors of Helix, and the native ones beside them still work', async () => {
  await using net = await startNetwork({ replicas: 2, env })
  const { body: session } = await api<{ id: string }>(net.url(0), '/sessions', { pool: 'zed' })
  const path = `/sessions/${session.id}`
  const queued = await api<{ prompt_id: string }>(net.url(0), `${path}/messages`, { content: 'go' })
  expect([queued.status, Object.keys(queued.body)]).toEqual([200, ['prompt_id']])
  const native = await api(net.url(1), `${path}/messages`, { text: 'and go' })
  expect([native.status, native.body['queued']]).toEqual([202, 1])
  const cancelled = await api(net.url(0), `${path}/cancel`, {})
  expect(cancelled.body).toMatchObject({ status: 'cancelled', interaction: { id: queued.body.prompt_id } })
  await api(net.url(0), `${path}/cancel`, {})
  expect((await api(net.url(0), `${path}/cancel`, {})).body).toMatchObject({ status: 'noop' })
  const list = await api<{ interactions: object[] }>(net.url(1), `${path}/interactions`)
  expect(list.body.interactions).toMatchObject([{ input: 'go' }, { input: 'and go' }])
})

test('what goes wrong is told in the agent’s words, as plain text or as an error frame without [DONE]', async () => {
  await using net = await startNetwork({ replicas: 2, env })
  await using zed = await startHelixAgent({ url: net.url(0), session: 'zed-1' })
  zed.socket.on('message', (data: Buffer) => {
    const { type, data: it } = JSON.parse(data.toString()) as { type: string; data: Record<string, string> }
    if (type === 'chat_message') zed.say('chat_response_error', { request_id: it['request_id'], error: 'said "no"' })
  })
  const blocking = await chat(net, { messages: user('go') })
  expect([blocking.status, await blocking.text()]).toEqual([502, 'external agent error: said "no"\n'])
  expect(blocking.headers.get('content-type')).toContain('text/plain')
  const streaming = await (await chat(net, { messages: user('go'), stream: true })).text()
  expect(streaming).toContain('data: {"error":{"message":"External agent error: said \\"no\\""}}')
  expect(streaming).not.toContain('[DONE]')
  for (const [body, status, words] of [
    [{ messages: [] }, 400, 'must not be empty'],
    [{ messages: user('  ') }, 400, 'no user message found'],
    [{ messages: 'x' }, 400, 'messages'],
    [{ messages: user('x'), regenerate: true }, 400, 'Another answer'],
    [{ messages: [...user('x'), ...user('y')], interaction_id: 'int_1' }, 400, 'Another answer'],
    [{ session_id: 'ses_unknown', messages: user('x') }, 404, ''],
    [{ app_id: 'no-such-pool', messages: user('x') }, 404, 'pool'],
  ] as const) {
    const answer = await chat(net, body)
    expect(answer.status).toBe(status)
    expect(await answer.text()).toContain(words)
  }
})

/** The text of a stream, and its other frames. */
function read(stream: string): { text: string; errors: string[]; done: boolean } {
  const frames = stream.split('\n\n').flatMap((it) => (it.startsWith('data: ') ? [it.slice(6)] : []))
  const chunks = frames.flatMap((it) =>
    it === '[DONE]' ? [] : [JSON.parse(it) as Chunk & { error?: { message: string } }],
  )
  return {
    text: chunks.map((chunk) => chunk.choices?.[0]?.delta.content ?? '').join(''),
    errors: chunks.flatMap(({ error }) => (error ? [error.message] : [])),
    done: frames.includes('[DONE]'),
  }
}

test('entries that grow in turns are streamed once each, in the order of their growing', async () => {
  await using net = await startNetwork({ replicas: 2, env })
  const agent = await net.rawAgent({ pool: 'zed' })
  const streaming = chat(net, { messages: user('go'), stream: true })
  const { request } = await agent.turn()
  agent.send(request, 1, text('I will look', 'a'))
  agent.send(request, 2, text('Found it.', 'b'))
  agent.send(request, 3, text(' at it.', 'a')) // told late, as by an agent that holds back the end of its texts
  agent.send(request, 4, completed)
  const said = read(await (await streaming).text())
  expect(said).toEqual({ text: 'I will look\n\nFound it.\n\n at it.', errors: [], done: true })
})

test('an answer that begins anew after its agent was lost does not run on in the stream as if it were one', async () => {
  const policies = { ON_AGENT_LOSS: 'retry', AGENT_GRACE_MS: '300' }
  await using net = await startNetwork({ replicas: 2, env: { ...env, ...policies } })
  const lost = await net.rawAgent({ pool: 'zed' })
  const streaming = await chat(net, { messages: user('go'), stream: true })
  const first = await lost.turn()
  lost.send(first.request, 1, text('The answer of the one, which is lost'))
  await lost.acked(first.request, 1)
  lost.close()
  const other = await net.rawAgent({ pool: 'zed', replica: 1 })
  const { request } = await other.turn()
  other.send(request, 1, text('What the other one answers is another text, and longer'), completed)
  const said = read(await streaming.text())
  expect(said).toMatchObject({ text: 'The answer of the one, which is lost', done: false })
  expect(said.errors).toEqual([expect.stringContaining('begins the answer anew')])
  await eventually(async () => {
    const turn = await api(net.url(0), `/interactions/${streaming.headers.get('x-interaction-id')}`)
    expect(turn.body).toMatchObject({
      status: 'completed',
      text: 'What the other one answers is another text, and longer',
    })
  })
})

test('agents of before 2026: chat_response, its pieces and its end', async () => {
  await using net = await startNetwork({ replicas: 2, env })
  await using zed = await startHelixAgent({ url: net.url(0), session: 'zed-old' })
  const streaming = chat(net, { messages: user('go'), stream: true })
  const { request_id: R } = await zed.command('chat_message')
  zed.say('chat_response', { request_id: R, content: 'Processing your request…' })
  zed.say('chat_response_chunk', { request_id: R, chunk: 'a ' })
  zed.say('chat_response_chunk', { request_id: R, chunk: 'piece' })
  zed.say('chat_response_done', { request_id: R })
  const said = await (await streaming).text()
  expect(said).toContain('[DONE]')
  const deltas = [...said.matchAll(/"content":"([^"]*)"/g)].map((found) => found[1])
  expect(deltas.join('')).toBe('a piece')
})

test('an agent of a pool serves its sessions by turns: what somebody types in an idle one is heard', async () => {
  await using net = await startNetwork({ replicas: 2, env })
  await using zed = await startPoolAgent(net, (prompt) => ['to ', prompt])
  const first = (await (await chat(net, { messages: user('one') })).json()) as { id: string }
  const thread = `T-${first.id}`
  await eventually(async () => (await api(net.url(0), `/sessions/${first.id}`)).body['agent'] === null) // given back
  zed.say('message_added', { acp_thread_id: thread, message_id: '8', role: 'user', content: 'typed', request_id: '' })
  zed.text(thread, '9', 'to what was typed', '')
  zed.completed(thread, '')
  await eventually(async () => {
    const { body } = await api<{ interactions: object[] }>(net.url(1), `/sessions/${first.id}/interactions`)
    expect(body.interactions.at(-1)).toMatchObject({ origin: 'agent', status: 'completed', text: 'to what was typed' })
  })
})
