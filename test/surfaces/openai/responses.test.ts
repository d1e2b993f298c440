import OpenAI from 'openai'
import type { AgentEvent } from '../../../src/protocol/events.js'
import { api } from '../../support/client.js'
import { eventually } from '../../support/eventually.js'
import { loseTail } from '../../support/lose-tail.js'
import { startNetwork, type Network } from '../../support/network.js'
import { completed, text, type RawAgent } from '../../support/raw-agent.js'
import { SseReader, json } from '../../support/sse.js'
import { answer, failure, sdk } from './sdk.js'

const clientOf = (net: Network, replica = 0) => sdk(net, replica, 0)
const usage: AgentEvent = { type: 'usage', usage: { inputTokens: 12, outputTokens: 7, reasoningTokens: 2 } }

/** Creates a response and has the agent answer it. */
async function answered(net: Network, agent: RawAgent, n: number, more: object = {}, ...events: AgentEvent[]) {
  const asked = clientOf(net).responses.create({ model: 'coder', input: 'hello', ...more })
  asked.catch(() => {}) // looked at below
  await answer(agent, n, ...(events.length > 0 ? events : [text('Done.'), usage, completed]))
  return asked
}

describe('create', () => {
  test('waits for the answer and gives the whole response', async () => {
    await using net = await startNetwork({ replicas: 2 })
    const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
    const asked = clientOf(net)
      .responses.create({
        model: 'coder',
        input: 'hello',
        metadata: { ticket: '7' },
        temperature: 0.5,
        text: { verbosity: 'low' },
      })
      .withResponse()
    expect(await answer(agent, 0, text('Done.'), usage, completed)).toBe('hello')
    const { data, response, request_id: requestId } = await asked
    expect(requestId).toBe(response.headers.get('x-request-id'))
    expect(data).toMatchObject({
      id: `resp_${response.headers.get('throughline-interaction-id')!.slice(4)}`,
      conversation: { id: `conv_${response.headers.get('throughline-session-id')!.slice(4)}` },
      object: 'response',
      status: 'completed',
      model: 'coder',
      output_text: 'Done.',
      metadata: { ticket: '7' },
      temperature: 0.5,
      text: { format: { type: 'text' }, verbosity: 'low' },
      usage: { input_tokens: 12, output_tokens: 7, total_tokens: 19, output_tokens_details: { reasoning_tokens: 2 } },
      background: false,
      store: true,
      previous_response_id: null,
      instructions: null,
    })
    expect(agent.turns[0]!.metadata).toEqual({ ticket: '7' })
    const { output_text: _, _request_id: __, ...object } = data as typeof data & { _request_id?: string }
    const {
      output_text: ___,
      _request_id: ____,
      ...again
    } = (await clientOf(net, 1).responses.retrieve(data.id)) as typeof data & { _request_id?: string }
    expect(again).toEqual(object)
  })

  test('tells the agent instructions and items, and does not inherit the instructions', async () => {
    await using net = await startNetwork()
    const agent = await net.rawAgent({ pool: 'coder' })
    const first = await answered(net, agent, 0, {
      instructions: 'Be brief.',
      input: [
        { role: 'user', content: 'One?' },
        { type: 'message', role: 'assistant', content: [{ type: 'output_text', text: 'One.', annotations: [] }] },
        { type: 'reasoning', id: 'rs_x', summary: [] },
        { role: 'user', content: [{ type: 'input_text', text: 'Two?' }] },
      ],
    })
    expect(agent.turns[0]!.input).toBe('developer: Be brief.\n\nuser: One?\n\nassistant: One.\n\nuser: Two?')
    expect(first.instructions).toBe('Be brief.')
    const second = await answered(net, agent, 1, { previous_response_id: first.id, input: 'Three?' })
    expect(agent.turns[1]).toMatchObject({ input: 'Three?', session: agent.turns[0]!.session })
    expect(second).toMatchObject({
      instructions: null,
      previous_response_id: first.id,
      conversation: first.conversation!,
    })
  })

  test('an item reference stands for the message that it names', async () => {
    await using net = await startNetwork()
    const agent = await net.rawAgent({ pool: 'coder', capacity: 4 })
    const { output } = await answered(net, agent, 0)
    const reference = (id: string) => ({
      input: [
        { type: 'item_reference', id },
        { role: 'user', content: 'And?' },
      ],
    })
    await answered(net, agent, 1, reference(output[0]!.id!))
    expect(agent.turns[1]!.input).toBe('assistant: Done.\n\nuser: And?')
    expect(
      await failure(clientOf(net).responses.create({ model: 'coder', ...reference('msg_x') } as never)),
    ).toMatchObject({ status: 400, param: 'input[0].id' })
  })

  test('in the background it is answered at once; the result comes by retrieve', async () => {
    await using net = await startNetwork({ replicas: 2 })
    const queued = await clientOf(net).responses.create({ model: 'coder', input: 'hello', background: true })
    expect(queued).toMatchObject({ status: 'queued', background: true, output: [], completed_at: null, usage: null })
    const agent = await net.rawAgent({ pool: 'coder' })
    const { request } = await agent.turn()
    agent.send(request, 1, text('Do'))
    await eventually(async () => {
      const { status, output_text: said } = await clientOf(net, 1).responses.retrieve(queued.id)
      return status === 'in_progress' && said === 'Do'
    })
    agent.send(request, 2, text('ne.'), completed)
    await eventually(async () => (await clientOf(net, 1).responses.retrieve(queued.id)).output_text === 'Done.')
  })

  test('a failed, a cancelled and an incomplete turn are answered with 200 and their status', async () => {
    await using net = await startNetwork()
    const agent = await net.rawAgent({ pool: 'coder', capacity: 4 })
    const luckless = { type: 'failed' as const, code: 'out_of_luck', message: 'No luck.' }
    expect(await answered(net, agent, 0, {}, text('half'), luckless)).toMatchObject({
      status: 'failed',
      error: { type: 'server_error', code: 'out_of_luck', message: 'No luck.', param: null },
    })
    expect(await answered(net, agent, 1, {}, text('half'), { type: 'completed', reason: 'max_tokens' })).toMatchObject({
      status: 'incomplete',
      incomplete_details: { reason: 'max_output_tokens' },
      output_text: 'half',
    })
    const asked = clientOf(net).responses.create({ model: 'coder', input: 'x' })
    const { interaction } = await agent.turn(2)
    await clientOf(net).responses.cancel(`resp_${interaction.slice(4)}`)
    expect(await asked).toMatchObject({ status: 'cancelled', incomplete_details: { reason: 'cancelled' }, error: null })
  })

  test('a response that is still going on at the limit is answered as it is', async () => {
    await using net = await startNetwork({ env: { WAIT_LIMIT_MS: '200' } })
    const { id, status } = await clientOf(net).responses.create({ model: 'coder', input: 'x' })
    expect(status).toBe('queued')
    expect((await clientOf(net).responses.retrieve(id)).status).toBe('queued')
  })

  test('a reader that leaves does not cancel', async () => {
    await using net = await startNetwork()
    const agent = await net.rawAgent({ pool: 'coder' })
    const viewer = await SseReader.post(`${net.url(0)}/v1/responses`, { model: 'coder', input: 'x', stream: true })
    const { request, interaction } = await agent.turn()
    viewer.close()
    agent.send(request, 1, text('Done.'), completed)
    const id = `resp_${interaction.slice(4)}`
    await eventually(async () => (await clientOf(net).responses.retrieve(id)).status === 'completed')
  })

  test.each([
    [{}, 'invalid_request', 'model', 400],
    [{ model: 'nobody-has-it' }, 'model_not_found', 'model', 404],
    [{ model: 'no pool!' }, 'model_not_found', 'model', 404],
    [{ model: 'coder', input: 7 }, 'invalid_request', 'input', 400],
    [{ model: 'coder', input: '' }, 'invalid_request', 'input', 400],
    [{ model: 'coder', input: [] }, 'invalid_request', 'input', 400],
    [{ model: 'coder', input: [{ role: 'robot', content: 'x' }] }, 'invalid_request', 'input[0].role', 400],
    [{ model: 'coder', input: [{ role: 'user' }] }, 'invalid_request', 'input[0].content', 400],
    [
      {
        model: 'coder',
        input: [{ role: 'user', content: [{ type: 'input_text', text: 'x' }, { type: 'input_image' }] }],
      },
      'unsupported_parameter',
      'input[0].content[1]',
      400,
    ],
    [{ model: 'coder', input: [{ type: 'function_call_output' }] }, 'unsupported_parameter', 'input[0]', 400],
    [{ model: 'coder', tools: [{ type: 'web_search' }] }, 'unsupported_parameter', 'tools', 400],
    [{ model: 'coder', background: true, store: false }, 'invalid_request', 'store', 400],
    [{ model: 'coder', stream: 'yes' }, 'invalid_request', 'stream', 400],
    [{ model: 'coder', temperature: 'hot' }, 'invalid_request', 'temperature', 400],
    [{ model: 'coder', metadata: { k: 'v'.repeat(513) } }, 'invalid_request', 'metadata.k', 400],
    [
      { model: 'coder', conversation: 'conv_1', previous_response_id: 'resp_1' },
      'invalid_request',
      'previous_response_id',
      400,
    ],
    [{ previous_response_id: 'resp_1' }, 'response_not_found', 'previous_response_id', 404],
    [{ conversation: 'conv_1' }, 'conversation_not_found', 'conversation', 404],
  ])('%j is refused as %s', async (body, code, param, status) => {
    await using net = await startNetwork()
    const error = await failure(clientOf(net).responses.create({ input: 'x', ...body } as never))
    expect(error).toMatchObject({ status, code, param, type: 'invalid_request_error' })
  })
})

