import { z } from 'zod'
import { StopReason, type Usage } from '../protocol/events.js'
import type { Turn } from '../sdk/agent.js'
import type { AcpAgent } from './agent.js'
import { SessionGone, type AcpSession } from './session.js'
import { orAborted, pause } from './wait.js'

/** How long to wait for the word on how a program ended, ms. */
const EXIT_MS = 3000

/**
 * Answers a turn: the agent's session of its thread is opened, the message put to it, its updates told, its stop reason
 * the end. A program that dies on the way loses the turn, which then goes on as the gateway's rules for lost agents say.
 */
export async function answer(turn: Turn, ready: (signal: AbortSignal) => Promise<AcpAgent>): Promise<void> {
  const agent = await ready(turn.signal)
  try {
    const session: AcpSession = await orAborted(agent.session(turn.thread), turn.signal)
    if (turn.signal.aborted) return
    if (turn.thread !== session.id) await turn.setThread(session.id)
    const response = await session.prompt(turn)
    if (!response || turn.signal.aborted) return
    agent.proved = true
    await end(turn, response)
  } catch (err) {
    if (turn.signal.aborted) return
    if (agent.closed) return turn.lose(`The agent program is gone: ${await last(agent)}.`)
    if (err instanceof SessionGone)
      return turn.fail('thread_gone', `The agent does not have the session: ${err.message}`)
    const { code, message } = agent.explain(err)
    await turn.fail(code, message)
  }
}

async function end(turn: Turn, response: { stopReason: string }): Promise<void> {
  const usage = usageIn(response)
  if (usage) await turn.usage(usage)
  const reason = StopReason.safeParse(response.stopReason)
  if (reason.success) return turn.complete(reason.data)
  if (response.stopReason === 'cancelled')
    return turn.fail('agent_cancelled', 'The agent cancelled the turn by itself.')
  await turn.fail('agent_error', `The agent stopped for a reason that is not known here: ${response.stopReason}`)
}

const tokens = z.int().nonnegative()
/** Not in ACP's stable part yet; agents send it all the same. */
const Counted = z.object({
  usage: z.object({
    inputTokens: tokens,
    outputTokens: tokens,
    thoughtTokens: tokens.nullish(),
    cachedReadTokens: tokens.nullish(),
  }),
})

/** What a prompt has used, if the agent counts. */
export function usageIn(response: unknown): Usage | undefined {
  const { data } = Counted.safeParse(response)
  if (!data) return undefined
  const { inputTokens, outputTokens, thoughtTokens, cachedReadTokens } = data.usage
  return {
    inputTokens,
    outputTokens,
    ...(typeof thoughtTokens === 'number' && { reasoningTokens: thoughtTokens }),
    ...(typeof cachedReadTokens === 'number' && { cachedTokens: cachedReadTokens }),
  }
}

const last = (agent: AcpAgent): Promise<string> => Promise.race([agent.gone, pause(EXIT_MS, 'its connection broke')])
