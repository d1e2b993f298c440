import OpenAI from 'openai'
import type { Interaction } from '../../../src/core/core.js'
import type { AgentEvent } from '../../../src/protocol/events.js'
import { api, post } from '../../support/client.js'
import { eventually } from '../../support/eventually.js'
import { keysLike, startNetwork, type Network } from '../../support/network.js'
import { completed, text } from '../../support/raw-agent.js'
import { startRedisServer } from '../../support/redis-server.js'
import { SseReader } from '../../support/sse.js'
import { answer, failure, sdk } from './sdk.js'

const clientOf = (net: Network, replica = 0) => sdk(net, replica, 2)
const hello = { model: 'coder', messages: [{ role: 'user' as const, content: 'hello' }] }
const usage: AgentEvent = { type: 'usage', usage: { inputTokens: 12, outputTokens: 2, reasoningTokens: 1 } }

async function contentOf(stream: AsyncIterable<OpenAI.ChatCompletionChunk>): Promise<string> {
  let content = ''
  for await (const chunk of stream) content += chunk.choices[0]?.delta.content ?? ''
  return content
}

describe('the official SDK, unmodified', () => {
  test('gets an answer', async () => {
    await using net = await startNetwork({ replicas: 2 })
    const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
    const asked = clientOf(net).chat.completions.create(hello).withResponse()
    expect(await answer(agent, 0, text('Do'), text('ne.'), usage, completed)).toBe('hello')
    const { data, response, request_id: requestId } = await asked
    expect(requestId).toBe(response.headers.get('x-request-id'))
    expect(response.headers.get('throughline-session-id')).toMatch(/^ses_/)
    expect(data).toMatchObject({
      id: `chatcmpl-${response.headers.get('throughline-interaction-id')!.slice(4)}`,
      object: 'chat.completion',
      model: 'coder',
      choices: [{ index: 0, message: { role: 'assistant', content: 'Done.', refusal: null }, finish_reason: 'stop' }],
      usage: {
        prompt_tokens: 12,
        completion_tokens: 2,
        total_tokens: 14,
        completion_tokens_details: { reasoning_tokens: 1 },
      },
    })
    expect(Math.abs(data.created - Date.now() / 1000)).toBeLessThan(60)
  })

  test('gets a stream, with its usage', async () => {
    await using net = await startNetwork({ replicas: 2 })
    const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
    const stream = clientOf(net).chat.completions.stream({ ...hello, stream_options: { include_usage: true } })
    await answer(agent, 0, text('Do'), text('ne.'), usage, completed)
    expect(await stream.finalContent()).toBe('Done.')
    expect(await stream.totalUsage()).toMatchObject({ prompt_tokens: 12, completion_tokens: 2, total_tokens: 14 })
    expect((await stream.finalChatCompletion()).choices[0]!.finish_reason).toBe('stop')
  })

  test('goes on with a session by header or metadata, and the agent is told only what is new', async () => {
    await using net = await startNetwork({ replicas: 2 })
    const agent = await net.rawAgent({ pool: 'coder', capacity: 4 })
    const first = clientOf(net).chat.completions.create(hello).withResponse()
    await answer(agent, 0, text('Hi.'), completed)
    const session = (await first).response.headers.get('throughline-session-id')!

    const messages = [...hello.messages, { role: 'assistant' as const, content: 'Hi.' }]
    const ask = (content: string) => ({ ...hello, messages: [...messages, { role: 'user' as const, content }] })
    const byHeader = clientOf(net, 1).chat.completions.create(ask('two'), {
      headers: { 'throughline-session-id': session },
    })
    expect(await answer(agent, 1, text('2'), completed)).toBe('two')
    expect((await byHeader).choices[0]!.message.content).toBe('2')

    const byMetadata = clientOf(net, 1).chat.completions.create({ ...ask('three'), metadata: { session_id: session } })
    expect(await answer(agent, 2, text('3'), completed)).toBe('three')
    await byMetadata
    expect(new Set(agent.turns.map((turn) => turn.session))).toEqual(new Set([session]))

    const elsewhere = clientOf(net).chat.completions.create(ask('elsewhere'))
    const told = await answer(agent, 3, text('4'), completed)
    expect(told).toBe('user: hello\n\nassistant: Hi.\n\nuser: elsewhere')
    await elsewhere
  })

  test('sees a failed turn as an error with its code, and does not send the message again', async () => {
    await using net = await startNetwork()
    const agent = await net.rawAgent({ pool: 'coder' })
    const asked = failure(clientOf(net).chat.completions.create(hello))
    await answer(agent, 0, text('half'), { type: 'failed', code: 'out_of_luck', message: 'No luck.' })
    expect(await asked).toMatchObject({ status: 502, code: 'out_of_luck', type: 'server_error', param: null })
    expect(agent.turns).toHaveLength(1)
  })

  test('sees a failure in mid-stream as an error, after what was said', async () => {
    await using net = await startNetwork()
    const agent = await net.rawAgent({ pool: 'coder' })
    const stream = await clientOf(net).chat.completions.create({ ...hello, stream: true })
    await answer(agent, 0, text('half'), { type: 'failed', code: 'out_of_luck', message: 'No luck.' })
    const error = await failure(contentOf(stream))
    expect(error).toMatchObject({ code: 'out_of_luck', type: 'server_error' })
    expect(error.message).toContain('No luck.')
  })

  test('sees a cancel in mid-stream as an error', async () => {
    await using net = await startNetwork({ replicas: 2 })
    const asked = await clientOf(net)
      .chat.completions.create({ ...hello, stream: true })
      .withResponse()
    const id = asked.response.headers.get('throughline-interaction-id')
    await api(net.url(1), `/interactions/${id}/cancel`, {})
    expect(await failure(contentOf(asked.data))).toMatchObject({ code: 'cancelled' })
  })

  test('sees a turn that takes too long as 504, and the turn goes on', async () => {
    await using net = await startNetwork({ env: { WAIT_LIMIT_MS: '200' } })
    const error = await failure(clientOf(net).chat.completions.create(hello))
    expect(error).toMatchObject({ status: 504, code: 'wait_limit' })
    const id = error.headers!.get('throughline-interaction-id')
    expect((await api<Interaction>(net.url(0), `/interactions/${id}`)).body.status).toBe('waiting')
  })

  test.each([
    [{ n: 2 }, 'unsupported_parameter', 'n'],
    [{ tools: [{ type: 'function', function: { name: 'f' } }] }, 'unsupported_parameter', 'tools'],
    [
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }] },
      'unsupported_parameter',
      'messages[0].content[0]',
    ],
    [{ messages: [] }, 'invalid_request', 'messages'],
    [{ messages: [{ role: 'user', content: 7 }] }, 'invalid_request', 'messages[0].content'],
    [{ metadata: { session_id: 'my-own' } }, 'not_found', 'metadata.session_id'],
    [{ model: 'nobody-has-it' }, 'model_not_found', undefined],
    [{ model: 'no pool!' }, 'model_not_found', 'model'],
  ])('sees %j refused as %s', async (more, code, param) => {
    await using net = await startNetwork()
    const error = await failure(clientOf(net).chat.completions.create({ ...hello, ...more } as typeof hello))
    expect(error).toMatchObject({ code, type: 'invalid_request_error' })
    if (param !== undefined) expect(error.param).toBe(param)
  })

  test('is told that its key is not valid', async () => {
    await using net = await startNetwork({ env: { CLIENT_KEYS: 'alice=key-of-alice' } })
    const error = await failure(clientOf(net).models.list().then())
    expect(error).toMatchObject({ status: 401, code: 'invalid_api_key', type: 'invalid_request_error' })
    expect(error).toBeInstanceOf(OpenAI.AuthenticationError)
  })

  test('lists the pools as models', async () => {
    await using net = await startNetwork({ env: { POOLS: 'coder,writer' } })
    await net.rawAgent({ pool: 'drawer' })
    const client = clientOf(net)
    const { data } = await client.models.list()
    expect(data.map(({ id }) => id).sort()).toEqual(['coder', 'drawer', 'writer'])
    expect(await client.models.retrieve('writer')).toMatchObject({
      id: 'writer',
      object: 'model',
      owned_by: 'throughline',
    })
    expect(await failure(client.models.retrieve('nobody-has-it'))).toMatchObject({
      status: 404,
      code: 'model_not_found',
    })
  })
})

