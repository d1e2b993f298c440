import { outputText } from '../../src/protocol/fold.js'
import { api, post, watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'
import { startModelServer, type ModelServer } from '../support/openai-server.js'
import { joined, startExample } from './examples.js'

/** The agent as its header starts it, in front of this model server. */
async function startAgent(net: Network, model: ModelServer, args: string[] = []) {
  startExample(net, 'model-agent', ['--model-url', model.url, '--model', 'tiny', '--model-key', 'secret', ...args])
  await joined(net, 'model')
}

test('streams thoughts and text, maps usage and the finish reason, and sends the conversation along', async () => {
  await using model = await startModelServer((asked) => {
    asked.chunk({ choices: [{ delta: { role: 'assistant', content: '', reasoning_content: 'Hm. ' } }] })
    for (const word of ['It ', 'is ', '42 – ', '👋']) asked.text(word)
    asked.finish(model.asked.length === 1 ? 'stop' : 'length', {
      prompt_tokens: 12,
      completion_tokens: 7,
      prompt_tokens_details: { cached_tokens: 5 },
      completion_tokens_details: { reasoning_tokens: 2 },
    })
  })
  await using net = await startNetwork({ processes: true })
  await startAgent(net, model)
  const first = await post(net.url(0), { pool: 'model' }, 'What is it?')
  const seen = watch(net.url(0), first.interaction)
  await seen.done
  expect(seen.turn).toMatchObject({
    status: 'completed',
    stopReason: 'end_turn',
    usage: { inputTokens: 12, outputTokens: 7, cachedTokens: 5, reasoningTokens: 2 },
    entries: [
      { kind: 'reasoning', text: 'Hm. ' },
      { kind: 'text', text: 'It is 42 – 👋' },
    ],
  })
  expect(model.asked[0]!.body).toMatchObject({
    model: 'tiny',
    stream: true,
    messages: [{ role: 'system' }, { role: 'user', content: 'What is it?' }],
  })
  expect(model.asked[0]!.headers.authorization).toBe('Bearer secret')

  const second = await post(net.url(0), { session: first.session }, 'Sure?')
  const next = watch(net.url(0), second.interaction)
  await next.done
  expect(next.turn).toMatchObject({ status: 'completed', stopReason: 'max_tokens' })
  expect(model.asked[1]!.body.messages.slice(1)).toEqual([
    { role: 'user', content: 'What is it?' },
    { role: 'assistant', content: 'It is 42 – 👋' },
    { role: 'user', content: 'Sure?' },
  ])
})

test('what goes to the model is bounded, in messages and in characters, and begins with the user', async () => {
  await using model = await startModelServer((asked) => {
    asked.text('a'.repeat(10))
    asked.finish()
  })
  await using net = await startNetwork({ processes: true })
  await startAgent(net, model, ['--messages', '4', '--characters', '60'])
  const { session, interaction } = await post(net.url(0), { pool: 'model' }, '1')
  await watch(net.url(0), interaction).done
  for (const input of ['2', '3', 'x'.repeat(45), 'y'.repeat(500)])
    await watch(net.url(0), (await post(net.url(0), { session }, input)).interaction).done
  expect(
    model.asked.map(({ body }) =>
      body.messages
        .slice(1)
        .map((it) => it.content[0])
        .join(''),
    ),
  ).toEqual([
    '1',
    '1a2',
    '2a3', // of four messages the first was an answer
    '3ax',
    'y', // the last message goes whatever its length
  ])
})

test('a cancel reaches the model server, and the session goes on', async () => {
  await using model = await startModelServer((asked) => {
    asked.text('working ')
    if (model.asked.length > 1) asked.finish()
  })
  await using net = await startNetwork({ processes: true })
  await startAgent(net, model)
  const { session, interaction } = await post(net.url(0), { pool: 'model' }, 'Count to a million')
  const seen = watch(net.url(0), interaction)
  await eventually(() => outputText(seen.turn) === 'working ', { limitMs: 15_000 })
  await api(net.url(0), `/interactions/${interaction}/cancel`, {})
  await seen.done
  expect(seen.turn.status).toBe('cancelled')
  await eventually(() => model.asked[0]!.gone)
  const next = watch(net.url(0), (await post(net.url(0), { session }, 'Still there?')).interaction)
  await next.done
  expect(outputText(next.turn)).toBe('working ')
})

test('what goes wrong at the model server is a failed turn that says so', async () => {
  await using model = await startModelServer((asked) => {
    const { content } = asked.body.messages.at(-1)!
    if (content === 'refuse')
      return void asked.response.writeHead(404).end('{"error":{"message":"model \\"tiny\\" not found"}}')
    asked.text('half an ans')
    if (content === 'break') return void asked.response.socket!.destroySoon() // what was written goes out
    if (content === 'stop short') return void asked.response.end('data: [DONE]\n\n')
    asked.chunk({ error: { message: 'out of memory' } })
    asked.response.end()
  })
  await using net = await startNetwork({ processes: true })
  await startAgent(net, model)
  const failure = async (input: string) => {
    const seen = watch(net.url(0), (await post(net.url(0), { pool: 'model' }, input)).interaction)
    await seen.done
    expect(seen.turn).toMatchObject({ status: 'failed', error: { code: 'model_error' } })
    return seen.turn.error!.message
  }
  expect(await failure('refuse')).toBe(
    `The model server at ${model.url} answered 404: {"error":{"message":"model \\"tiny\\" not found"}}`,
  )
  expect(await failure('error')).toContain('broke off: out of memory')
  expect(await failure('break')).toContain(`The model server at ${model.url} terminated`)
  expect(await failure('stop short')).toContain('without a finish_reason')
  await model.close()
  expect(await failure('nobody there')).toContain('ECONNREFUSED')
})

test('a restarted agent says that it does not remember, and the conversation begins anew', async () => {
  await using model = await startModelServer((asked) => {
    asked.text('Yes.')
    asked.finish()
  })
  await using net = await startNetwork({ processes: true, env: { SWEEP_EVERY_MS: '300', AGENT_GRACE_MS: '1000' } })
  const first = startExample(net, 'model-agent', ['--model-url', model.url])
  await joined(net, 'model')
  const { session, interaction } = await post(net.url(0), { pool: 'model' }, 'one')
  await watch(net.url(0), interaction).done
  first.child.kill('SIGTERM')
  expect(await first.exited).toBe(0)
  startExample(net, 'model-agent', ['--model-url', model.url])
  await joined(net, 'model', 2)
  const seen = watch(net.url(0), (await post(net.url(0), { session }, 'two')).interaction)
  await seen.done
  expect(seen.turn).toMatchObject({ status: 'completed', attempt: 2 })
  expect(model.asked[1]!.body.messages.slice(1)).toEqual([{ role: 'user', content: 'two' }])
})