describe('a conversation goes on', () => {
  test('only from its newest response; the other branch is refused', async () => {
    await using net = await startNetwork()
    const agent = await net.rawAgent({ pool: 'coder' })
    const first = await answered(net, agent, 0)
    const more = { previous_response_id: first.id, model: undefined }
    await answered(net, agent, 1, more)
    expect(await failure(clientOf(net).responses.create({ ...more, input: 'branch' }))).toMatchObject({
      status: 400,
      code: 'session_moved_on',
      param: 'previous_response_id',
    })
  })

  test('two that would follow the same response at the same time: one does', async () => {
    await using net = await startNetwork({ replicas: 2 })
    const agent = await net.rawAgent({ pool: 'coder' })
    const { id } = await answered(net, agent, 0)
    const say = (replica: number) =>
      clientOf(net, replica).responses.create({ previous_response_id: id, input: 'x', background: true })
    const both = await Promise.allSettled([say(0), say(1)])
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  })

  test('with the model of another pool it is refused', async () => {
    await using net = await startNetwork({ env: { POOLS: 'coder,writer' } })
    const { id } = await clientOf(net).responses.create({ model: 'coder', input: 'x', background: true })
    expect(
      await failure(clientOf(net).responses.create({ model: 'writer', previous_response_id: id, input: 'y' })),
    ).toMatchObject({ status: 400, code: 'invalid_request', param: 'model' })
  })

  test('while it is busy messages queue, up to the limit; then 429', async () => {
    await using net = await startNetwork({ env: { QUEUE_LIMIT: '1' } })
    const { id: conversation } = await clientOf(net).conversations.create()
    const say = () => clientOf(net).responses.create({ model: 'coder', input: 'x', conversation, background: true })
    await say()
    await say()
    const error = await failure(say())
    expect(error).toBeInstanceOf(OpenAI.RateLimitError)
    expect(error).toMatchObject({ code: 'queue_full', type: 'rate_limit_error' })
    expect(error.headers!.get('retry-after')).toBe('5')
  })
})

