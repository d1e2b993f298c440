import { createOpenAI } from '@ai-sdk/openai'
import { APICallError, generateText, streamText } from 'ai'
import { api } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'
import { balance, replicaOf, RICH, say } from './agent.js'

/*
 * `ai` with `@ai-sdk/openai` as black boxes, on both APIs, against replicas that are real processes.
 */
const provider = (url: string, apiKey = 'any') => createOpenAI({ baseURL: `${url}/v1`, apiKey, fetch: ownFetch })

/** `fetch` with errors of this realm: under jest, whose modules live in another, the SDK would not know a TypeError. */
const ownFetch: typeof fetch = async (...args) => {
  try {
    return await fetch(...args)
  } catch (error) {
    const { name, message, cause } = error as Error
    throw name === 'TypeError' ? new TypeError(message, { cause }) : error
  }
}
const quiet = { onError: () => {} } // else it prints what the tests look at

type Part = { type: string; [field: string]: unknown }
async function partsOf(stream: AsyncIterable<unknown>): Promise<Part[]> {
  const parts: Part[] = []
  for await (const part of stream) parts.push(part as Part)
  return parts
}
const textOf = (parts: Part[]): string =>
  parts.flatMap((part) => (part.type === 'text-delta' ? [part['text']] : [])).join('')

const failed = { type: 'failed' as const, code: 'out_of_luck', message: 'No luck.' }

async function start(env: Record<string, string> = {}, replicas = 1): Promise<{ net: Network; url: string }> {
  const net = await startNetwork({ replicas, processes: true, env })
  return { net, url: net.url(0) }
}

test('Responses: thoughts, a tool call that was run already, and text, streamed and whole', async () => {
  const { net, url } = await start()
  await using _ = net
  const agent = await net.rawAgent({ pool: 'coder', capacity: 4 })
  const model = provider(url).responses('coder')
  const streamed = streamText({ model, prompt: 'hello', ...quiet })
  const parts = partsOf(streamed.fullStream)
  expect(await say(agent, 0, RICH)).toBe('hello')
  expect(textOf(await parts)).toBe('Done: two files changed.')
  expect(await streamed.text).toBe('Done: two files changed.')
  expect(await streamed.reasoningText).toBe('Let me think.')
  expect(await streamed.finishReason).toBe('stop')
  expect(await streamed.usage).toMatchObject({ inputTokens: 12, outputTokens: 7, totalTokens: 19 })
  expect(await streamed.toolCalls).toMatchObject([
    { toolName: 'mcp.Read test.ts', providerExecuted: true, dynamic: true, input: {} },
  ])
  expect(await streamed.toolResults).toMatchObject([{ output: { output: '12 lines', serverLabel: 'coder' } }])
  expect((await parts).filter(({ type }) => type === 'error')).toEqual([])

  const generated = generateText({ model, prompt: 'hello' })
  await say(agent, 1, RICH)
  expect(await generated).toMatchObject({ text: 'Done: two files changed.', finishReason: 'stop' })
  expect((await generated).steps).toHaveLength(1) // nothing was run by the client, so nothing was asked again
  expect(agent.turns).toHaveLength(2)
})

test('Responses: a chat goes on, by the whole history with references, or by the previous response', async () => {
  const { net, url } = await start()
  await using _ = net
  const agent = await net.rawAgent({ pool: 'coder', capacity: 4 })
  const model = provider(url).responses('coder')
  const first = generateText({ model, prompt: 'hello' })
  await say(agent, 0, RICH)
  const { response, providerMetadata } = await first
  const messages = [{ role: 'user' as const, content: 'hello' }, ...response.messages]
  const again = generateText({ model, messages: [...messages, { role: 'user', content: 'and?' }] })
  await say(agent, 1, RICH)
  expect((await again).text).toBe('Done: two files changed.')
  expect(agent.turns[1]!.input).toBe('user: hello\n\nassistant: Done: two files changed.\n\nuser: and?')

  const previousResponseId = providerMetadata!['openai']!['responseId'] as string
  const next = generateText({ model, prompt: 'and?', providerOptions: { openai: { previousResponseId } } })
  await say(agent, 2, [text('So.'), completed])
  expect((await next).text).toBe('So.')
  expect(agent.turns[2]).toMatchObject({ input: 'and?', session: agent.turns[0]!.session })
})

