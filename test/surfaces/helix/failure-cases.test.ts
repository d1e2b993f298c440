import { outputText } from '../../../src/protocol/fold.js'
import type { InteractionId } from '../../../src/protocol/ids.js'
import { watch } from '../../support/client.js'
import { eventually } from '../../support/eventually.js'
import type { HelixAgent } from '../../support/helix-agent.js'
import { tell, type Story } from './story.js'

/*
 * The failures that bit Helix in its first ten months, and the two of its readers (helix-agent-protocol.md, section 5):
 * each is brought about over real sockets, some with killed processes. docs/helix.md tells what Throughline does.
 */

/** Answers the n-th prompt (from 0) on a thread with these entries. */
async function answer(zed: HelixAgent, n: number, entries: Record<string, string>, thread = 'T'): Promise<string> {
  const { request_id: R, acp_thread_id: known } = await zed.command('chat_message', n)
  if (known === null) zed.say('thread_created', { acp_thread_id: thread, request_id: R })
  for (const [id, content] of Object.entries(entries)) zed.text(thread, id, content, R)
  zed.completed(thread, R)
  return String(R)
}

/** A session whose first turn is done, on thread T. */
async function begun(story: Story, entries: Record<string, string> = { '1': 'Hello.' }): Promise<HelixAgent> {
  const zed = await story.connect()
  const first = await story.post('hello')
  await answer(zed, 0, entries)
  await story.become(first, 'completed')
  return zed
}

const prompts = (zed: HelixAgent) => zed.of('chat_message').map((prompt) => prompt['message'])

test('case 1: a server is killed in the middle of an answer: it is completed in place, and the next turn is right', async () => {
  await using story = await tell({ replicas: 2, processes: true })
  const zed = await story.connect(0)
  const interaction = await story.post('go', {}, 1)
  const seen = watch([story.net.url(0), story.net.url(1)], interaction)
  const { request_id: R } = await zed.command('chat_message')
  zed.say('thread_created', { acp_thread_id: 'T', request_id: R })
  zed.text('T', '1', 'The first half', R)
  await eventually(() => outputText(seen.turn) === 'The first half')
  await story.net.replicas[0]!.kill9()
  await zed.closed
  const again = await story.connect(1, { ready: false })
  again.text('T', '1', 'The first half, and', R)
  expect(await again.command('open_thread')).toMatchObject({ acp_thread_id: 'T', request_id: R })
  again.say('agent_ready', { agent_name: 'zed-agent', thread_id: 'T' })
  again.text('T', '1', 'The first half, and the second.', R)
  again.completed('T', R)
  await seen.done
  expect([seen.turn.status, outputText(seen.turn)]).toEqual(['completed', 'The first half, and the second.'])
  expect(seen.events.map((event) => event.n)).toEqual(seen.events.map((_, i) => i + 1))
  const second = await story.post('next', {}, 1)
  await answer(again, 0, { '3': 'Second.' })
  expect((await story.become(second, 'completed')).text).toBe('Second.')
  expect(prompts(again)).toEqual(['next'])
})

test('case 2: another replica starts, then ours is killed: turns are left alone, output is routed by its thread', async () => {
  await using story = await tell({ replicas: 3, processes: true })
  const zed = await story.connect(0)
  const first = await story.post('hello', {}, 1)
  await answer(zed, 0, { '1': 'Hello.' })
  await story.become(first, 'completed')
  const interaction = await story.post('go', {}, 1)
  await zed.command('chat_message', 1)
  await story.net.replicas[2]!.kill9()
  await story.net.replicas[2]!.restart()
  await story.net.replicas[0]!.kill9()
  await story.net.replicas[0]!.restart()
  expect((await story.shown(interaction)).status).toBe('waiting')
  const again = await story.connect(0, { ready: false })
  again.text('T', '3', 'Still here.', '')
  again.completed('T', '')
  expect((await story.become(interaction, 'completed')).text).toBe('Still here.')
  expect(prompts(again)).toEqual([])
})