describe('what is not to be stored', () => {
  test('is answered, and is gone with its end: for OpenAI, natively, in the conversation', async () => {
    await using net = await startNetwork()
    const agent = await net.rawAgent({ pool: 'coder' })
    const asked = clientOf(net).responses.create({ model: 'coder', input: 'secret', store: false })
    const { request, interaction } = await agent.turn()
    agent.send(request, 1, text('psst'))
    await agent.acked(request, 1)
    const id = `resp_${interaction.slice(4)}`
    expect((await clientOf(net).responses.retrieve(id)).status).toBe('in_progress') // a broken stream can be resumed
    agent.send(request, 2, completed)
    const response = await asked
    expect(response).toMatchObject({ status: 'completed', output_text: 'psst', store: false })
    expect(await failure(clientOf(net).responses.retrieve(id))).toMatchObject({
      status: 404,
      code: 'response_not_found',
    })
    expect((await api(net.url(0), `/interactions/${interaction}`)).status).toBe(404)
    const conversation = response.conversation!.id
    expect((await clientOf(net).conversations.items.list(conversation)).data).toEqual([])
    const key = `${net.prefix}{ses_${interaction.slice(4, 30)}}:`
    const husk = await net.redis.hgetall(`${key}interaction:${interaction}`)
    expect(Object.keys(husk)).toEqual(expect.not.arrayContaining(['input', 'output', 'note', 'metadata']))
    expect(await net.redis.pttl(`${key}log:${interaction}`)).toBeLessThanOrEqual(60_000)
    await answered(net, agent, 1, { conversation, model: undefined }) // and the conversation goes on
  })

  test('is answered to the same POST made again within the minute, and is not done twice', async () => {
    await using net = await startNetwork({ replicas: 2 })
    const agent = await net.rawAgent({ pool: 'coder' })
    const body = { model: 'coder', input: 'secret', store: false, stream: true }
    const say = (replica: number) =>
      SseReader.post(`${net.url(replica)}/v1/responses`, body, { 'idempotency-key': 'k' })
    await using first = await say(0)
    await answer(agent, 0, text('psst'), completed)
    const told = await first.all()
    await using again = await say(1)
    expect(await again.all()).toEqual(told)
    expect(agent.turns).toHaveLength(1)
  })
})

