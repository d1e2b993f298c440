import { eventually } from '../../support/eventually.js'
import { startRedisServer, type RedisServer } from '../../support/redis-server.js'
import { answering, begun, crossed, overlaid, prompted, prompts, typed, types } from './scenes.js'
import { tell, type Story } from './story.js'

/*
 * What a person types at the agent: a turn of its own, whose words carry the request of an earlier prompt. Here with what
 * clients and connections do meanwhile.
 */

const OUTAGE = { REDIS_DEADLINE_MS: '500', LEASE_TTL_MS: '3000' }

const cancel = (story: Story, id: string) =>
  fetch(`${story.net.url(0)}/api/v1/interactions/${id}/cancel`, { method: 'POST' })

test('what was typed while a turn ran has its answer also when the agent connects anew before it is named', async () => {
  await using story = await tell()
  const { zed, running, request, typed } = await overlaid(story)
  zed.cut()
  await zed.closed
  const back = await story.connect()
  back.completed('T', request) // of the turn that ran; all this it had kept
  back.text('T', '5', 'to what was typed', request)
  back.completed('T', request)
  expect((await story.become(running, 'completed')).text).toBe('the answer')
  expect((await story.become(typed, 'completed')).text).toBe('to what was typed')
})

test('the answer to what was typed is not put to the turn before it, whose end was lost with a connection', async () => {
  await using story = await tell()
  const { zed, running, request, typed } = await overlaid(story)
  zed.cut() // and with it the end of the turn that ran
  await zed.closed
  const back = await story.connect()
  back.text('T', '5', 'to what was typed', request)
  back.completed('T', request)
  expect((await story.become(running, 'completed')).text).toBe('the answer')
  expect((await story.become(typed, 'completed')).text).toBe('to what was typed')
})

test('of several messages in a row each is a turn, in their order, and the answer is the last one’s', async () => {
  await using story = await tell()
  const { zed, first } = await begun(story)
  types(zed, '3', 'one', first)
  zed.text('T', '4', 'to one', first)
  types(zed, '5', 'two', first)
  types(zed, '6', 'three', first)
  const [one, two, three] = [await typed(story, 'one'), await typed(story, 'two'), await typed(story, 'three')]
  zed.completed('T', first) // each of them cut the one before it
  zed.completed('T', first)
  zed.text('T', '7', 'to three', first)
  zed.completed('T', first)
  expect((await story.become(one.id, 'completed')).text).toBe('to one')
  expect((await story.become(two.id, 'completed')).text).toBe('')
  expect((await story.become(three.id, 'completed')).text).toBe('to three')
})

test('what was typed and cancelled by a client before its turn holds nothing up, and its answer is nobody’s', async () => {
  await using story = await tell()
  const { zed, running, request, typed } = await overlaid(story)
  await cancel(story, typed)
  zed.completed('T', request)
  expect((await story.become(running, 'completed')).text).toBe('the answer')
  for (const words of ['to', 'to what', 'to what was', 'to what was typed']) zed.text('T', '5', words, request)
  expect((await zed.command('cancel_current_turn'))['request_id']).toBe(request)
  const next = await story.post('next')
  const { request_id: asked } = await zed.command('chat_message', 2)
  zed.text('T', '5', 'to what was typed, and more', request)
  zed.text('T', '6', 'another entry', request)
  zed.completed('T', request)
  zed.text('T', '8', 'the next answer', asked)
  zed.completed('T', asked)
  expect((await story.become(next, 'completed')).text).toBe('the next answer')
})

test('words of a typed turn that a client cancelled while it was answered stay out of the next turn', async () => {
  await using story = await tell()
  const { zed, first } = await begun(story)
  types(zed, '3', 'typed', first)
  zed.text('T', '4', 'to what', first)
  const { id } = await typed(story, 'typed')
  await story.become(id, 'streaming')
  await cancel(story, id)
  await zed.command('cancel_current_turn')
  const next = await story.post('next')
  zed.say('turn_cancelled', { request_id: first, status: 'cancelled' })
  const { request_id: asked } = await zed.command('chat_message', 1)
  zed.text('T', '4', 'to what was typed', first)
  zed.text('T', '5', 'another entry', first)
  zed.completed('T', first)
  zed.text('T', '7', 'the next answer', asked)
  zed.completed('T', asked)
  expect((await story.become(next, 'completed')).text).toBe('the next answer')
})