test('case 3: "entity released" on every load: the thread is dropped, the prompt comes again without it, and works', async () => {
  await using story = await tell()
  await (await begun(story))[Symbol.asyncDispose]()
  const zed = await story.connect(0, { ready: false })
  zed.say('agent_ready', { agent_name: 'zed-agent', thread_id: 'T' })
  const interaction = await story.post('go')
  const { request_id: R, acp_thread_id: thread } = await zed.command('chat_message')
  expect(thread).toBe('T')
  const error = 'Failed to load thread: entity released'
  zed.say('thread_load_error', { acp_thread_id: 'T', request_id: R, error })
  zed.say('thread_load_error', { acp_thread_id: 'T', request_id: R, error }) // and once more: nothing further happens
  expect(await zed.command('chat_message', 1)).toMatchObject({ acp_thread_id: null, message: 'go' })
  await answer(zed, 1, { '1': 'On a new thread.' }, 'T2')
  expect((await story.become(interaction, 'completed')).text).toBe('On a new thread.')
  expect(await story.thread()).toBe('T2')
  expect(story.net.logged('thread_mapping_cleared')).toHaveLength(1)
})

test('case 3: a load error of any other class ends the turn with the agent’s words and keeps the thread', async () => {
  await using story = await tell()
  const zed = await begun(story)
  const interaction = await story.post('go')
  const { request_id: R } = await zed.command('chat_message', 1)
  zed.say('thread_load_error', { acp_thread_id: 'T', request_id: R, error: 'Failed to load thread: busy' })
  const turn = await story.become(interaction, 'failed')
  expect(turn.error).toEqual({ code: 'thread_load_error', message: 'Failed to load thread: busy' })
  expect(await story.thread()).toBe('T')
})

test('case 4: a restart of the agent keeps the thread, also when the last turn did not end well', async () => {
  await using story = await tell()
  let zed = await begun(story)
  const failing = await story.post('fails')
  const { request_id: R } = await zed.command('chat_message', 1)
  zed.say('chat_response_error', { request_id: R, error: '401 Unauthorized' })
  expect((await story.become(failing, 'failed')).error).toEqual({ code: 'agent_error', message: '401 Unauthorized' })
  for (let restart = 0; restart < 2; restart++) {
    await zed[Symbol.asyncDispose]()
    zed = await story.connect()
    expect(await zed.command('open_thread')).toMatchObject({ acp_thread_id: 'T' })
  }
  const interaction = await story.post('go on')
  expect(await zed.command('chat_message')).toMatchObject({ acp_thread_id: 'T' })
  await answer(zed, 0, { '9': 'Gone on.' })
  await story.become(interaction, 'completed')
})

test('case 5: a queued message is dispatched and the server killed before any output: it is sent once and ends', async () => {
  await using story = await tell({ replicas: 2, processes: true, env: { HELIX_QUIET_MS: '4000' } })
  const zed = await story.connect(0)
  const first = await story.post('first', {}, 1)
  await zed.command('chat_message')
  const queued = await story.post('queued', {}, 1)
  await answer(zed, 0, { '1': 'One.' })
  await story.become(first, 'completed')
  const { request_id: R } = await zed.command('chat_message', 1)
  await story.net.replicas[0]!.kill9()
  const again = await story.connect(1)
  again.text('T', '3', 'Two.', R)
  again.completed('T', R)
  expect((await story.become(queued, 'completed')).text).toBe('Two.')
  expect(prompts(again)).toEqual([])
})

test('case 6: B is posted while A streams; an end that names B comes before A’s: B is sent after A, nothing is mixed', async () => {
  await using story = await tell()
  const zed = await story.connect()
  const a = await story.post('A')
  const { request_id: RA } = await zed.command('chat_message')
  zed.say('thread_created', { acp_thread_id: 'T', request_id: RA })
  zed.text('T', '1', 'to A', RA)
  const b = await story.post('B')
  zed.completed('T', `req_${b.slice(4)}_1`) // was never sent
  zed.text('T', '1', 'to A, all of it', RA)
  await eventually(async () => (await story.shown(a)).text === 'to A, all of it')
  expect(prompts(zed)).toEqual(['A'])
  zed.completed('T', RA)
  await answer(zed, 1, { '3': 'to B' })
  expect((await story.become(b, 'completed')).text).toBe('to B')
  expect((await story.shown(a)).text).toBe('to A, all of it')
  expect(prompts(zed)).toEqual(['A', 'B'])
})