test('another pool than that of the session is refused', async () => {
  await using net = await startNetwork({ env: { POOLS: 'coder,writer' } })
  const { session } = await post(net.url(0), { pool: 'writer' }, 'x')
  const headers = { 'throughline-session-id': session }
  expect(await failure(clientOf(net).chat.completions.create(hello, { headers }))).toMatchObject({
    status: 400,
    code: 'invalid_request',
    param: 'model',
  })
})

test('the wire: data lines only, one head, one finish, [DONE], and a clean end', async () => {
  await using net = await startNetwork()
  const agent = await net.rawAgent({ pool: 'coder' })
  await using viewer = await SseReader.post(`${net.url(0)}/v1/chat/completions`, { ...hello, stream: true })
  await answer(agent, 0, text('Done.'), completed)
  const frames = await viewer.all()
  for (const { lines } of frames) expect(lines).toEqual([expect.stringMatching(/^data: /)])
  expect(frames.at(-1)!.data).toBe('[DONE]')
  expect(frames).toHaveLength(4)
})

test('a POST that a client repeats is answered by the one turn: by key, or by fingerprint when it says so', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder', capacity: 4 })
  const say = (replica: number, body: object, headers: Record<string, string>) =>
    SseReader.post(`${net.url(replica)}/v1/chat/completions`, { ...hello, stream: true, ...body }, headers)
  const idOf = ({ response }: SseReader) => response.headers.get('throughline-interaction-id')

  await using first = await say(0, {}, { 'idempotency-key': 'k' })
  await answer(agent, 0, text('Done.'), completed)
  await using again = await say(1, {}, { 'idempotency-key': 'k' })
  expect(idOf(again)).toBe(idOf(first))
  expect(again.response.headers.get('idempotent-replayed')).toBe('true')
  expect((await again.all()).map(({ data }) => data)).toEqual((await first.all()).map(({ data }) => data))

  await using keyless = await say(0, { user: 'u' }, {})
  await using retried = await say(1, { user: 'u' }, { 'x-stainless-retry-count': '1' })
  expect(idOf(retried)).toBe(idOf(keyless))
  await using fresh = await say(1, { user: 'u' }, {})
  expect(idOf(fresh)).not.toBe(idOf(keyless))
})