test('a response that is not to be stored can be cancelled while it runs', async () => {
  await using net = await startNetwork()
  const agent = await net.rawAgent({ pool: 'coder' })
  const ask = { model: 'coder', input: 'x', store: false, metadata: { k: 'v' } }
  const stream = clientOf(net).responses.stream(ask)
  const { interaction } = await agent.turn()
  const cancelled = await clientOf(net).responses.cancel(`resp_${interaction.slice(4)}`)
  expect(cancelled).toMatchObject({ status: 'cancelled', store: false, metadata: { k: 'v' } })
  expect(await stream.finalResponse()).toMatchObject({ status: 'cancelled', metadata: { k: 'v' } })
})

describe('cancel and delete', () => {
  test('a cancel is seen by retrieve and by every stream, may be repeated, and comes too late after the end', async () => {
    await using net = await startNetwork({ replicas: 2 })
    // it settles nothing: the place of the cancelled turn would be taken for 10 s
    const agent = await net.rawAgent({ pool: 'coder', capacity: 2 })
    const client = clientOf(net)
    const stream = client.responses.stream({ model: 'coder', input: 'x' })
    const { request, interaction } = await agent.turn()
    const id = `resp_${interaction.slice(4)}`
    agent.send(request, 1, text('half'))
    await agent.acked(request, 1)
    expect(await clientOf(net, 1).responses.cancel(id)).toMatchObject({
      id,
      status: 'cancelled',
      output: [{ status: 'incomplete', content: [{ text: 'half' }] }],
    })
    expect((await stream.finalResponse()).status).toBe('cancelled')
    expect((await client.responses.cancel(id)).status).toBe('cancelled')
    const ended = await answered(net, agent, 1)
    expect(await failure(client.responses.cancel(ended.id))).toMatchObject({
      status: 400,
      code: 'response_not_cancellable',
    })
    expect(await failure(client.responses.cancel('resp_x'))).toMatchObject({ status: 404, code: 'response_not_found' })
  })

  test('delete forgets a response; a running one is cancelled first, and its stream ends', async () => {
    await using net = await startNetwork({ replicas: 2 })
    const agent = await net.rawAgent({ pool: 'coder' })
    const client = clientOf(net)
    const stream = client.responses.stream({ model: 'coder', input: 'x' })
    const { request, interaction, session } = await agent.turn()
    const id = `resp_${interaction.slice(4)}`
    agent.send(request, 1, text('half'))
    await agent.acked(request, 1)
    const gone = await fetch(`${net.url(1)}/v1/responses/${id}`, { method: 'DELETE' })
    expect(await gone.json()).toEqual({ id, object: 'response', deleted: true })
    expect((await stream.finalResponse()).status).toBe('cancelled')
    await eventually(() => agent.cancels.length > 0)
    for (const read of [client.responses.retrieve(id), client.responses.delete(id), client.responses.cancel(id)])
      expect(await failure(Promise.resolve(read))).toMatchObject({ status: 404, code: 'response_not_found' })
    expect((await api(net.url(0), `/interactions/${interaction}`)).status).toBe(404)
    expect((await api(net.url(0), `/sessions/${session}`)).status).toBe(200)
    const ended = await answered(net, agent, 1, { conversation: `conv_${session.slice(4)}`, model: undefined })
    await client.responses.delete(ended.id)
    expect(await failure(client.responses.retrieve(ended.id))).toMatchObject({ status: 404 })
  })
})

