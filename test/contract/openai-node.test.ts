import OpenAI from 'openai'
import type { ResponseStreamEvent } from 'openai/resources/responses/responses'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'
import { startRedisServer } from '../support/redis-server.js'
import { balance, replicaOf, RICH, say } from './agent.js'

/*
 * The package `openai` as a black box, as it is installed, against replicas that are real processes.
 */
const client = (url: string, more: { apiKey?: string; maxRetries?: number } = {}) =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey: 'any', ...more })

async function failure(asked: PromiseLike<unknown>): Promise<Error> {
  try {
    await asked
  } catch (error) {
    return error as Error
  }
  throw new Error('was answered')
}

test('the stream helper folds thoughts, tool calls and text into the final response', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true })
  const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
  const stream = client(net.url(0)).responses.stream({ model: 'coder', input: 'hello' })
  const events: ResponseStreamEvent[] = []
  stream.on('event', (event) => void events.push(event))
  expect(await say(agent, 0, RICH)).toBe('hello')
  const final = await stream.finalResponse()
  expect(final.output_text).toBe('Done: two files changed.')
  expect(final.output.map(({ type }) => type)).toEqual(['reasoning', 'mcp_call', 'message'])
  expect(final.usage).toMatchObject({ input_tokens: 12, output_tokens: 7, total_tokens: 19 })
  expect(events.map((event) => event.sequence_number)).toEqual(events.map((_, i) => i))
  const { output_parsed: _, ...folded } = final
  expect(JSON.parse(JSON.stringify(folded))).toMatchObject(
    JSON.parse(JSON.stringify({ ...(await client(net.url(1)).responses.retrieve(final.id)), _request_id: undefined })),
  )
})

test('kill -9 of the replica breaks a stream with an error; it goes on at another, by number and by helper', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true })
  const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
  const stream = await client(net.url(0)).responses.create({ model: 'coder', input: 'hello', stream: true })
  const seen: ResponseStreamEvent[] = []
  const reading = (async () => {
    for await (const event of stream) seen.push(event)
  })()
  reading.catch(() => {}) // looked at below
  await say(agent, 0, RICH.slice(0, 6))
  await eventually(() => seen.at(-1)?.type === 'response.output_text.delta')
  await net.replicas[0]!.kill9()
  expect(await failure(reading)).toMatchObject({ message: 'terminated' })
  const { response } = seen[0] as { response: OpenAI.Responses.Response }
  const after = seen.at(-1)!.sequence_number

  const rest = await client(net.url(1)).responses.retrieve(response.id, { stream: true, starting_after: after })
  const helper = client(net.url(1)).responses.stream({ response_id: response.id, starting_after: after })
  const helped: ResponseStreamEvent[] = []
  helper.on('event', (event) => void helped.push(event))
  await say(agent, 0, RICH.slice(6), 7)
  for await (const event of rest) seen.push(event)
  expect(seen.map((event) => event.sequence_number)).toEqual(seen.map((_, i) => i))
  const deltas = seen.flatMap((event) => (event.type === 'response.output_text.delta' ? [event.delta] : []))
  expect(deltas.join('')).toBe('Done: two files changed.')
  expect((await helper.finalResponse()).output_text).toBe('Done: two files changed.')
  expect(helped.map((event) => event.sequence_number)).toEqual(
    seen.map((event) => event.sequence_number).filter((n) => n > after),
  )
})

test.each([
  [
    'a response',
    (url: string) => client(url).responses.create({ model: 'coder', input: 'hello' }),
    (it: unknown) => (it as OpenAI.Responses.Response).output_text,
  ],
  [
    'a chat completion',
    (url: string) =>
      client(url).chat.completions.create({ model: 'coder', messages: [{ role: 'user', content: 'hello' }] }),
    (it: unknown) => (it as OpenAI.ChatCompletion).choices[0]!.message.content,
  ],
])(
  'kill -9 of the replica in mid-POST of %s: the SDK posts again by itself, and it is one turn',
  async (_, ask, textOf) => {
    await using net = await startNetwork({ replicas: 3, processes: true })
    const agent = await net.rawAgent({ pool: 'coder', replica: 2, capacity: 4 })
    const url = await balance(net) // the first two connections go to the first two replicas
    const asked = ask(url)
    const { interaction } = await agent.turn()
    const replica = await eventually(() => replicaOf(net, interaction) ?? false)
    expect(replica.id).not.toBe('r2')
    await replica.kill9()
    await say(agent, 0, [text('Done.'), completed])
    expect(textOf(await asked)).toBe('Done.')
    expect(agent.turns).toHaveLength(1)
  },
)

