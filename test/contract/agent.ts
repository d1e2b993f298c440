import type { AgentEvent } from '../../src/protocol/events.js'
import type { RawAgent } from '../support/raw-agent.js'
import { startProxy } from '../../src/local/proxy.js'
import type { Network } from '../support/network.js'

/** One answer with everything in it: thoughts, a tool call, text, usage. */
export const RICH: AgentEvent[] = [
  { type: 'entry.append', entry: 'r', kind: 'reasoning', text: 'Let me ' },
  { type: 'entry.append', entry: 'r', kind: 'reasoning', text: 'think.' },
  { type: 'entry.set', entry: 'c', kind: 'tool_call', name: 'Read test.ts', status: 'in_progress' },
  { type: 'entry.append', entry: 'c', text: '12 lines' },
  { type: 'entry.set', entry: 'c', status: 'completed' },
  { type: 'entry.append', entry: 't', text: 'Done: ' },
  { type: 'entry.append', entry: 't', text: 'two files changed.' },
  { type: 'usage', usage: { inputTokens: 12, outputTokens: 7, reasoningTokens: 3 } },
  { type: 'completed', reason: 'end_turn' },
]

/** Answers the n-th turn of the agent with these events, `from` being the number of the first. */
export async function say(agent: RawAgent, n: number, events: AgentEvent[], from = 1): Promise<string> {
  const { request, input } = await agent.turn(n)
  events.forEach((event, i) => agent.send(request, from + i, event))
  await agent.acked(request, from + events.length - 1)
  return input
}

/** A balancer in front of the network's replicas: a new connection goes to the next that accepts it. Gives its URL. */
export async function balance(net: Network): Promise<string> {
  const targets = net.replicas.map(({ url }) => ({ host: '127.0.0.1', port: Number(new URL(url).port) }))
  const proxy = await startProxy({ port: 0, targets: () => targets, log: () => {} })
  net.onDispose(() => proxy.close())
  return `http://127.0.0.1:${proxy.port}`
}

/** The replica through which the turn's request came, by its log. */
export const replicaOf = (net: Network, interaction: string) =>
  net.replicas.find(({ logs }) =>
    logs.some((line) => line['event'] === 'message_accepted' && line['interaction'] === interaction),
  )!
