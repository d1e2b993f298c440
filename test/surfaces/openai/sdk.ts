import OpenAI from 'openai'
import type { AgentEvent } from '../../../src/protocol/events.js'
import type { Network } from '../../support/network.js'
import type { RawAgent } from '../../support/raw-agent.js'

/** The official SDK on one of the replicas. */
export const sdk = (net: Network, replica: number, maxRetries: number) =>
  new OpenAI({ baseURL: `${net.url(replica)}/v1`, apiKey: 'any', maxRetries })

/** Answers the n-th turn of the agent, event by event; gives what the agent was told. */
export async function answer(agent: RawAgent, n: number, ...events: AgentEvent[]): Promise<string> {
  const { request, input } = await agent.turn(n)
  events.forEach((event, i) => agent.send(request, i + 1, event))
  return input
}

/** The SDK's own error with which this fails. */
export async function failure(asked: Promise<unknown>): Promise<InstanceType<typeof OpenAI.APIError>> {
  try {
    await asked
  } catch (error) {
    if (error instanceof OpenAI.APIError) return error
    throw error
  }
  throw new Error('was answered')
}