test('the answer to a prompt that stepped back and was cancelled is nobody’s, and the agent is told', async () => {
  await using story = await tell({ env: { HELIX_QUIET_MS: '10000' } })
  const { zed, first, queued, sent, typed } = await crossed(story)
  await cancel(story, queued)
  zed.text('T', '4', 'to what was typed', first)
  zed.completed('T', first)
  expect((await story.become(typed, 'completed')).text).toBe('to what was typed')
  for (const words of ['to', 'to what', 'to what was', 'to what was queued']) zed.text('T', '6', words, sent)
  expect((await zed.command('cancel_current_turn'))['request_id']).toBe(sent)
  const next = await story.post('next')
  const { request_id: asked } = await zed.command('chat_message', 2)
  zed.text('T', '7', 'another entry', sent)
  zed.completed('T', sent)
  zed.text('T', '9', 'the next answer', asked)
  zed.completed('T', asked)
  expect((await story.become(next, 'completed')).text).toBe('the next answer')
})

/** A prompt that stepped back, whose turn has come, on a new connection: the agent has it from its first delivery only. */
async function askedBefore(story: Story) {
  const { zed, first, queued, sent, typed } = await crossed(story)
  zed.text('T', '4', 'to what was typed', first)
  zed.completed('T', first)
  await story.become(typed, 'completed')
  await eventually(async () => (await story.shown(queued)).attempt === 2)
  zed.cut()
  await zed.closed
  return { queued, sent, back: await story.connect() }
}

test('a prompt that stepped back and is bounced over a new connection is sent again', async () => {
  await using story = await tell({ env: { HELIX_QUIET_MS: '1500' } })
  const { queued, sent, back } = await askedBefore(story)
  back.completed('T', sent)
  const { request_id: again } = await back.command('chat_message')
  back.text('T', '6', 'to what was queued', again)
  back.completed('T', again)
  expect((await story.become(queued, 'completed')).text).toBe('to what was queued')
})

test('an error of a prompt that stepped back is told over a new connection too', async () => {
  await using story = await tell({ env: { HELIX_QUIET_MS: '10000' } })
  const { queued, sent, back } = await askedBefore(story)
  back.say('chat_response_error', { request_id: sent, error: 'exploded' })
  expect((await story.become(queued, 'failed')).error).toEqual({ code: 'agent_error', message: 'exploded' })
})

test('an agent that was not there when its turn was cancelled is told as soon as it is heard at it', async () => {
  await using story = await tell()
  const { zed, running: id, request } = await answering(story, 'the')
  zed.cut()
  await zed.closed
  await cancel(story, id)
  const back = await story.connect()
  for (const words of ['the answer', 'the answer goes', 'the answer goes on']) back.text('T', '3', words, request)
  expect((await back.command('cancel_current_turn'))['request_id']).toBe(request)
  back.completed('T', request)
  const next = await story.post('next')
  const { request_id: asked } = await back.command('chat_message')
  back.text('T', '5', 'the next answer', asked)
  back.completed('T', asked)
  expect((await story.become(next, 'completed')).text).toBe('the next answer')
  expect(back.of('cancel_current_turn')).toHaveLength(1)
})

test('an interrupt goes after what a person has typed by then: that is answered, and ends', async () => {
  await using story = await tell()
  const { zed, running, request, typed } = await overlaid(story)
  const urgent = await story.post('urgent', { interrupt: true })
  await story.become(running, 'cancelled')
  zed.completed('T', request)
  zed.text('T', '5', 'to what was typed', request)
  zed.completed('T', request)
  expect((await story.become(typed, 'completed')).text).toBe('to what was typed')
  const { request_id: asked } = await zed.command('chat_message', 2)
  zed.text('T', '7', 'at once', asked)
  zed.completed('T', asked)
  expect((await story.become(urgent, 'completed')).text).toBe('at once')
})

