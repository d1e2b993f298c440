import { z } from 'zod'
import { StopReason, type Usage } from '../protocol/events.js'
import type { Turn } from '../sdk/agent.js'
import type { AcpAgent } from './agent.js'
import { SessionGone, type AcpSession, type PromptEnd } from './session.js'
import { orAborted, pause } from './wait.js'

/** How long to wait for the word on how a program ended, ms. */
const EXIT_MS = 3000
/** Signs of life are said so often while a session is opened, ms. */
const ALIVE_MS = 1000

/**
 * Answers a turn: the agent's session of its thread is opened, the message put to it, its updates told, its stop reason
 * the end. A program that dies on the way loses the turn, which then goes on as the gateway's rules for lost agents say.
 */
export async function answer(turn: Turn, ready: (signal: AbortSignal) => Promise<AcpAgent>): Promise<void> {
  const agent = await alive(turn, ready(turn.signal))
  try {
    const response = await put(turn, agent)
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

/** Puts the turn to its session; to a session that the agent has let go of once more, after it was opened again. */
async function put(turn: Turn, agent: AcpAgent): Promise<PromptEnd | undefined> {
  for (let again = turn.thread === null; ; again = true) {
    const session: AcpSession = await alive(turn, orAborted(agent.session(turn.thread, turn.session), turn.signal))
    if (turn.signal.aborted) return undefined
    if (turn.thread !== session.id) await turn.setThread(session.id)
    try {
      return await session.prompt(turn)
    } catch (err) {
      if (!(err instanceof SessionGone)) throw err
      agent.forget(session.id)
      if (again) throw err
    }
  }
}

/** While the bridge waits for the agent to be there, the turn is not silent: like a tool call in progress. */
function alive<T>(turn: Turn, opening: Promise<T>): Promise<T> {
  const timer = setInterval(() => turn.working(), ALIVE_MS)
  return opening.finally(() => clearInterval(timer))
}

async function end(turn: Turn, response: Omit<PromptEnd, 'stopReason'> & { stopReason: string }): Promise<void> {
  const usage = usageIn(response)
  if (usage) await turn.usage({ ...usage, ...response.context })
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

const last = (agent: AcpAgent): Promise<string> => Promise.race([agent.how, pause(EXIT_MS, 'its connection broke')])