test('case 7: late words and a late end under an old request id leave the running turn open until its own end', async () => {
  await using story = await tell()
  const zed = await begun(story, { '1': 'One.' })
  const R1 = zed.of('chat_message')[0]!['request_id']
  const second = await story.post('second')
  const { request_id: R2 } = await zed.command('chat_message', 1)
  zed.text('T', '1', 'One.', R1)
  for (let i = 0; i < 4; i++) zed.completed('T', R1)
  zed.text('T', '3', 'Two', R2)
  zed.completed('T', R1)
  await eventually(async () => (await story.shown(second)).text === 'Two')
  zed.text('T', '3', 'Two.', R2)
  zed.completed('T', R2)
  expect((await story.become(second, 'completed')).text).toBe('Two.')
})

test('case 8: output that is held back and comes with the next prompt: its old end completes nothing, the stuck turn ends by its deadline', async () => {
  await using story = await tell({ env: { AGENT_SILENT_MS: '1500' } })
  const zed = await begun(story)
  const R1 = zed.of('chat_message')[0]!['request_id']
  const second = await story.post('second')
  const { request_id: R2 } = await zed.command('chat_message', 1)
  zed.completed('T', R1)
  zed.say('turn_cancelled', { request_id: R2, status: 'noop' }) // whenever it is asked; too early says nothing
  await zed.command('cancel_current_turn')
  zed.say('turn_cancelled', { request_id: R2, status: 'noop' })
  expect((await story.become(second, 'failed')).error?.code).toBe('agent_silent')
  const third = await story.post('third')
  const { request_id: R3 } = await zed.command('chat_message', 2)
  zed.text('T', '3', 'the answer to the second', R1) // nobody has seen it before: it goes to the turn that runs
  zed.completed('T', R1)
  zed.text('T', '5', 'the answer to the third', R3)
  zed.completed('T', R3)
  expect(await story.become(third, 'completed')).toMatchObject({
    text: 'the answer to the second\n\nthe answer to the third',
    stopReason: 'unconfirmed', // not all of it may be this turn's
  })
})

test('case 9: an agent that connects late first ends something older: the prompt is sent once, and completed by its own end', async () => {
  await using story = await tell()
  const interaction = await story.post('go')
  const zed = await story.connect(0, { ready: false })
  zed.completed('T-old', 'int_01older')
  await zed.command('chat_message')
  zed.completed('T-old', 'int_01older')
  zed.completed('T-old', 'int_01older')
  await answer(zed, 0, { '1': 'Here.' })
  expect((await story.become(interaction, 'completed')).text).toBe('Here.')
  expect(prompts(zed)).toEqual(['go'])
})

test('case 10: entries of an earlier turn are told again: the new turn has only what is new', async () => {
  await using story = await tell()
  const zed = await begun(story, { '1': 'One.', '2': 'Two.' })
  const b = await story.post('B')
  const { request_id: R } = await zed.command('chat_message', 1)
  zed.text('T', '1', 'One.', R)
  zed.text('T', '2', 'Two.', R)
  zed.text('T', '4', 'Four.', R)
  zed.completed('T', R)
  const turn = await story.become(b, 'completed')
  expect(turn.output.map((entry) => entry.id)).toEqual(['4'])
})

test('case 11: entry numbers that begin anew are no replays: all of the new turn is kept, even words said before', async () => {
  await using story = await tell()
  const old = Object.fromEntries(Array.from({ length: 9 }, (_, i) => [String(340 + i), `old ${i}`]))
  const zed = await begun(story, old)
  const b = await story.post('B')
  await answer(zed, 1, { '345': 'new a', '348': 'new b', '349': 'new c' })
  expect((await story.become(b, 'completed')).text).toBe('new a\n\nnew b\n\nnew c')
  const c = await story.post('C')
  await answer(zed, 2, { '345': 'new a' }) // the very same number and words, and nothing else: an answer after all
  expect((await story.become(c, 'completed')).text).toBe('new a')
})

