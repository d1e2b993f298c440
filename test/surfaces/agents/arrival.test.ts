import { io } from 'socket.io-client'
import { post } from '../../support/client.js'
import { eventually } from '../../support/eventually.js'
import { startNetwork } from '../../support/network.js'

test('an agent that is gone before it was welcome takes no turn with it', async () => {
  await using net = await startNetwork({ env: { AGENT_GRACE_MS: '100', SWEEP_EVERY_MS: '200', MAX_ATTEMPTS: '20' } })
  const waiting = await post(net.url(0), { pool: 'coder' }, 'go')
  for (let i = 1; i < 6; i++) {
    const socket = io(`${net.url(0)}/agents`, { transports: ['websocket'], forceNew: true, reconnection: false })
    await new Promise<void>((resolve) => socket.once('connect', resolve))
    socket.emit('hello', { protocol: 1, agent: `ghost-${i}`, pool: 'coder', capacity: 10 }, () => {})
    await new Promise((resolve) => setTimeout(resolve, i)) // sooner and later on the way of its hello
    // its hello is out, and nobody hears the answer. No disconnect(): its packet, read at once with the hello, undoes it
    socket.io.engine.close()
    await eventually(() => net.logged('agent_joined').length === i)
    await eventually(() => net.logged('agent_left').length === i)
  }
  const agents = async () => /throughline_agents_connected (\d+)/.exec(await metrics())?.[1]
  const metrics = async () => (await fetch(`${net.replicas[0]!.opsUrl}/metrics`)).text()
  await eventually(async () => (await agents()) === '0')
  const agent = await net.rawAgent({ pool: 'coder' })
  expect((await agent.turn()).interaction).toBe(waiting.interaction)
})
