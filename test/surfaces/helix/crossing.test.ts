import { eventually } from '../../support/eventually.js'
import { answering, begun, crossed, prompted, prompts, typed, types } from './scenes.js'
import { tell } from './story.js'

test('a prompt that crossed a person’s words and waits at the agent is not sent again: its answer is heard under its first request', async () => {
  await using story = await tell({ env: { HELIX_QUIET_MS: '10000' } })
  const { zed, first, queued, sent, typed } = await crossed(story)
  zed.text('T', '4', 'to what was typed', first)
  zed.completed('T', first)
  zed.text('T', '6', 'to what was queued', sent) // at once: the gateway has not even named the turn again
  zed.completed('T', sent)
  expect((await story.become(typed, 'completed')).text).toBe('to what was typed')
  expect((await story.become(queued, 'completed')).text).toBe('to what was queued')
  expect(prompts(zed)).toEqual(['hello', 'queued'])
})

test('the answer to a prompt that stepped back is not put to a person’s words whose end was lost with a connection', async () => {
  await using story = await tell({ env: { HELIX_QUIET_MS: '10000' } })
  const { zed, queued, sent, typed } = await crossed(story)
  await story.become(typed, 'streaming')
  zed.cut() // and with it the end of what was typed
  await zed.closed
  const back = await story.connect()
  back.text('T', '6', 'to what was', sent)
  expect((await story.become(typed, 'completed')).text).toBe('to what was')
  back.text('T', '6', 'to what was queued', sent)
  back.completed('T', sent)
  expect((await story.become(queued, 'completed')).text).toBe('to what was queued')
  expect([...prompts(zed), ...prompts(back)]).toEqual(['hello', 'queued'])
})

test('an error of the prompt that stepped back is not that of a person’s words of which nothing was heard', async () => {
  await using story = await tell({ env: { HELIX_QUIET_MS: '10000' } })
  const { zed, first } = await begun(story)
  const queued = await story.post('queued')
  const { request_id: sent } = await zed.command('chat_message', 1)
  types(zed, '3', 'typed', first)
  const { id: answered } = await typed(story, 'typed')
  zed.cut() // and with it the whole answer to what was typed
  await zed.closed
  const back = await story.connect()
  back.say('chat_response_error', { request_id: sent, error: 'exploded' })
  expect((await story.become(answered, 'failed')).error?.code).toBe('agent_output_lost')
  expect((await story.become(queued, 'failed')).error).toEqual({ code: 'agent_error', message: 'exploded' })
})

test('a person’s words end the turn before them whose own end was lost, and have their own answer', async () => {
  await using story = await tell()
  const { zed, running: id, request } = await answering(story)
  zed.cut() // and with it the end of that turn
  await zed.closed
  const back = await story.connect()
  types(back, '4', 'typed', request)
  back.text('T', '5', 'to what was typed', request)
  back.completed('T', request)
  expect((await story.become(id, 'completed')).text).toBe('the answer')
  const { id: answered } = await typed(story, 'typed')
  expect((await story.become(answered, 'completed')).text).toBe('to what was typed')
})

test('the end of the bounced prompt, or of an older one, does not end what a person typed', async () => {
  await using story = await tell()
  const { zed, first, queued, sent, typed: crossing } = await crossed(story)
  zed.completed('T', sent) // bounced, in the middle of the typed turn
  zed.text('T', '4', 'to what was typed', first)
  zed.completed('T', first)
  expect((await story.become(crossing, 'completed')).text).toBe('to what was typed')
  const { request_id: again } = await zed.command('chat_message', 2)
  zed.text('T', '6', 'to what was queued', again)
  zed.completed('T', again)
  expect((await story.become(queued, 'completed')).text).toBe('to what was queued')

  types(zed, '7', 'more', again)
  zed.text('T', '8', 'to', again)
  zed.completed('T', first) // told once more
  zed.text('T', '8', 'to that too', again)
  zed.completed('T', again)
  const later = await typed(story, 'more')
  expect((await story.become(later.id, 'completed')).text).toBe('to that too')
})

test('a cancel of what a person typed names the request that its words carry: the agent knows no other', async () => {
  await using story = await tell()
  const { zed, first } = await begun(story)
  types(zed, '3', 'typed', first)
  zed.text('T', '4', 'to what was', first)
  const { id: answered } = await typed(story, 'typed')
  await story.become(answered, 'streaming')
  await fetch(`${story.net.url(0)}/api/v1/interactions/${answered}/cancel`, { method: 'POST' })
  expect((await zed.command('cancel_current_turn'))['request_id']).toBe(first)
})

test('what an agent says after its replica began to leave, and before it knew, is in the answer', async () => {
  await using story = await tell({ replicas: 2 })
  const { zed, running: id, request } = await answering(story, 'half of')
  zed.socket.pause() // the close frame waits in its network
  const left = story.net.replicas[0]!.drain()
  await eventually(() => story.net.logged('drain_started').length > 0)
  zed.text('T', '3', 'half of the answer, and the rest', request)
  zed.completed('T', request)
  zed.socket.resume()
  expect((await zed.closed).code).toBe(1012)
  expect((await story.become(id, 'completed')).text).toBe('half of the answer, and the rest')
  await left
})