test('case 12: posted with no agent, which then makes two threads for one prompt: sent once, both are the session’s', async () => {
  await using story = await tell({ replicas: 2 })
  const interaction = await story.post('go', {}, 1)
  const zed = await story.connect(0)
  const { request_id: R } = await zed.command('chat_message')
  zed.say('thread_created', { acp_thread_id: 'T1', request_id: R })
  zed.say('thread_created', { acp_thread_id: 'T2', request_id: R })
  zed.text('T2', '1', 'Seen by everybody.', R)
  zed.completed('T2', R)
  expect((await story.become(interaction, 'completed')).text).toBe('Seen by everybody.')
  expect(prompts(zed)).toEqual(['go'])
  expect(await story.thread()).toBe('T2')
  expect(await story.sessions()).toHaveLength(1)
})

test('case 13: an interrupt while the agent boots: the first prompt is delivered first, the second into its thread', async () => {
  await using story = await tell()
  const zed = await story.connect(0, { ready: false })
  const a = await story.post('A')
  const b = await story.post('B', { interrupt: true })
  await answer(zed, 0, { '1': 'I know A.' })
  expect((await story.become(a, 'completed')).text).toBe('I know A.')
  expect(await zed.command('chat_message', 1)).toMatchObject({ message: 'B', acp_thread_id: 'T' })
  await answer(zed, 1, { '3': 'I know A and B.' })
  expect((await story.become(b, 'completed')).text).toBe('I know A and B.')
  expect(zed.of('cancel_current_turn')).toEqual([])
})

test('case 14: a person types in the moment a queued message is sent: it waits, the typed turn ends, an empty end is none', async () => {
  await using story = await tell()
  const zed = await begun(story)
  const R1 = zed.of('chat_message')[0]!['request_id']
  const q = await story.post('queued')
  const { request_id: RQ } = await zed.command('chat_message', 1) // fired just as somebody typed
  zed.say('message_added', { acp_thread_id: 'T', message_id: '3', role: 'user', content: 'typed', request_id: R1 })
  await eventually(async () => (await story.shown(q)).status === 'queued')
  zed.completed('T', RQ) // bounced
  zed.text('T', '4', 'to what was typed', R1)
  zed.completed('T', R1)
  const typed = await eventually(async () => (await story.turns()).find((turn) => turn.origin === 'agent') ?? false)
  expect((await story.become(typed.id, 'completed')).text).toBe('to what was typed')
  expect(typed.input).toBe('typed')
  await answer(zed, 2, { '7': 'to what was queued' })
  expect((await story.become(q, 'completed')).text).toBe('to what was queued')
  expect(prompts(zed)).toEqual(['hello', 'queued', 'queued'])
  expect(zed.of('cancel_current_turn')).toEqual([])
})

test('case 15: an end and a readiness at once, with two that wait: A is sent, and B only after its end', async () => {
  await using story = await tell({ replicas: 2 })
  const zed = await story.connect(0)
  const first = await story.post('first')
  const { request_id: R } = await zed.command('chat_message')
  const a = await story.post('A', {}, 1)
  const b = await story.post('B', {}, 0)
  zed.say('thread_created', { acp_thread_id: 'T', request_id: R })
  zed.text('T', '1', 'One.', R)
  zed.completed('T', R)
  zed.say('agent_ready', { agent_name: 'zed-agent', thread_id: 'T' })
  await zed.command('chat_message', 1)
  await story.become(first, 'completed')
  expect(prompts(zed)).toEqual(['first', 'A'])
  await answer(zed, 1, { '3': 'to A' })
  await answer(zed, 2, { '5': 'to B' })
  expect((await story.become(a, 'completed')).text).toBe('to A')
  expect((await story.become(b, 'completed')).text).toBe('to B')
})