test('a POST that was answered with a 5xx and comes again at once, without a mark, gets the same answer; later it is new', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder', capacity: 4 })
  const ask = (replica: number) =>
    fetch(`${net.url(replica)}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(hello),
    })
  const first = ask(0)
  await answer(agent, 0, { type: 'failed', code: 'out_of_luck', message: 'No luck.' })
  expect((await first).status).toBe(502)
  const again = await ask(1)
  expect(again.status).toBe(502)
  expect(again.headers.get('idempotent-replayed')).toBe('true')
  expect(again.headers.get('throughline-interaction-id')).toBe((await first).headers.get('throughline-interaction-id'))
  for (const key of await keysLike(net.redis, `${net.prefix}*once:*`)) {
    if ((await net.redis.pttl(key)) < 20_000) await net.redis.del(key) // time passes
  }
  const later = ask(1)
  await answer(agent, 1, text('Done.'), completed)
  expect((await later).status).toBe(200)
})

test('the same words to two sessions are two messages, also when one of them is a retry', async () => {
  await using net = await startNetwork()
  const a = await post(net.url(0), { pool: 'coder' }, 'x')
  const b = await post(net.url(0), { pool: 'coder' }, 'x')
  const say = (session: string, more: Record<string, string> = {}) =>
    SseReader.post(
      `${net.url(0)}/v1/chat/completions`,
      { ...hello, stream: true },
      { 'throughline-session-id': session, ...more },
    )
  await using toA = await say(a.session)
  await using toB = await say(b.session, { 'x-stainless-retry-count': '1' })
  expect(toA.response.headers.get('throughline-session-id')).toBe(a.session)
  expect(toB.response.headers.get('throughline-session-id')).toBe(b.session)
})

test('a stream runs on to its end on a replica that leaves', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
  const stream = await clientOf(net).chat.completions.create({ ...hello, stream: true })
  const { request } = await agent.turn()
  agent.send(request, 1, text('one '))
  await agent.acked(request, 1)
  const drained = net.replicas[0]!.drain()
  await eventually(() => net.replicas[0]!.logs.some((line) => line['event'] === 'drain_started'))
  agent.send(request, 2, text('two'), completed)
  expect(await contentOf(stream)).toBe('one two')
  await drained
})

test('a stream that does not end in time is destroyed: its reader does not take it for whole', async () => {
  await using net = await startNetwork({ replicas: 2, env: { DRAIN_MS: '300' } })
  const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
  const stream = await clientOf(net).chat.completions.create({ ...hello, stream: true })
  const { request } = await agent.turn()
  agent.send(request, 1, text('one '))
  await agent.acked(request, 1)
  const content = contentOf(stream)
  content.catch(() => {}) // looked at below
  await net.replicas[0]!.drain()
  await expect(content).rejects.toThrow()
})

test('an agent lost after output, where another one begins anew, ends the stream with an error', async () => {
  await using net = await startNetwork({
    env: { ON_AGENT_LOSS: 'retry', AGENT_GRACE_MS: '200', SWEEP_EVERY_MS: '200' },
  })
  const lost = await net.rawAgent({ pool: 'coder' })
  const stream = await clientOf(net)
    .chat.completions.create({ ...hello, stream: true })
    .withResponse()
  const { request } = await lost.turn()
  lost.send(request, 1, text('half an ans'))
  await lost.acked(request, 1)
  lost.close()
  const agent = await net.rawAgent({ pool: 'coder' })
  expect(await failure(contentOf(stream.data))).toMatchObject({ code: 'reset_after_output' })
  await answer(agent, 0, text('Whole.'), completed)
  const id = stream.response.headers.get('throughline-interaction-id')!
  await eventually(async () => (await api<Interaction>(net.url(0), `/interactions/${id}`)).body.text === 'Whole.')
})

test('a stream that Redis leaves for too long ends with an error', async () => {
  await using redis = await startRedisServer()
  const env = { REDIS_DEADLINE_MS: '300', LIVE_OUTAGE_MS: '300', PROBE_MS: '500', SWEEP_EVERY_MS: '300' }
  await using net = await startNetwork({ redisUrl: redis.url, env })
  const agent = await net.rawAgent({ pool: 'coder' })
  const stream = await clientOf(net).chat.completions.create({ ...hello, stream: true })
  const chunks = stream[Symbol.asyncIterator]()
  await chunks.next() // the head
  const { request } = await agent.turn()
  agent.send(request, 1, text('half'))
  await chunks.next() // it is live
  await redis.kill9()
  expect(await failure(chunks.next())).toMatchObject({ code: 'store_unavailable', type: 'server_error' })
  await redis.restart()
  await eventually(() => net.replicas[0]!.well(), { limitMs: 10_000 })
})