test('an interrupt of what a person typed has its own answer, not that of the prompt that had stepped back', async () => {
  await using story = await tell({ env: { HELIX_QUIET_MS: '10000' } })
  const { zed, first, queued, sent, typed } = await crossed(story)
  await story.become(typed, 'streaming')
  const urgent = await story.post('urgent', { interrupt: true })
  expect((await zed.command('cancel_current_turn'))['request_id']).toBe(first)
  zed.say('turn_cancelled', { request_id: first, status: 'cancelled' })
  zed.completed('T', first)
  const { request_id: asked } = await zed.command('chat_message', 2)
  zed.text('T', '6', 'to what was queued', sent) // it had that in its line
  zed.completed('T', sent)
  zed.text('T', '8', 'at once', asked)
  zed.completed('T', asked)
  expect((await story.become(urgent, 'completed')).text).toBe('at once')
  const { request_id: again } = await zed.command('chat_message', 3)
  zed.text('T', '10', 'to what was queued, again', again)
  zed.completed('T', again)
  expect((await story.become(queued, 'completed')).text).toBe('to what was queued, again')
  expect(prompts(zed)).toEqual(['hello', 'queued', 'urgent', 'queued'])
})

test('an error of the prompt that stepped back does not end what a person typed in its middle', async () => {
  await using story = await tell({ env: { HELIX_QUIET_MS: '10000' } })
  const { zed, first, queued, sent, typed } = await crossed(story)
  await story.become(typed, 'streaming')
  zed.say('chat_response_error', { request_id: sent, error: 'busy' })
  zed.text('T', '4', 'to what was typed', first)
  zed.completed('T', first)
  expect((await story.become(typed, 'completed')).text).toBe('to what was typed')
  const { request_id: again } = await zed.command('chat_message', 2)
  zed.text('T', '6', 'to what was queued', again)
  zed.completed('T', again)
  expect((await story.become(queued, 'completed')).text).toBe('to what was queued')
})

test('the words of the last prompt, typed once more after its answer, are no echo of it', async () => {
  await using story = await tell()
  const { zed, first } = await begun(story)
  types(zed, '3', 'hello', first)
  zed.text('T', '4', 'hi again', first)
  zed.completed('T', first)
  const { id } = await typed(story, 'hello')
  expect((await story.become(id, 'completed')).text).toBe('hi again')
})

test('a turn whose first words are on their way into the log does not step back for what a person types', async () => {
  await using story = await tell()
  const zed = await story.connect()
  const running = await story.post('hello')
  const { request_id: request } = await zed.command('chat_message')
  zed.say('thread_created', { acp_thread_id: 'T', request_id: request }) // all at once, as after a reconnect
  zed.text('T', '1', 'the answer', request)
  types(zed, '2', 'typed', request)
  zed.completed('T', request)
  zed.text('T', '3', 'to what was typed', request)
  zed.completed('T', request)
  expect((await story.become(running, 'completed')).text).toBe('the answer')
  expect((await story.become((await typed(story, 'typed')).id, 'completed')).text).toBe('to what was typed')
  expect(prompts(zed)).toEqual(['hello'])
})

test('what is typed while Redis is away is a turn when it is back, with its answer', async () => {
  await using redis = await startRedisServer()
  await using story = await tell({ redisUrl: redis.url, env: { REDIS_DEADLINE_MS: '500' } })
  const { zed, first } = await begun(story)
  redis.freeze()
  types(zed, '3', 'typed', first)
  zed.text('T', '4', 'to what was typed', first)
  zed.completed('T', first)
  await eventually(() => story.net.replicas[0]!.logs.some((line) => line['what'] === 'helix frame'))
  redis.thaw()
  const { id } = await typed(story, 'typed')
  expect((await story.become(id, 'completed')).text).toBe('to what was typed')
  expect((await story.turns()).map(({ input }) => input)).toEqual(['hello', 'typed'])
})