test('case 16: prompts of other clients in the middle of a turn are not sent before its end, then in order', async () => {
  await using story = await tell({ replicas: 2 })
  const zed = await story.connect(0)
  await story.post('long')
  const { request_id: R } = await zed.command('chat_message')
  zed.text('T', '1', 'working', R)
  const notice = await story.post('CI failed', {}, 1)
  const other = await story.post('and another', {}, 1)
  await eventually(async () => (await story.turns()).length === 3)
  expect(prompts(zed)).toEqual(['long'])
  zed.completed('T', R)
  await answer(zed, 1, { '3': 'looked at CI' })
  await answer(zed, 2, { '5': 'another' })
  expect((await story.become(notice, 'completed')).text).toBe('looked at CI')
  expect((await story.become(other, 'completed')).text).toBe('another')
})

test('case 17: two sessions on one socket: each is opened, and prompted, on its own thread', async () => {
  await using story = await tell()
  const zed = await begun(story)
  zed.say('user_created_thread', { acp_thread_id: 'U', title: null })
  zed.say('message_added', { acp_thread_id: 'U', message_id: '0', role: 'user', content: 'other', request_id: '' })
  zed.text('U', '1', 'Other.', '')
  zed.completed('U', '')
  const child = await eventually(
    async () =>
      (await story.sessions()).find((session) => session.id !== story.session && session.thread === 'U') ?? false,
  )
  await zed[Symbol.asyncDispose]()
  const again = await story.connect()
  expect(await again.command('open_thread')).toMatchObject({ acp_thread_id: 'T', session_id: story.session })
  const mine = await story.post('mine')
  expect(await again.command('chat_message')).toMatchObject({ acp_thread_id: 'T', session_id: story.session })
  await answer(again, 0, { '5': 'Mine.' })
  await story.become(mine, 'completed')
  const { interaction } = await (
    await import('../../support/client.js')
  ).post(story.net.url(0), { session: child.id }, 'theirs')
  expect(await again.command('chat_message', 1)).toMatchObject({ acp_thread_id: 'U', session_id: child.id })
  await answer(again, 1, { '5': 'Theirs.' }, 'U')
  await story.become(interaction, 'completed')
})

test('case 18: draft threads are announced at each restart: no session comes of it until somebody writes, and then one', async () => {
  await using story = await tell()
  const zed = await begun(story)
  for (const id of ['D1', 'D2', 'D3', 'D3']) zed.say('user_created_thread', { acp_thread_id: id, title: null })
  zed.say('thread_created', { acp_thread_id: 'D4', request_id: '' })
  zed.say('thread_title_changed', { acp_thread_id: 'D3', title: 'Docs' })
  zed.say('message_added', {
    acp_thread_id: 'D3',
    message_id: '0',
    role: 'user',
    content: 'write docs',
    request_id: '',
  })
  zed.text('D3', '1', 'Written.', '')
  zed.completed('D3', '')
  const child = await eventually(async () => (await story.sessions()).find((it) => it.thread === 'D3') ?? false)
  const [turn] = await eventually(async () => {
    const turns = await story.turns(child.id)
    return turns[0]?.status === 'completed' && turns
  })
  expect(turn).toMatchObject({ origin: 'agent', input: 'write docs', text: 'Written.' })
  expect(child.title).toBe('Docs')
  expect(await story.sessions()).toHaveLength(2)
})

test('case 19: the first socket closes after the second came: prompts go to the second, what the first still says is fenced off', async () => {
  await using story = await tell({ replicas: 2 })
  const first = await begun(story)
  const interaction = await story.post('go')
  const { request_id: R } = await first.command('chat_message', 1)
  first.text('T', '3', 'Half', R)
  const second = await story.connect(1)
  expect((await first.closed).code).toBe(1008)
  second.text('T', '3', 'Half and half.', R)
  second.completed('T', R)
  expect((await story.become(interaction, 'completed')).text).toBe('Half and half.')
  const next = await story.post('next')
  await answer(second, 0, { '5': 'On the second.' })
  expect((await story.become(next, 'completed')).text).toBe('On the second.')
})

