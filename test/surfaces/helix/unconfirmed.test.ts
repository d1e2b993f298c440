import { answering, begun, prompted, typed as turnOf, types } from './scenes.js'
import { tell, type Story } from './story.js'

/** A turn of which something was heard before the agent's connection broke. */
async function broken(story: Story, words = 'One', entry = '3') {
  const { zed, running: id, request } = await answering(story, words, entry)
  zed.cut()
  await zed.closed
  return { id, request, back: await story.connect() }
}

test('an end that comes alone after a connection broke completes the turn, which says that words may be missing', async () => {
  await using story = await tell()
  const { id, request, back } = await broken(story)
  back.completed('T', request) // the words before it died with the connection
  expect(await story.become(id, 'completed')).toMatchObject({ text: 'One', stopReason: 'unconfirmed' })
})

test('a replica is killed with an agent’s last words: OpenAI’s clients see an incomplete response', async () => {
  await using story = await tell({ replicas: 2, processes: true })
  const { running: id, request } = await answering(story, 'One')
  await story.net.replicas[0]!.kill9()
  const back = await story.connect(1)
  back.completed('T', request)
  expect((await story.become(id, 'completed')).stopReason).toBe('unconfirmed')
  const body: unknown = await (await fetch(`${story.net.url(1)}/v1/responses/${id.replace('int_', 'resp_')}`)).json()
  expect(body).toMatchObject({ status: 'incomplete', incomplete_details: { reason: 'unconfirmed' } })
})

test('where the agent tells its answer again from the first entry on, nothing is in doubt', async () => {
  await using story = await tell()
  const { id, request, back } = await broken(story)
  back.text('T', '3', 'One two', request)
  back.text('T', '4', 'Three', request)
  back.completed('T', request)
  expect(await story.become(id, 'completed')).toMatchObject({ text: 'One two\n\nThree', stopReason: 'end_turn' })
})

test('where it is heard from a later entry on, what stood before that may be missing', async () => {
  await using story = await tell()
  const { id, request, back } = await broken(story)
  back.text('T', '4', 'Three', request)
  back.completed('T', request)
  expect(await story.become(id, 'completed')).toMatchObject({ text: 'One\n\nThree', stopReason: 'unconfirmed' })
})

test('that the agent tells an earlier turn again says nothing of this one: in doubt', async () => {
  await using story = await tell()
  const { id, request, back } = await broken(story)
  back.text('T', '1', 'hi', request)
  back.completed('T', request)
  expect(await story.become(id, 'completed')).toMatchObject({ text: 'One', stopReason: 'unconfirmed' })
})

test.each([
  ['4', 'unconfirmed'],
  ['3', 'end_turn'],
])(
  'a prompt that was sent twice is answered as first sent, and heard from entry %s on: %s',
  async (entry, stopReason) => {
    await using story = await tell({ env: { HELIX_QUIET_MS: '100' } })
    const { zed, running: id, request } = await prompted(story)
    zed.cut()
    await zed.closed
    const back = await story.connect()
    back.say('agent_ready', { agent_name: 'zed-agent', thread_id: 'T' })
    await back.command('chat_message')
    back.text('T', entry, 'The answer', request)
    back.completed('T', request)
    expect(await story.become(id, 'completed')).toMatchObject({ text: 'The answer', stopReason })
  },
)

test.each([
  ['6', 'unconfirmed'],
  ['1', 'end_turn'],
])('an agent whose numbers have begun anew tells its answer again from entry %s on: %s', async (entry, stopReason) => {
  await using story = await tell()
  const { zed, running: before, request: asked } = await prompted(story)
  zed.text('T', '10', 'Ten', asked)
  zed.completed('T', asked)
  await story.become(before, 'completed')
  const id = await story.post('and on')
  const { request_id: request } = await zed.command('chat_message', 2)
  zed.text('T', '1', 'One', request)
  await story.become(id, 'streaming')
  zed.cut()
  await zed.closed
  const back = await story.connect()
  if (entry === '1') back.text('T', '1', 'One', request)
  back.text('T', '6', 'Six', request)
  back.completed('T', request)
  expect(await story.become(id, 'completed')).toMatchObject({ text: 'One\n\nSix', stopReason })
})

test.each([
  ['1 2', 'unconfirmed'], // numbers may have begun anew: no prompt stands in between
  ['1 3', 'end_turn'],
  ['3 1', 'end_turn'],
  ['0 1', 'unconfirmed'],
])('of the entries %s an earlier turn has the one with number 1, which is not shown: %s', async (order, stopReason) => {
  await using story = await tell()
  const { zed, running: id, request } = await prompted(story)
  for (const entry of order.split(' ')) zed.text('T', entry, entry === '1' ? 'hi' : 'again', request)
  zed.completed('T', request)
  expect(await story.become(id, 'completed')).toMatchObject({ text: 'again', stopReason })
})

test('an entry that was lost and comes after a later one stands in another place than at the agent: in doubt', async () => {
  await using story = await tell()
  const { id, request, back } = await broken(story, 'Three', '4') // the telling of entry 3 is lost
  for (const [entry, text] of Object.entries({ '3': 'One two', '4': 'Three' })) back.text('T', entry, text, request)
  back.completed('T', request)
  expect(await story.become(id, 'completed')).toMatchObject({ text: 'Three\n\nOne two', stopReason: 'unconfirmed' })
})

test('an agent that is asked at the deadline and had finished may have said more than was heard, if its connection broke', async () => {
  await using story = await tell({ env: { AGENT_SILENT_MS: '1000' } })
  const { id, request, back } = await broken(story)
  await back.command('cancel_current_turn')
  back.say('turn_cancelled', { request_id: request, status: 'noop' })
  expect(await story.become(id, 'completed')).toMatchObject({ text: 'One', stopReason: 'unconfirmed' })
})

test('of what a person typed the first entry is the one after the message', async () => {
  await using story = await tell()
  const { zed, first } = await begun(story)
  types(zed, '5', 'typed', first)
  zed.text('T', '6', 'to what', first)
  const { id } = await turnOf(story, 'typed')
  await story.become(id, 'streaming')
  zed.cut()
  await zed.closed
  const back = await story.connect()
  back.text('T', '6', 'to what was typed', first)
  back.completed('T', first)
  expect(await story.become(id, 'completed')).toMatchObject({ text: 'to what was typed', stopReason: 'end_turn' })
})

test('an agent of 2025 that tells its whole answer at the end leaves no doubt, one that tells it in pieces does', async () => {
  await using story = await tell()
  let zed = (await begun(story)).zed
  for (const [n, type, stopReason] of [
    [1, 'chat_response', 'end_turn'],
    [0, 'chat_response_chunk', 'unconfirmed'],
  ] as const) {
    const id = await story.post('go on')
    const { request_id } = await zed.command('chat_message', n)
    zed.say('chat_response_chunk', { request_id, content: 'All ' })
    await story.become(id, 'streaming')
    zed.cut()
    await zed.closed
    zed = await story.connect()
    zed.say(type, { request_id, content: type === 'chat_response' ? 'All of it' : 'of it' })
    zed.say('chat_response_done', { request_id })
    expect(await story.become(id, 'completed')).toMatchObject({ text: 'All of it', stopReason })
  }
})