/** Redis goes away, a person types and is answered, the connection closes, and its replica has given up all but that. */
async function cutInAnOutage(story: Story, redis: RedisServer) {
  const { zed, running, request } = await answering(story, 'the')
  redis.freeze()
  const { logs } = story.net.replicas[0]!
  const away = () => logs.filter((line) => line['event'] === 'store_unavailable' && line['what'] === 'heartbeat').length
  zed.text('T', '3', 'the answer', request)
  zed.completed('T', request)
  types(zed, '4', 'typed', request)
  zed.text('T', '5', 'to what was typed', request)
  zed.completed('T', request)
  await eventually(() => logs.some((line) => line['what'] === 'append'))
  zed.cut()
  await zed.closed
  const before = away()
  await eventually(() => away() > before + 5, { limitMs: 20_000 }) // longer than an ending connection waits otherwise
  return { running }
}

test('what is typed while Redis is away is a turn also when its connection closed before Redis was back', async () => {
  await using redis = await startRedisServer()
  await using story = await tell({ redisUrl: redis.url, env: OUTAGE })
  const { running } = await cutInAnOutage(story, redis)
  redis.thaw()
  const { id } = await typed(story, 'typed')
  expect((await story.become(running, 'completed')).text).toBe('the answer')
  expect((await story.become(id, 'completed')).text).toBe('to what was typed')
  const back = await story.connect()
  const next = await story.post('the next')
  const { request_id: asked } = await back.command('chat_message')
  back.text('T', '7', 'the next answer', asked)
  back.completed('T', asked)
  expect((await story.become(next, 'completed')).text).toBe('the next answer')
  expect((await story.turns()).map(({ input }) => input)).toEqual(['hello', 'go on', 'typed', 'the next'])
})

test.each([0, 1])(
  'a connection that comes as soon as Redis is back, at replica %s, waits for what the one before it had heard',
  async (at) => {
    await using redis = await startRedisServer()
    await using story = await tell({ redisUrl: redis.url, replicas: 2, env: OUTAGE })
    const { running } = await cutInAnOutage(story, redis)
    redis.thaw()
    const back = await eventually(() => story.connect(at), { limitMs: 15_000 })
    const { id } = await typed(story, 'typed')
    expect((await story.become(running, 'completed')).text).toBe('the answer')
    expect((await story.become(id, 'completed')).text).toBe('to what was typed')
    expect(prompts(back)).toEqual([])
  },
)

test('what Redis is away for too long to hear is said to be lost', async () => {
  await using redis = await startRedisServer()
  await using story = await tell({ redisUrl: redis.url, env: { ...OUTAGE, HELIX_LINGER_MS: '100' } })
  await cutInAnOutage(story, redis)
  await eventually(() => story.net.logged('agent_words_lost').length > 0, { limitMs: 15_000 })
  expect(story.net.logged('agent_words_lost')).toEqual([
    expect.objectContaining({ agent: story.session, why: 'store_unavailable', sessions: [story.session] }),
  ])
  redis.thaw()
})

test('late words and errors of earlier turns are not those of what a person typed', async () => {
  await using story = await tell()
  const { zed, first, running: id, request } = await prompted(story)
  zed.text('T', '4', 'the answer', request)
  zed.completed('T', request)
  await story.become(id, 'completed')
  types(zed, '5', 'typed', request)
  zed.text('T', '6', 'to what', request)
  zed.text('T', '3', 'an entry that nobody has heard of', request)
  zed.say('chat_response_error', { request_id: first, error: 'exploded' })
  zed.text('T', '6', 'to what was typed', request)
  zed.completed('T', request)
  const { id: then } = await typed(story, 'typed')
  expect((await story.become(then, 'completed')).text).toBe('to what was typed')
})