test('case 20: readiness that never comes holds nothing back for ever, and hides no output', async () => {
  await using story = await tell()
  const a = await story.post('A')
  const silent = await story.connect(0, { ready: false })
  await silent.command('chat_message') // after the bounded wait
  await answer(silent, 0, { '1': 'One.' })
  await story.become(a, 'completed')
  await silent[Symbol.asyncDispose]()

  const b = await story.post('B')
  const early = await story.connect(0, { ready: false })
  await answer(early, 0, { '3': 'Before any agent_ready.' })
  expect((await story.become(b, 'completed')).text).toBe('Before any agent_ready.')
})

test('case 21: an agent that works and says nothing ends by the deadline; one that only says "done" is asked again, then failed', async () => {
  await using story = await tell({ env: { AGENT_SILENT_MS: '1000', MAX_ATTEMPTS: '3' } })
  const zed = await begun(story)
  const silent = await story.post('silence')
  await zed.command('chat_message', 1)
  await zed.command('cancel_current_turn')
  expect((await story.become(silent, 'failed')).error?.code).toBe('agent_silent')

  const hollow = await story.post('hollow')
  for (let n = 2; n < 5; n++) {
    const { request_id: R } = await zed.command('chat_message', n)
    zed.completed('T', R)
    zed.completed('T', R)
  }
  expect((await story.become(hollow, 'failed')).error?.code).toBe('attempts_exhausted')
  expect(prompts(zed)).toEqual(['hello', 'silence', 'hollow', 'hollow', 'hollow'])
})

test('case 22: a wedged thread floods nothing: an echo is no turn, an error no retry, and the session stays usable', async () => {
  await using story = await tell()
  const zed = await begun(story)
  for (let n = 1; n < 6; n++) {
    const interaction = await story.post(`prompt ${n}`)
    const { request_id: R } = await zed.command('chat_message', n)
    zed.say('message_added', {
      acp_thread_id: 'T',
      message_id: String(n * 2),
      role: 'user',
      content: `prompt ${n}`,
      request_id: R,
    })
    zed.say('thread_load_error', { acp_thread_id: 'T', request_id: R, error: 'ede_diagnostic stop_reason=null' })
    await story.become(interaction, 'failed')
    zed.say('message_added', {
      acp_thread_id: 'T',
      message_id: '99',
      role: 'user',
      content: `prompt ${n}`,
      request_id: R,
    })
  }
  const last = await story.post('works again')
  await answer(zed, 6, { '20': 'It does.' })
  await story.become(last, 'completed')
  expect(await story.turns()).toHaveLength(7)
  expect(prompts(zed)).toHaveLength(7)
})

test('case 23: silent is not slow: silence ends by the deadline, an open tool call keeps it away', async () => {
  await using story = await tell({ env: { AGENT_SILENT_MS: '1000' } })
  const zed = await begun(story)
  const halting = await story.post('one entry, then silence')
  const { request_id: R } = await zed.command('chat_message', 1)
  zed.text('T', '3', 'Well', R)
  await zed.command('cancel_current_turn')
  zed.say('turn_cancelled', { request_id: R, status: 'cancelled' })
  expect((await story.become(halting, 'failed')).error?.code).toBe('agent_silent')
  zed.text('T', '3', 'Well, late', R)
  zed.completed('T', R)

  const working = await story.post('a long tool')
  const { request_id: R2 } = await zed.command('chat_message', 2)
  zed.text('T', '5', '**Tool Call: build**\nStatus: In Progress', R2, {
    entry_type: 'tool_call',
    tool_name: 'build',
    tool_status: 'In Progress',
  })
  const began = Date.now()
  await eventually(() => Date.now() - began > 2500) // more than two deadlines
  expect((await story.shown(working)).status).toBe('streaming')
  zed.text('T', '6', 'Built.', R2)
  zed.completed('T', R2)
  expect((await story.become(working, 'completed')).text).toBe('Built.')
  expect((await story.shown(halting)).text).toBe('Well')
  expect(zed.of('cancel_current_turn')).toHaveLength(1)
})