test('input items are listed as they were given, newest first, page by page', async () => {
  await using net = await startNetwork()
  const client = clientOf(net)
  const { id } = await client.responses.create({
    model: 'coder',
    background: true,
    input: [
      { role: 'system', content: 'Be brief.' },
      {
        role: 'user',
        content: [
          { type: 'input_text', text: 'One' },
          { type: 'input_text', text: 'Two' },
        ],
      },
      { role: 'assistant', content: 'Three' },
    ],
  })
  const page = await client.responses.inputItems.list(id, { limit: 2 })
  expect(page.data).toMatchObject([
    { role: 'assistant', content: [{ type: 'output_text', text: 'Three' }] },
    {
      role: 'user',
      content: [
        { type: 'input_text', text: 'One' },
        { type: 'input_text', text: 'Two' },
      ],
    },
  ])
  expect(page.has_more).toBe(true)
  const all = []
  for await (const item of client.responses.inputItems.list(id, { limit: 1, order: 'asc' })) all.push(item)
  expect(all.map((item) => (item as { role: string }).role)).toEqual(['system', 'user', 'assistant'])
  const plain = await client.responses.create({ model: 'coder', background: true, input: 'hello' })
  expect((await client.responses.inputItems.list(plain.id)).data).toMatchObject([
    { type: 'message', role: 'user', status: 'completed', content: [{ type: 'input_text', text: 'hello' }] },
  ])
  expect(await failure(client.responses.inputItems.list(id, { limit: 1000 }).then())).toMatchObject({ param: 'limit' })
  expect(await failure(client.responses.inputItems.list(id, { after: 'msg_x' }).then())).toMatchObject({
    param: 'after',
  })
})