test('what a person types while the replica leaves is a turn with its whole answer, in its order', async () => {
  await using story = await tell({ replicas: 2 })
  const { zed } = await begun(story)
  zed.socket.pause() // the close frame waits in its network
  const left = story.net.replicas[0]!.drain()
  await eventually(() => story.net.logged('drain_started').length > 0)
  zed.say('user_created_thread', { acp_thread_id: 'U', title: 'Other' })
  zed.say('message_added', { acp_thread_id: 'U', message_id: '0', role: 'user', content: 'typed', request_id: '' })
  zed.text('U', '1', 'first')
  zed.text('U', '2', 'second')
  await eventually(() => story.net.logged('turn_begun_by_agent').length > 0)
  zed.socket.resume()
  expect((await zed.closed).code).toBe(1012)
  const back = await story.connect(1)
  back.text('U', '2', 'second entry') // the other it tells again at the end only
  back.text('U', '1', 'first entry, ')
  back.completed('U')
  const branch = await eventually(async () => (await story.sessions()).find(({ id }) => id !== story.session) ?? false)
  const [typed] = await eventually(async () => {
    const turns = await story.turns(branch.id)
    return turns[0]?.status === 'completed' && turns
  })
  expect(typed!.output.map(({ text }) => text)).toEqual(['first entry, ', 'second entry'])
  await left
})

test('a thread whose making did not reach the log, since a replica was killed, is known by its next words', async () => {
  await using story = await tell()
  const { zed } = await begun(story)
  zed.cut()
  await zed.closed
  expect(await story.net.redis.hdel(`${story.net.prefix}{${story.session}}:session`, 'thread')).toBe(1) // as the kill would leave it
  const back = await story.connect()
  types(back, '3', 'typed', '')
  back.text('T', '4', 'the answer')
  back.completed('T')
  await eventually(async () => (await story.turns()).find(({ origin }) => origin === 'agent')?.status === 'completed')
  expect(await story.thread()).toBe('T')
})

test('what an agent says to a replica that begins to leave while it is being welcomed is in the answer', async () => {
  await using story = await tell({ replicas: 2 })
  const { zed, running: id, request } = await prompted(story)
  zed.socket.pause() // its network stalls: who comes after it waits a while
  const back = await story.connect(1)
  back.text('T', '3', 'the answer', request)
  back.completed('T', request)
  const left = story.net.replicas[1]!.drain()
  expect((await back.closed).code).toBe(1012)
  expect((await story.become(id, 'completed')).text).toBe('the answer')
  await left
})

test('words of a cancelled turn stay out of later ones, also over a new connection, and when they are told again', async () => {
  await using story = await tell({ replicas: 2 })
  const { zed } = await begun(story)
  const id = await story.post('stop me')
  const { request_id: stopped } = await zed.command('chat_message', 1)
  zed.text('T', '3', 'words', stopped)
  await story.become(id, 'streaming')
  await story.net.replicas[0]!.drain()
  await zed.closed
  await fetch(`${story.net.url(1)}/api/v1/interactions/${id}/cancel`, { method: 'POST' })
  const next = await story.post('the next', {}, 1)

  const back = await story.connect(1)
  const { request_id: request } = await back.command('chat_message')
  back.text('T', '3', 'words that were said after the cancel', stopped)
  back.text('T', '4', 'and an entry of their own', stopped)
  back.completed('T', stopped)
  back.text('T', '6', 'the next answer', request)
  back.completed('T', request)
  expect((await story.become(next, 'completed')).text).toBe('the next answer')
  await eventually(async () => (await story.net.redis.keys(`*${story.session}*overheard`)).length === 1)
  back.cut()

  const third = await story.connect(1)
  await third.command('open_thread')
  const last = await story.post('the last', {}, 1)
  const { request_id: asked } = await third.command('chat_message')
  third.text('T', '3', 'words that were said after the cancel', asked) // the whole thread, told again
  third.text('T', '4', 'and an entry of their own', asked)
  third.text('T', '6', 'the next answer', asked)
  third.text('T', '8', 'the last answer', asked)
  third.completed('T', asked)
  expect((await story.become(last, 'completed')).text).toBe('the last answer')
})

test('a connection whose welcome took longer does not take the session back from a newer one, nor tell its turn again', async () => {
  await using story = await tell({ replicas: 2, processes: true })
  const { zed, running: id, request } = await prompted(story)
  zed.socket.pause() // its network stalls: it answers no close, and who comes after it waits a while
  const slow = await story.connect(1)
  story.net.replicas[1]!.freeze()
  slow.text('T', '3', 'half', request)
  const newest = await story.connect(0)
  newest.text('T', '3', 'half of it, and the rest', request)
  newest.completed('T', request)
  const next = await story.post('the next')
  const { request_id: asked } = await newest.command('chat_message')

  story.net.replicas[1]!.thaw()
  expect((await slow.closed).code).toBe(1008)
  newest.text('T', '5', 'the next answer', asked)
  newest.completed('T', asked)
  expect((await story.become(id, 'completed')).text).toBe('half of it, and the rest')
  expect((await story.become(next, 'completed')).text).toBe('the next answer')
})

test.each(['before', 'after'])(
  'a prompt that stepped back is not sent again at once, though what was typed ended while no connection was there; answered %s a while',
  async (when) => {
    await using story = await tell({ env: { HELIX_QUIET_MS: when === 'before' ? '10000' : '300' } })
    const { zed, queued, sent, typed } = await crossed(story)
    await story.become(typed, 'streaming')
    zed.cut()
    await zed.closed
    await fetch(`${story.net.url(0)}/api/v1/interactions/${typed}/cancel`, { method: 'POST' })
    await story.become(queued, 'waiting') // its turn has come, and nobody is there to have it
    const back = await story.connect()
    if (when === 'after')
      await back.command('chat_message') // silence: it may never have come, or was bounced
    else back.text('T', '6', 'to what was queued', sent)
    const request = back.of('chat_message')[0]?.['request_id'] ?? sent
    back.text('T', '6', 'to what was queued', request)
    back.completed('T', request)
    expect((await story.become(queued, 'completed')).text).toBe('to what was queued')
    expect(prompts(back)).toEqual(when === 'before' ? [] : ['queued'])
  },
)