test('case 23: an agent whose last word was lost says that it is done when it is asked: the turn is complete with what is there', async () => {
  await using story = await tell({ env: { AGENT_SILENT_MS: '1000' } })
  const zed = await begun(story)
  const interaction = await story.post('go')
  const { request_id: R } = await zed.command('chat_message', 1)
  zed.text('T', '3', 'All of it.', R)
  await zed.command('cancel_current_turn')
  zed.say('turn_cancelled', { request_id: R, status: 'noop' })
  expect((await story.become(interaction, 'completed')).text).toBe('All of it.')
})

test('case 24: a terminal state stands: what is flushed after a cancel is not shown, here or in the next turn', async () => {
  await using story = await tell()
  const zed = await begun(story)
  const interaction = await story.post('go')
  const { request_id: R } = await zed.command('chat_message', 1)
  zed.text('T', '3', 'Partial', R)
  await eventually(async () => (await story.shown(interaction)).text === 'Partial')
  await fetch(`${story.net.url(0)}/api/v1/interactions/${interaction}/cancel`, { method: 'POST' })
  expect((await zed.command('cancel_current_turn'))['request_id']).toBe(R)
  const next = await story.post('next')
  zed.text('T', '3', 'Partial, and more', R)
  zed.say('turn_cancelled', { request_id: R, status: 'cancelled' })
  const { request_id: R2 } = await zed.command('chat_message', 2)
  zed.text('T', '3', 'Partial, and more of it', R)
  zed.text('T', '4', 'one entry more', R)
  zed.completed('T', R)
  zed.text('T', '6', 'Next.', R2)
  zed.completed('T', R2)
  expect((await story.become(next, 'completed')).text).toBe('Next.')
  expect(await story.shown(interaction)).toMatchObject({ status: 'cancelled', text: 'Partial' })
})

test('case 25: a session of many turns and one post: one chat_message, without a role', async () => {
  await using story = await tell()
  const zed = await begun(story)
  for (let n = 1; n < 40; n++) {
    const interaction = await story.post(`turn ${n}`)
    await answer(zed, n, { [String(2 * n + 1)]: `answer ${n}` })
    await story.become(interaction, 'completed')
  }
  await zed[Symbol.asyncDispose]()
  const again = await story.connect()
  const interaction = await story.post('one more')
  await answer(again, 0, { '99': 'Yes.' })
  await story.become(interaction, 'completed')
  expect(again.commands.map((command) => command.type)).toEqual(['open_thread', 'chat_message'])
  expect(again.of('chat_message')[0]).not.toHaveProperty('role')
})

test('readers 1: one that comes after everything was said sees it all, before the end and after it', async () => {
  await using story = await tell({ replicas: 2 })
  const zed = await story.connect(0)
  const interaction = await story.post('go')
  const { request_id: R } = await zed.command('chat_message')
  const early = watch(story.net.url(1), interaction)
  zed.text('T', '1', 'All of it', R)
  await eventually(() => outputText(early.turn) === 'All of it')
  const late = watch(story.net.url(1), interaction)
  await eventually(() => outputText(late.turn) === 'All of it')
  zed.completed('T', R)
  await Promise.all([early.done, late.done])
  const after = watch(story.net.url(0), interaction as InteractionId)
  await after.done
  expect(outputText(after.turn)).toBe('All of it')
})

test('readers 2: the last words are not withheld until something follows', async () => {
  await using story = await tell({ replicas: 2 })
  const zed = await story.connect(0)
  const interaction = await story.post('go')
  const { request_id: R } = await zed.command('chat_message')
  const seen = watch(story.net.url(1), interaction)
  zed.text('T', '1', 'The last', R)
  zed.text('T', '1', 'The last words', R)
  await eventually(() => outputText(seen.turn) === 'The last words')
  expect(seen.turn.status).toBe('streaming')
})