describe('the stream', () => {
  test('is the same at every replay, live and finished, on any replica, from any number', async () => {
    await using net = await startNetwork({ replicas: 2 })
    const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
    await using live = await SseReader.post(`${net.url(0)}/v1/responses`, { model: 'coder', input: 'x', stream: true })
    const { request, interaction } = await agent.turn()
    const events = `${net.url(1)}/v1/responses/resp_${interaction.slice(4)}?stream=true`
    agent.send(request, 1, text('Do'))
    await agent.acked(request, 1)
    await using later = await SseReader.open(`${events}&starting_after=3`)
    agent.send(request, 2, text('ne.'), completed)
    const told = await live.all()
    for (const { lines } of told.slice(0, -1))
      expect(lines).toEqual([expect.stringMatching(/^event: [a-z_.]+$/), expect.stringMatching(/^data: /)])
    expect(told.at(-1)!.lines).toEqual(['data: [DONE]'])
    for (const frame of told.slice(0, -1)) expect(json(frame)['type']).toBe(frame.event)
    expect(told.slice(0, -1).map((frame) => json(frame)['sequence_number'])).toEqual(told.slice(1).map((_, i) => i))
    expect(await later.all()).toEqual(told.slice(4))
    await using replay = await SseReader.open(events)
    expect(await replay.all()).toEqual(told)
    for (const n of [0, 5, told.length - 2, told.length - 1, 10_000]) {
      await using rest = await SseReader.open(`${events}&starting_after=${n}`)
      expect(await rest.all()).toEqual(told.slice(Math.min(n + 1, told.length - 1)))
    }
  })

  test('of a live response has no number beyond what was said', async () => {
    await using net = await startNetwork()
    const agent = await net.rawAgent({ pool: 'coder' })
    const { id } = await clientOf(net).responses.create({ model: 'coder', input: 'x', background: true })
    const { request } = await agent.turn()
    const get = (after: string) =>
      SseReader.open(`${net.url(0)}/v1/responses/${id}?stream=true&starting_after=${after}`)
    for (const after of ['3', '99', '-1', 'x', '1.5']) {
      await using refused = await get(after)
      expect(refused.response.status).toBe(400)
      expect(await refused.response.json()).toMatchObject({ error: { code: 'invalid_cursor' } })
    }
    await using last = await get('2')
    expect(last.response.status).toBe(200)
    agent.send(request, 1, text('x'), completed)
    expect(json((await last.all())[0]!)).toMatchObject({ type: 'response.output_item.added', sequence_number: 3 })
  })

  test('of a response whose events are not kept any more is refused; the response itself is there', async () => {
    await using net = await startNetwork({ env: { RESUME_WINDOW_MS: '1000' } })
    const agent = await net.rawAgent({ pool: 'coder' })
    const { id } = await answered(net, agent, 0)
    await eventually(async () => {
      await using refused = await SseReader.open(`${net.url(0)}/v1/responses/${id}?stream=true`)
      if (refused.response.status === 200) return false
      expect(await refused.response.json()).toMatchObject({ error: { code: 'stream_expired' } })
      return refused.response.status === 400
    })
    expect((await clientOf(net).responses.retrieve(id)).output_text).toBe('Done.')
  })

  test('goes on where it stopped when Redis lost the tail of the log and the agent sent it again', async () => {
    await using net = await startNetwork({ replicas: 2, env: { SWEEP_EVERY_MS: '300' } })
    const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
    await using live = await SseReader.post(`${net.url(0)}/v1/responses`, { model: 'coder', input: 'x', stream: true })
    const { request, interaction } = await agent.turn()
    agent.send(request, 1, text('a'), text('b'), text('c'))
    await agent.acked(request, 3)
    const told = await live.until(({ data }) => data?.includes('"delta":"c"') === true)
    await loseTail(net, interaction, 2, 1)
    agent.send(request, 4, text('d'))
    await eventually(() => agent.resends.length > 0)
    const events = `${net.url(1)}/v1/responses/resp_${interaction.slice(4)}?stream=true`
    const last = json(told.at(-1)!)['sequence_number'] as number
    await using resumed = await SseReader.open(`${events}&starting_after=${last}`) // beyond what the log now has
    expect(resumed.response.status).toBe(200)
    agent.send(request, 2, text('b'), text('c'), text('d'), completed)
    const rest = await live.all()
    await using replay = await SseReader.open(events)
    expect([...told, ...rest]).toEqual(await replay.all())
    expect(await resumed.all()).toEqual(rest)
  })

  test('tells its end when the lost tail does not come again', async () => {
    await using net = await startNetwork({ env: { SWEEP_EVERY_MS: '300' } })
    const agent = await net.rawAgent({ pool: 'coder' })
    const stream = clientOf(net).responses.stream({ model: 'coder', input: 'x' })
    const seen: string[] = []
    stream.on('response.output_text.delta', ({ delta }) => void seen.push(delta))
    const { request, interaction } = await agent.turn()
    agent.send(request, 1, ...[...'abcdefgh'].map((letter) => text(letter)))
    await agent.acked(request, 8)
    await eventually(() => seen.length === 8)
    await loseTail(net, interaction, 7, 1)
    agent.send(request, 9, text('i'))
    await eventually(() => agent.resends.length > 0)
    agent.send(request, 2, { type: 'failed', code: 'agent_output_lost', message: 'A part of the answer is lost.' })
    await expect(stream.finalResponse()).rejects.toMatchObject({ code: 'agent_output_lost' })
    expect(seen.join('')).toBe('abcdefgh')
  })
})