test('Responses: a failure is an error with its message, a cancel a finish of another kind', async () => {
  const { net, url } = await start()
  await using _ = net
  const agent = await net.rawAgent({ pool: 'coder', capacity: 4 })
  const model = provider(url).responses('coder')
  const errors: unknown[] = []
  const streamed = streamText({ model, prompt: 'hello', onError: ({ error }) => void errors.push(error) })
  await say(agent, 0, [text('half'), failed])
  expect(textOf(await partsOf(streamed.fullStream))).toBe('half')
  expect(errors).toHaveLength(1)
  expect(JSON.stringify(errors[0]) + String(errors[0])).toContain('No luck.')
  expect(await streamed.finishReason).toBe('error')

  const plain = generateText({ model, prompt: 'hello' })
  await say(agent, 1, [failed])
  await expect(plain).rejects.toMatchObject({ message: 'No luck.', isRetryable: false })
  expect(agent.turns).toHaveLength(2)

  const cancelled = streamText({ model, prompt: 'hello', ...quiet })
  const parts = partsOf(cancelled.fullStream)
  const { request, interaction } = await agent.turn(2)
  agent.send(request, 1, text('half'))
  await agent.acked(request, 1)
  await fetch(`${net.url(0)}/v1/responses/resp_${interaction.slice(4)}/cancel`, { method: 'POST' })
  expect(textOf(await parts)).toBe('half')
  expect(await cancelled.finishReason).toBe('other')
})

test('Responses: an agent that is lost in mid-answer is replaced, and nothing throws', async () => {
  const { net, url } = await start({ ON_AGENT_LOSS: 'retry', AGENT_GRACE_MS: '200', SWEEP_EVERY_MS: '200' })
  await using _ = net
  const lost = await net.rawAgent({ pool: 'coder' })
  const streamed = streamText({ model: provider(url).responses('coder'), prompt: 'hello', ...quiet })
  const parts = partsOf(streamed.fullStream)
  await say(lost, 0, [text('half an ans')])
  lost.close()
  const agent = await net.rawAgent({ pool: 'coder' })
  await say(agent, 0, [text('Whole.'), completed])
  const texts = new Map<unknown, string>()
  for (const part of await parts)
    if (part.type === 'text-delta') texts.set(part['id'], (texts.get(part['id']) ?? '') + String(part['text']))
  expect([...texts.values()]).toEqual(['half an ans', 'Whole.']) // two parts: it has no word for "void"
  expect((await parts).filter(({ type }) => type === 'error')).toEqual([])
  expect(await streamed.finishReason).toBe('stop')
})

test('Chat Completions: streamed, whole, and failing', async () => {
  const { net, url } = await start()
  await using _ = net
  const agent = await net.rawAgent({ pool: 'coder', capacity: 4 })
  const model = provider(url).chat('coder')
  const streamed = streamText({ model, prompt: 'hello', ...quiet })
  await say(agent, 0, RICH)
  expect(await streamed.text).toBe('Done: two files changed.')
  expect(await streamed.usage).toMatchObject({ inputTokens: 12, outputTokens: 7 })

  const generated = generateText({ model, prompt: 'hello' })
  await say(agent, 1, RICH)
  expect((await generated).text).toBe('Done: two files changed.')

  const errors: unknown[] = []
  const broken = streamText({ model, prompt: 'hello', onError: ({ error }) => void errors.push(error) })
  await say(agent, 2, [text('half'), failed])
  expect(textOf(await partsOf(broken.fullStream))).toBe('half')
  expect(JSON.stringify(errors[0]) + String(errors[0])).toContain('No luck.')

  const plain = generateText({ model, prompt: 'hello', maxRetries: 1 })
  await say(agent, 3, [failed])
  const error = await plain.catch((thrown: unknown) => thrown)
  expect(JSON.stringify(error)).toContain('No luck.')
  expect(JSON.stringify(error)).toContain('502')
  expect(agent.turns).toHaveLength(4) // it asks again, without a word of it, and gets the same answer
})

