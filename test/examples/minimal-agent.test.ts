import { outputText } from '../../src/protocol/fold.js'
import { post, watch } from '../support/client.js'
import { startNetwork } from '../support/network.js'
import { joined, startExample } from './examples.js'

test('the minimal agent answers, and leaves in order when asked to', async () => {
  await using net = await startNetwork({ processes: true })
  const agent = startExample(net, 'minimal-agent')
  await joined(net, 'echo')
  const { interaction } = await post(net.url(0), { pool: 'echo' }, 'Hello there, agent')
  const seen = watch(net.url(0), interaction)
  await seen.done
  expect(seen.turn.status).toBe('completed')
  expect(outputText(seen.turn)).toBe('Hello there, agent ')
  expect(seen.turn.entries[0]).toMatchObject({ kind: 'tool_call', text: '3', status: 'completed' })
  agent.child.kill('SIGTERM')
  expect(await agent.exited).toBe(0)
})