test('silence is filled: comments in streams, and in a blocking read the header after 10 s, then line breaks', async () => {
  await using net = await startNetwork()
  const agent = await net.rawAgent({ pool: 'coder', capacity: 4 })
  const say = (path: string, more: object) => SseReader.post(`${net.url(0)}/v1/${path}`, { model: 'coder', ...more })
  const readers = await Promise.all([
    say('responses', { input: 'a', stream: true }),
    say('chat/completions', { messages: [{ role: 'user', content: 'b' }], stream: true }),
    say('responses', { input: 'c' }), // resolves with the header, before any agent has answered
  ])
  const [response, chat, blocking] = readers
  expect(agent.turns).toHaveLength(3)
  for (const viewer of [response, chat])
    expect((await viewer.until(({ comment }) => comment !== undefined)).at(-1)!.lines).toEqual([': keep-alive'])
  expect(blocking.response.status).toBe(200)
  expect(blocking.response.headers.get('content-type')).toMatch(/^application\/json/)
  for (const n of [0, 1, 2]) await answer(agent, n, text('Done.'), completed)
  const body = await blocking.response.text()
  expect(body).toMatch(/^\n+\{/)
  expect(JSON.parse(body)).toMatchObject({ status: 'completed', output: [{ content: [{ text: 'Done.' }] }] })
  for (const viewer of [response, chat]) expect((await viewer.all()).at(-1)!.data).toBe('[DONE]')
})

test('what is not offered is not there', async () => {
  await using net = await startNetwork()
  for (const path of ['responses/compact', 'responses/input_tokens', 'embeddings', 'responses/a/b']) {
    const res = await fetch(`${net.url(0)}/v1/${path}`, { method: 'POST' })
    expect(res.status).toBe(404)
    expect(await res.json()).toMatchObject({
      error: { code: 'unknown_url', type: 'invalid_request_error', param: null },
    })
  }
})

test('another owner’s responses and conversations do not exist', async () => {
  await using net = await startNetwork({ env: { CLIENT_KEYS: 'alice=key-of-alice-1,bob=key-of-bobby-1' } })
  const as = (apiKey: string) => new OpenAI({ baseURL: `${net.url(0)}/v1`, apiKey, maxRetries: 0 })
  const mine = await as('key-of-alice-1').responses.create({ model: 'coder', input: 'x', background: true })
  const conversation = mine.conversation!.id
  const { responses, conversations } = as('key-of-bobby-1')
  const tries: Promise<unknown>[] = [
    responses.retrieve(mine.id),
    responses.cancel(mine.id),
    Promise.resolve(responses.delete(mine.id)),
    responses.inputItems.list(mine.id).then(),
    responses.create({ model: 'coder', previous_response_id: mine.id, input: 'x' }),
    responses.create({ model: 'coder', conversation, input: 'x' }),
    conversations.retrieve(conversation),
    conversations.items.list(conversation).then(),
  ]
  for (const tried of tries) expect(await failure(tried)).toBeInstanceOf(OpenAI.NotFoundError)
  expect((await as('key-of-alice-1').responses.retrieve(mine.id)).status).toBe('queued')
})
