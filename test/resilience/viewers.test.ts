import { connect } from 'node:net'
import { outputText } from '../../src/protocol/fold.js'
import { api, post, watch, type Posted } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'
import { completed, text, type RawAgent } from '../support/raw-agent.js'
import { SseReader } from '../support/sse.js'

/*
 * Viewers in numbers and in bad shape: many on one turn, some that take nothing, some that vanish in the middle.
 */

/** Sends pieces of `size` characters, as fast as they are acknowledged. Gives the whole text. */
async function flood(agent: RawAgent, request: `req_${string}`, pieces: number, size: number): Promise<string> {
  let whole = ''
  for (let n = 1; n <= pieces; n++) {
    const piece = `${n} `.padEnd(size, '.')
    whole += piece
    agent.send(request, n, text(piece))
    if (n % 30 === 0 || n === pieces) await agent.acked(request, n) // the window is 2 MiB
  }
  return whole
}

/** Asks for a stream and reads none of it. */
async function deafViewer(net: Network, replica: number, path: string) {
  const { port } = new URL(net.url(replica))
  const socket = connect(Number(port), '127.0.0.1')
  socket.on('error', () => {}) // it will be cut off
  socket.pause()
  socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
  let chunks = 0
  return {
    get closed() {
      return socket.destroyed || socket.readableEnded
    },
    /** Reads what the kernels hold, to the end. */
    async drain() {
      for await (const _ of socket) chunks++
      return chunks
    },
    [Symbol.dispose]: () => void socket.destroy(),
  }
}

test('ten viewers of one turn over three replicas see the same, whenever they come and wherever they come back', async () => {
  await using net = await startNetwork({ replicas: 3 })
  const agent = await net.rawAgent({ pool: 'coder' })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'go')
  const { request } = await agent.turn()
  const urls = (from: number) => [0, 1, 2].map((i) => net.url((from + i) % 3))
  const viewers = [0, 1, 2, 3, 4].map((i) => watch(urls(i), interaction))
  let whole = ''
  for (let n = 1; n <= 60; n++) {
    whole += `word-${n} `
    agent.send(request, n, text(`word-${n} `))
    if (n % 12 === 0) {
      await agent.acked(request, n)
      viewers.push(watch(urls(n), interaction))
      if (n === 36) await net.replicas[1]!.drain()
    }
  }
  agent.send(request, 61, completed)
  expect(viewers).toHaveLength(10)
  await Promise.all(viewers.map(({ done }) => done))
  for (const { events, turn, snapshots } of viewers) {
    expect(outputText(turn)).toBe(whole)
    expect(events.map(({ n }) => n)).toEqual(events.map((_, i) => i + 1))
    expect(events).toEqual(viewers[0]!.events)
    expect(snapshots).toBe(0)
  }
  // one subscription per replica, however many viewers
  const [, subscribers] = (await net.redis.call(
    'PUBSUB',
    'SHARDNUMSUB',
    `${net.prefix}{${sessionOf(interaction)}}:live`,
  )) as [string, number]
  expect([1, 2, 3]).toContain(subscribers)
}, 90_000)

const sessionOf = (interaction: string) => `ses_${interaction.slice(4, 30)}`

test('twenty viewers that take nothing cost a replica next to nothing, and nobody else anything', async () => {
  await using net = await startNetwork({ processes: true, env: { SLOW_VIEWER_MS: '60000' } })
  const agent = await net.rawAgent({ pool: 'coder' })
  const { session, interaction } = await post(net.url(0), { pool: 'coder' }, 'go')
  const { request } = await agent.turn()
  const memory = async () => {
    const metrics = await (await fetch(`${net.replicas[0]!.opsUrl}/metrics`)).text()
    return Number(/^process_resident_memory_bytes (\S+)$/m.exec(metrics)![1]) / 1024 / 1024
  }
  const before = await memory()
  const deaf = []
  for (let i = 0; i < 20; i++) {
    const path = i % 2 ? `/api/v1/interactions/${interaction}/events` : `/api/v1/sessions/${session}/events`
    deaf.push(await deafViewer(net, 0, path))
  }
  const quick = watch(net.url(0), interaction)
  const sent = await flood(agent, request, 400, 60_000) // 24 MB; buffered for all of them it would be 480
  const grown = (await memory()) - before
  agent.send(request, 401, completed)
  await quick.done
  expect(outputText(quick.turn)).toBe(sent)
  expect(grown).toBeLessThan(320) // the 24 MB pass through this process as JSON, several times over: that is garbage
  for (const viewer of deaf) viewer[Symbol.dispose]()
}, 120_000)

test('a viewer that takes nothing is cut off in the end, and goes on from its cursor', async () => {
  await using net = await startNetwork({ replicas: 2, env: { SLOW_VIEWER_MS: '500' } })
  const agent = await net.rawAgent({ pool: 'coder' })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'go')
  const { request } = await agent.turn()
  using deaf = await deafViewer(net, 0, `/api/v1/interactions/${interaction}/events`)
  const metrics = async () => (await fetch(`${net.replicas[0]!.opsUrl}/metrics`)).text()
  const sent = await flood(agent, request, 200, 60_000)
  await eventually(async () => /closed_total\{[^}]*how="slow"[^}]*\} 1/.test(await metrics()), { limitMs: 15_000 })
  await deaf.drain().catch(() => {})
  agent.send(request, 201, completed)
  const again = watch([net.url(1)], interaction) // where it is slow as well, on a busy machine, it goes on
  await again.done
  expect(again.snapshots).toBe(0)
  expect(outputText(again.turn)).toBe(sent)
}, 60_000)

test('clients that vanish in the middle of a POST leave nothing behind', async () => {
  await using net = await startNetwork()
  const agent = await net.rawAgent({ pool: 'coder' })
  const body = JSON.stringify({ pool: 'coder', text: 'x'.repeat(50_000) })
  const head = `POST /api/v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`
  for (const bytes of [head.slice(0, 40), head, head + body.slice(0, 20_000)])
    for (const end of ['end', 'destroy', 'resetAndDestroy'] as const) {
      const socket = connect(Number(new URL(net.url(0)).port), '127.0.0.1')
      socket.on('error', () => {})
      await new Promise((sent) => socket.write(bytes, sent))
      socket[end]()
    }
  const { body: posted } = await api<Posted>(net.url(0), '/messages', { pool: 'coder', text: 'whole' })
  expect((await agent.turn()).interaction).toBe(posted.interaction)
  expect(agent.turns).toHaveLength(1)
  const { body: list } = await api<{ sessions: unknown[] }>(net.url(0), '/sessions')
  expect(list.sessions).toHaveLength(1)
  expect(net.logged('bug')).toEqual([])
  expect(net.replicas[0]!.logs.filter((line) => line['msg'] === 'bug')).toEqual([])
})

test('a client that vanishes right after its POST loses nothing: the turn goes on without it', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
  const headers = { 'idempotency-key': 'k' }
  const viewer = await SseReader.post(
    `${net.url(0)}/api/v1/messages`,
    { pool: 'coder', text: 'x', stream: true },
    headers,
  )
  viewer.close()
  const { request } = await agent.turn()
  agent.send(request, 1, text('still here'), completed)
  const again = await api<{ text: string }>(
    net.url(1),
    '/messages',
    { pool: 'coder', text: 'x', wait: true },
    { headers },
  )
  expect(again.body.text).toBe('still here')
  expect(agent.turns).toHaveLength(1)
})
