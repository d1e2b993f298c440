import { threadIsGone } from '../protocol/thread.js'
import type { AgentEvent } from '../protocol/events.js'
import { interactionOf, sessionOf, type RequestId } from '../protocol/ids.js'
import type { Parts } from './parts.js'

/** What an agent says of its thread, before it goes into the log. */
export async function bindThread(parts: Parts, pool: string, request: RequestId, events: AgentEvent[]): Promise<void> {
  const said = events.findLast((e) => e.type === 'thread')
  if (said?.type === 'thread') await parts.store.threads.bind(pool, said.thread, sessionOf(request))
}

/**
 * An agent that cannot load its thread: the mapping goes, and a turn without output is delivered again without a
 * thread, once. Gives whether it will be.
 */
export async function forgetThread(
  { store, observe }: Pick<Parts, 'store' | 'observe'>,
  pool: string,
  request: RequestId,
  epoch: number,
  event: Extract<AgentEvent, { type: 'failed' }>,
): Promise<boolean> {
  if (!threadIsGone(event.code, event.message)) return false
  const interaction = interactionOf(request)
  const answer = await store.turns.forgetThread(interaction, request, epoch)
  if (answer.word === 'stale') return false
  if (answer.thread) await store.threads.clear(pool, answer.thread, sessionOf(request))
  observe.threadForgotten({
    session: sessionOf(request),
    interaction,
    request,
    thread: answer.thread,
    again: answer.word === 'again',
  })
  return answer.word === 'again'
}