test('a failed turn is its own error in a stream, a status in a plain answer; a cancel is a status', async () => {
  await using net = await startNetwork({ processes: true })
  const agent = await net.rawAgent({ pool: 'coder', capacity: 4 })
  const failed = { type: 'failed' as const, code: 'out_of_luck', message: 'No luck.' }
  const ask = { model: 'coder', input: 'hello' }

  const raw = client(net.url(0)).responses.create({ ...ask, stream: true })
  await say(agent, 0, [text('half'), failed])
  const error = await failure(
    (async () => {
      for await (const _ of await raw) void _
    })(),
  )
  expect(error).toBeInstanceOf(OpenAI.APIError)
  expect(error).toMatchObject({ code: 'out_of_luck', type: 'server_error' })
  expect(error.message).toContain('No luck.')

  const plain = client(net.url(0)).responses.create(ask)
  await say(agent, 1, [text('half'), failed])
  expect(await plain).toMatchObject({ status: 'failed', output_text: 'half', error: { code: 'out_of_luck' } })
  expect(agent.turns).toHaveLength(2)

  const stream = client(net.url(0)).responses.stream(ask)
  const { request, interaction } = await agent.turn(2)
  agent.send(request, 1, text('half'))
  await agent.acked(request, 1)
  expect(await client(net.url(0)).responses.cancel(`resp_${interaction.slice(4)}`)).toMatchObject({
    status: 'cancelled',
  })
  expect(await stream.finalResponse()).toMatchObject({ status: 'cancelled', output_text: 'half' })
})

test('an answer that begins anew after the loss of an agent ends with the right text', async () => {
  await using net = await startNetwork({
    processes: true,
    env: { ON_AGENT_LOSS: 'retry', AGENT_GRACE_MS: '200', SWEEP_EVERY_MS: '200' },
  })
  const lost = await net.rawAgent({ pool: 'coder' })
  const stream = client(net.url(0)).responses.stream({ model: 'coder', input: 'hello' })
  await say(lost, 0, [text('half an ans')])
  lost.close()
  const agent = await net.rawAgent({ pool: 'coder' })
  await say(agent, 0, [text('Whole.'), completed])
  expect((await stream.finalResponse()).output_text).toBe('Whole.')
})

test('errors come as the SDK’s own: 401, 400, 404, 429', async () => {
  await using net = await startNetwork({
    processes: true,
    env: { CLIENT_KEYS: 'alice=key-of-alice-1', QUEUE_LIMIT: '0' },
  })
  const alice = client(net.url(0), { apiKey: 'key-of-alice-1', maxRetries: 0 })
  const ask = { model: 'coder', input: 'hello', background: true }
  const stranger = client(net.url(0), { apiKey: 'wrong' })
  expect(await failure(stranger.responses.create(ask))).toBeInstanceOf(OpenAI.AuthenticationError)
  expect(await failure(alice.responses.create({ ...ask, tools: [{ type: 'shell' }] }))).toBeInstanceOf(
    OpenAI.BadRequestError,
  )
  expect(await failure(alice.responses.create({ ...ask, model: 'nobody-has-it' }))).toBeInstanceOf(OpenAI.NotFoundError)
  expect(await failure(alice.responses.retrieve('resp_x'))).toBeInstanceOf(OpenAI.NotFoundError)
  const { id: conversation } = await alice.conversations.create()
  await alice.responses.create({ ...ask, conversation })
  expect(await failure(alice.responses.create({ ...ask, conversation }))).toBeInstanceOf(OpenAI.RateLimitError)
})

test('while Redis is away it is InternalServerError; the SDK’s own retry, Redis back, posts once', async () => {
  await using redis = await startRedisServer()
  await using net = await startNetwork({
    processes: true,
    redisUrl: redis.url,
    env: { REDIS_DEADLINE_MS: '800', PROBE_MS: '500', SWEEP_EVERY_MS: '300' },
  })
  await redis.kill9()
  const ask = { model: 'coder', input: 'hello' }
  const error = await failure(client(net.url(0), { maxRetries: 0 }).responses.create(ask))
  expect(error).toBeInstanceOf(OpenAI.InternalServerError)
  expect(error).toMatchObject({ status: 503, code: 'store_unavailable' })
  const asked = client(net.url(0), { maxRetries: 5 }).responses.create(ask)
  await eventually(() => net.replicas[0]!.logs.filter((line) => line['status'] === 503).length > 1, {
    limitMs: 15_000,
  })
  await redis.restart()
  await eventually(async () => (await fetch(`${net.replicas[0]!.opsUrl}/readyz`)).ok, { limitMs: 10_000 })
  const agent = await net.rawAgent({ pool: 'coder' })
  await say(agent, 0, [text('Done.'), completed])
  expect((await asked).output_text).toBe('Done.')
  expect(agent.turns).toHaveLength(1)
})
