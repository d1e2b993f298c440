import { connect, createServer, type AddressInfo } from 'node:net'
import { serve, type Turn } from '../../../src/sdk/agent.js'
import { api, post } from '../../support/client.js'
import { eventually } from '../../support/eventually.js'
import { startNetwork } from '../../support/network.js'

/** Stands before one replica after another. While `holding`, what agents say over new connections from their hello on is kept back. */
async function startRelay(first: string) {
  const it = { url: '', to: first, holding: false, kept: 0, release: () => {} }
  const listener = createServer((client) => {
    const server = connect(Number(new URL(it.to).port), '127.0.0.1')
    const kept: Buffer[] = []
    const { holding } = it
    let answered = false // the namespace is open: what comes next is the hello
    client.on('data', (data) => {
      if (!holding || !it.holding || !answered) return void server.write(data)
      kept.push(data)
      it.kept++
    })
    server.on('data', (data) => {
      answered ||= data.includes('40/agents')
      client.write(data)
    })
    const release = it.release
    it.release = () => {
      release()
      it.holding = false
      for (const data of kept.splice(0)) server.write(data)
    }
    for (const side of [client, server])
      side
        .on('error', () => {})
        .on('close', () => {
          client.destroy()
          server.destroy()
        })
  })
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  it.url = `http://127.0.0.1:${(listener.address() as AddressInfo).port}`
  return { relay: it, close: () => void listener.close() }
}

test('a turn that begins while its agent moves, and that it leaves aside for its new connection, costs no attempt', async () => {
  await using net = await startNetwork({ replicas: 2, env: { DRAIN_MS: '60000', MAX_ATTEMPTS: '1' } })
  const { relay, close } = await startRelay(net.url(0))
  net.onDispose(close)
  const turns: Turn[] = []
  const ends: (() => void)[] = []
  const agent = serve({ url: relay.url, pool: 'coder', log: { info() {}, warn() {} } }, (turn) => {
    turns.push(turn)
    return new Promise<void>((end) => ends.push(end))
  })
  net.onDispose(() => agent.close(0))
  const { session } = await post(net.url(1), { pool: 'coder' }, 'first')
  const { interaction } = await post(net.url(1), { session }, 'second')
  await eventually(() => turns.length === 1)

  Object.assign(relay, { to: net.url(1), holding: true })
  const left = net.replicas[0]!.drain()
  await eventually(() => relay.kept > 0) // the hello is out, and on its way
  ends[0]!()
  const shown = () => api<{ status: string; attempt: number }>(net.url(1), `/interactions/${interaction}`)
  await eventually(async () => (await shown()).body.attempt === 1) // over the old connection
  relay.release()
  await eventually(() => turns.length === 2, { limitMs: 15_000 })
  ends[1]!()
  await eventually(async () => (await shown()).body.status === 'completed')
  expect(turns.map(({ attempt }) => attempt)).toEqual([1, 1])
  await left
})
