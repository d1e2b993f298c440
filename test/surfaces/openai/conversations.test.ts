import OpenAI from 'openai'
import { startNetwork, type Network } from '../../support/network.js'
import { completed, text, type RawAgent } from '../../support/raw-agent.js'

const clientOf = (net: Network, replica = 0) =>
  new OpenAI({ baseURL: `${net.url(replica)}/v1`, apiKey: 'any', maxRetries: 0 })

async function answered(client: OpenAI, agent: RawAgent, n: number, conversation: string, input: string) {
  const asked = client.responses.create({ model: 'coder', input, conversation })
  const { request } = await agent.turn(n)
  agent.send(request, 1, text(`${input}!`), completed)
  return asked
}

const textsOf = (items: unknown[]): string[] =>
  items.map((item) => (item as { content: { text: string }[] }).content.map((part) => part.text).join(''))

test('a conversation is made, described, used, listed and forgotten', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder' })
  const client = clientOf(net)
  const made = await client.conversations.create({
    metadata: { topic: 'build' },
    items: [{ type: 'message', role: 'user', content: 'Remember the cat.' }],
  })
  expect(made).toMatchObject({ object: 'conversation', metadata: { topic: 'build' } })
  expect(await clientOf(net, 1).conversations.retrieve(made.id)).toEqual(made)

  const first = await answered(client, agent, 0, made.id, 'one')
  expect(agent.turns[0]!.input).toBe('user: Remember the cat.\n\nuser: one')
  expect(first.conversation).toEqual({ id: made.id })
  await answered(clientOf(net, 1), agent, 1, made.id, 'two')
  expect(agent.turns[1]).toMatchObject({ input: 'two', session: agent.turns[0]!.session })

  const inOrder = ['Remember the cat.', 'one', 'one!', 'two', 'two!']
  const asc = []
  for await (const item of client.conversations.items.list(made.id, { order: 'asc', limit: 2 })) asc.push(item)
  expect(textsOf(asc)).toEqual(inOrder)
  const desc = []
  for await (const item of client.conversations.items.list(made.id, { limit: 3 })) desc.push(item)
  expect(textsOf(desc)).toEqual(inOrder.toReversed())
  for (const item of asc)
    expect(
      await client.conversations.items.retrieve((item as { id: string }).id, { conversation_id: made.id }),
    ).toEqual(item)

  const changed = await client.conversations.update(made.id, { metadata: { topic: 'release' } })
  expect(changed.metadata).toEqual({ topic: 'release' })
  expect((await clientOf(net, 1).conversations.retrieve(made.id)).metadata).toEqual({ topic: 'release' })

  expect(await client.conversations.delete(made.id)).toMatchObject({
    id: made.id,
    object: 'conversation.deleted',
    deleted: true,
  })
  const tries: Promise<unknown>[] = [
    client.conversations.retrieve(made.id),
    client.conversations.delete(made.id),
    client.conversations.update(made.id, { metadata: {} }),
    client.responses.retrieve(first.id),
    client.responses.create({ model: 'coder', conversation: made.id, input: 'x' }),
  ]
  for (const tried of tries) await expect(tried).rejects.toBeInstanceOf(OpenAI.NotFoundError)
})

test('a conversation belongs to the pool of its first response', async () => {
  await using net = await startNetwork({ env: { POOLS: 'coder,writer' } })
  const client = clientOf(net)
  const { id: conversation } = await client.conversations.create()
  const say = (model?: string) =>
    client.responses.create({ input: 'x', conversation, background: true, ...(model && { model }) })
  await expect(say()).rejects.toMatchObject({ status: 400, param: 'model' })
  await expect(say('nobody-has-it')).rejects.toMatchObject({ status: 404, code: 'model_not_found' })
  expect((await say('writer')).model).toBe('writer')
  expect((await say()).model).toBe('writer')
  await expect(say('coder')).rejects.toMatchObject({ status: 400, param: 'model' })
})

test('items of another conversation are not found in this one', async () => {
  await using net = await startNetwork()
  const client = clientOf(net)
  const [mine, other] = [await client.conversations.create(), await client.conversations.create()]
  await client.responses.create({ model: 'coder', input: 'x', conversation: other.id, background: true })
  const { id } = (await client.conversations.items.list(other.id)).data[0] as { id: string }
  await expect(client.conversations.items.list(mine.id, { after: id })).rejects.toMatchObject({
    status: 400,
    param: 'after',
  })
  await expect(client.conversations.items.retrieve(id, { conversation_id: mine.id })).rejects.toMatchObject({
    status: 404,
  })
})

test.each([
  [{ items: Array.from({ length: 21 }, () => ({ role: 'user', content: 'x' })) }, 'items'],
  [{ items: [{ role: 'user', content: [{ type: 'input_image' }] }] }, 'items[0].content[0]'],
  [{ metadata: { k: 7 } }, 'metadata.k'],
])('%j makes no conversation', async (body, param) => {
  await using net = await startNetwork()
  await expect(clientOf(net).conversations.create(body as never)).rejects.toMatchObject({ status: 400, param })
})
