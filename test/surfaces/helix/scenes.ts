import { eventually } from '../../support/eventually.js'
import type { HelixAgent } from '../../support/helix-agent.js'
import type { Shown, Story } from './story.js'

/** A session whose first turn is over, in thread T. */
export async function begun(story: Story): Promise<{ zed: HelixAgent; first: unknown }> {
  const zed = await story.connect()
  const id = await story.post('hello')
  const { request_id: first } = await zed.command('chat_message')
  zed.say('thread_created', { acp_thread_id: 'T', request_id: first })
  zed.text('T', '1', 'hi', first)
  zed.completed('T', first)
  await story.become(id, 'completed')
  return { zed, first }
}

/** A person writes into the editor. */
export const types = (zed: HelixAgent, id: string, content: string, request: unknown): void =>
  zed.say('message_added', { acp_thread_id: 'T', message_id: id, role: 'user', content, request_id: request })

/** The turn that a person began by these words. */
export const typed = (story: Story, input: string): Promise<Shown> =>
  eventually(
    async () => (await story.turns()).find((turn) => turn.origin === 'agent' && turn.input === input) ?? false,
    { limitMs: 15_000 },
  )

/** A prompt that was sent just as a person typed: it has stepped back, and the agent has both. */
export async function crossed(story: Story) {
  const { zed, first } = await begun(story)
  const queued = await story.post('queued')
  const { request_id: sent } = await zed.command('chat_message', 1)
  types(zed, '3', 'typed', first)
  await eventually(async () => (await story.shown(queued)).status === 'queued')
  zed.text('T', '4', 'to what was', first)
  return { zed, first, queued, sent, typed: (await typed(story, 'typed')).id }
}

/** The prompt of the session's second turn has reached the agent. */
export async function prompted(story: Story) {
  const { zed, first } = await begun(story)
  const running = await story.post('go on')
  const { request_id: request } = await zed.command('chat_message', 1)
  return { zed, first, running, request }
}

/** That turn is being answered: these words of this entry were heard. The answer's first entry is 3. */
export async function answering(story: Story, words = 'the answer', entry = '3') {
  const { zed, running, request } = await prompted(story)
  zed.text('T', entry, words, request)
  await story.become(running, 'streaming')
  return { zed, running, request }
}

/** A client's turn is being answered, and what a person typed meanwhile waits for its end. */
export async function overlaid(story: Story) {
  const { zed, running, request } = await answering(story)
  types(zed, '4', 'typed', request)
  return { zed, running, request, typed: (await typed(story, 'typed')).id }
}

export const prompts = (zed: HelixAgent): unknown[] => zed.of('chat_message').map((it) => it['message'])