test('kill -9 of the replica in mid-stream is an error part; the turn goes on and can be read elsewhere', async () => {
  const { net, url } = await start({}, 2)
  await using _ = net
  const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
  const streamed = streamText({ model: provider(url).responses('coder'), prompt: 'hello', ...quiet })
  const parts: Part[] = []
  const reading = (async () => {
    for await (const part of streamed.fullStream) parts.push(part as Part)
  })()
  reading.catch(() => {}) // looked at below
  const { interaction } = await agent.turn()
  await say(agent, 0, RICH.slice(0, 6))
  await eventually(() => textOf(parts) === 'Done: ')
  await net.replicas[0]!.kill9()
  await reading.catch((error: unknown) => parts.push({ type: 'error', error }))
  expect(parts.some(({ type }) => type === 'error')).toBe(true)
  await say(agent, 0, RICH.slice(6), 7)
  await eventually(async () => {
    const { body } = await api<{ status: string; text: string }>(net.url(1), `/interactions/${interaction}`)
    return body.status === 'completed' && body.text === 'Done: two files changed.'
  })
})

test('a reader that aborts does not cancel', async () => {
  const { net, url } = await start()
  await using _ = net
  const agent = await net.rawAgent({ pool: 'coder' })
  const stop = new AbortController()
  const model = provider(url).responses('coder')
  const streamed = streamText({ model, prompt: 'hello', abortSignal: stop.signal, ...quiet })
  const reading = partsOf(streamed.fullStream).catch(() => [])
  const { interaction } = await agent.turn()
  await say(agent, 0, [text('half')])
  stop.abort()
  await reading
  await say(agent, 0, [completed], 2)
  expect((await api<{ status: string }>(net.url(0), `/interactions/${interaction}`)).body.status).toBe('completed')
})

test('errors come as APICallError: 401, 400, 404, 429; what may be retried says so', async () => {
  const { net, url } = await start({ CLIENT_KEYS: 'alice=key-of-alice-1', QUEUE_LIMIT: '0' })
  await using _ = net
  const alice = provider(url, 'key-of-alice-1')
  const ask = (model: ReturnType<typeof alice.responses>, providerOptions = {}) =>
    generateText({ model, prompt: 'hello', maxRetries: 0, providerOptions })
  const failure = async (asked: Promise<unknown>): Promise<unknown> =>
    asked.then(
      () => Promise.reject(new Error('was answered')),
      (error: unknown) => error,
    )
  const unknown = await failure(ask(provider(url, 'wrong').responses('coder')))
  expect(APICallError.isInstance(unknown)).toBe(true)
  expect(unknown).toMatchObject({ statusCode: 401, isRetryable: false })
  expect(await failure(ask(alice.responses('nobody-has-it')))).toMatchObject({ statusCode: 404 })
  expect(await failure(ask(alice.responses('coder'), { openai: { previousResponseId: 'resp_x' } }))).toMatchObject({
    statusCode: 404,
  })
  const made = await fetch(`${url}/v1/conversations`, {
    method: 'POST',
    headers: { authorization: 'Bearer key-of-alice-1' },
  })
  const { id: conversation } = (await made.json()) as { id: string }
  const body = JSON.stringify({ model: 'coder', input: 'x', conversation, background: true })
  const headers = { authorization: 'Bearer key-of-alice-1', 'content-type': 'application/json' }
  await fetch(`${url}/v1/responses`, { method: 'POST', headers, body })
  expect(await failure(ask(alice.responses('coder'), { openai: { conversation } }))).toMatchObject({
    statusCode: 429,
    isRetryable: true,
  })
  expect(
    await failure(
      generateText({
        model: alice.responses('coder'),
        maxRetries: 0,
        messages: [{ role: 'user', content: [{ type: 'image', image: new URL('https://example.com/x.png') }] }],
      }),
    ),
  ).toMatchObject({ statusCode: 400 })
})

test('kill -9 of the replica in mid-POST: its retry carries no mark, so only an Idempotency-Key makes it one turn', async () => {
  await using net = await startNetwork({ replicas: 3, processes: true })
  const agent = await net.rawAgent({ pool: 'coder', replica: 2, capacity: 4 })
  const model = provider(await balance(net)).responses('coder')
  const asked = generateText({ model, prompt: 'hello', headers: { 'Idempotency-Key': 'once' } })
  const { interaction } = await agent.turn()
  await (await eventually(() => replicaOf(net, interaction) ?? false)).kill9()
  await say(agent, 0, [text('Done.'), completed])
  expect((await asked).text).toBe('Done.')
  expect(agent.turns).toHaveLength(1)
})
