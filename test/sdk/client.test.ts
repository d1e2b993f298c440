import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import fc from 'fast-check'
import { interactionId, sessionId } from '../../src/protocol/ids.js'
import { follow, GatewayError, send, type ClientOptions, type Update } from '../../src/sdk/client.js'
import { api, post } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'

const NOBODYS = interactionId(sessionId(0, new Uint8Array(16)), new Uint8Array(10))

/** `fetch` over a bad line: the n-th reply breaks off after `cuts[n]` bytes; after the last cut the line is good. */
function brokenLine(cuts: number[]): typeof fetch {
  let asked = 0
  return async (url, init) => {
    const reply = await fetch(url, init)
    const cut = cuts[asked++]
    if (cut === undefined || !reply.body) return reply
    let left = cut
    const cutter = new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        controller.enqueue(chunk.subarray(0, left))
        left -= chunk.length
        if (left <= 0) controller.error(new Error('the line broke'))
      },
    })
    return new Response(reply.body.pipeThrough(cutter), { status: reply.status, headers: reply.headers })
  }
}

/** A server that is none of ours: it answers as the test says. */
async function startServer(answer: RequestListener) {
  const server = createServer(answer)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.dispose]() {
      server.close()
      server.closeAllConnections()
    },
  }
}

async function numbers(updates: AsyncIterable<Update>): Promise<number[]> {
  const seen: number[] = []
  for await (const update of updates) seen.push(update.type === 'event' ? update.event.n : -update.turn.n)
  return seen
}

async function thrown(by: Promise<unknown>): Promise<unknown> {
  return by.then(
    () => undefined,
    (error: unknown) => error,
  )
}

describe('follow', () => {
  test('gives every event once and in order, wherever the line breaks', async () => {
    await using net = await startNetwork({ replicas: 2 })
    const agent = await net.rawAgent({ pool: 'coder' })
    const { interaction } = await post(net.url(0), { pool: 'coder' }, 'x')
    const { request } = await agent.turn()
    agent.send(request, 1, ...Array.from({ length: 20 }, (_, i) => text(`word ${i} — ü `)), completed)
    const whole = await numbers(follow(net.url(0), interaction))
    expect(whole).toEqual(Array.from({ length: 23 }, (_, i) => i + 1))
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat({ max: 3000 }), { maxLength: 3 }), async (cuts) => {
        let asked = 0
        const base = () => net.url(asked++ % 2)
        expect(await numbers(follow(base, interaction, { fetch: brokenLine(cuts) }))).toEqual(whole)
      }),
      { numRuns: 25 },
    )
  })

  test('goes on after a cursor, and ends at once when there is nothing more', async () => {
    await using net = await startNetwork()
    const agent = await net.rawAgent({ pool: 'coder' })
    const { interaction } = await post(net.url(0), { pool: 'coder' }, 'x')
    const { request } = await agent.turn()
    agent.send(request, 1, text('a'), completed)
    const cursors: string[] = []
    for await (const { cursor } of follow(net.url(0), interaction)) cursors.push(cursor)
    expect(await numbers(follow(net.url(0), interaction, { after: cursors[1]! }))).toEqual([3, 4])
    expect(await numbers(follow(net.url(0), interaction, { after: cursors.at(-1)! }))).toEqual([])
  })

  test('gives the state where the log cannot be continued, and goes on after it', async () => {
    await using net = await startNetwork()
    const agent = await net.rawAgent({ pool: 'coder' })
    const { interaction } = await post(net.url(0), { pool: 'coder' }, 'x')
    const { request } = await agent.turn()
    agent.send(request, 1, text('a'))
    await agent.acked(request, 1)
    const updates = follow(net.url(0), interaction, { after: '9.lost' })
    const { value: state } = await updates.next()
    expect(state).toMatchObject({ type: 'snapshot', turn: { n: 3, entries: [{ text: 'a' }] }, cursor: '3' })
    agent.send(request, 2, completed)
    expect(await numbers(updates)).toEqual([4])
  })

  test('goes on elsewhere when its replica leaves', async () => {
    await using net = await startNetwork({ replicas: 2 })
    const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
    const { interaction } = await post(net.url(0), { pool: 'coder' }, 'x')
    const { request } = await agent.turn()
    let asked = 0
    const seen: number[] = []
    const end = (async () => {
      for await (const update of follow(() => net.url(Math.min(asked++, 1)), interaction))
        if (update.type === 'event') seen.push(update.event.n)
    })()
    await eventually(() => seen.length === 2)
    await net.replicas[0]!.drain()
    agent.send(request, 1, text('a'), completed)
    await end
    expect(seen).toEqual([1, 2, 3, 4])
  })

  test('asks again after a hole and passes over what it has, whoever is to blame', async () => {
    const asked: string[] = []
    const line = (n: number, type: string) => `id: ${n}\nevent: ${type}\ndata: {"n":${n},"type":"${type}","at":1}\n\n`
    using server = await startServer((req, res) => {
      const after = new URL(req.url!, 'http://x').searchParams.get('after')!
      asked.push(after)
      res.writeHead(200, { 'content-type': 'text/event-stream' })
      if (after === '0') return res.end('retry: 5\n\n' + line(1, 'submitted') + line(3, 'completed'))
      res.end(line(1, 'submitted') + line(2, 'title') + line(3, 'completed') + 'event: done\ndata: {}\n\n')
    })
    expect(await numbers(follow(server.url, NOBODYS))).toEqual([1, 2, 3])
    expect(asked).toEqual(['0', '1'])
  })

  test('takes a balancer without replicas for something that passes', async () => {
    let asked = 0
    using server = await startServer((_req, res) => {
      if (++asked < 4) return res.writeHead([502, 503, 504][asked % 3]!).end('<h1>Bad gateway</h1>')
      res.writeHead(204).end()
    })
    expect(await numbers(follow(server.url, NOBODYS))).toEqual([])
    expect(asked).toBe(4)
  })

  test('leaves a connection on which nothing comes', async () => {
    let asked = 0
    using server = await startServer((_req, res) => {
      if (++asked === 1) return // says nothing at all
      if (asked === 2) return res.writeHead(200).flushHeaders() // and then nothing
      res.writeHead(204).end()
    })
    expect(await numbers(follow(server.url, NOBODYS, { stallMs: 50 }))).toEqual([])
  })

  test('throws what asking again will not change', async () => {
    await using net = await startNetwork({ env: { CLIENT_KEYS: 'alice=key-of-alice' } })
    const refusal = (options: ClientOptions & { after?: string }) =>
      thrown(numbers(follow(net.url(0), NOBODYS, options)))
    expect(await refusal({})).toMatchObject({ name: 'GatewayError', status: 401, code: 'unauthorized' })
    expect(await refusal({ key: 'key-of-alice' })).toMatchObject({ status: 404, code: 'not_found' })
    expect(await refusal({ key: 'key-of-alice', after: 'x' })).toMatchObject({ code: 'invalid_cursor' })
  })

  test('gives up when nobody answers for long', async () => {
    const error = await thrown(numbers(follow('http://127.0.0.1:1', NOBODYS, { giveUpMs: 100 })))
    expect(error).toBeInstanceOf(GatewayError)
    expect(error).toMatchObject({ status: 0, code: 'unreachable' })
  })

  test.each(['before it begins', 'in mid-stream', 'between two attempts'])('ends with its signal, %s', async (when) => {
    await using net = await startNetwork()
    const { interaction } = await post(net.url(0), { pool: 'coder' }, 'x')
    const stop = new AbortController()
    const reason = new Error('enough')
    if (when === 'before it begins') stop.abort(reason)
    const base = when === 'between two attempts' ? 'http://127.0.0.1:1' : net.url(0)
    const end = thrown(numbers(follow(base, interaction, { signal: stop.signal })))
    setTimeout(() => stop.abort(reason), 100)
    expect(await end).toBe(reason)
  })
})

describe('send', () => {
  test('sends once, also when the answers get lost', async () => {
    await using net = await startNetwork({ replicas: 2 })
    const first = await send(net.url(0), { pool: 'coder', text: 'A' })
    let lost = 0
    const lossy: typeof fetch = async (url, init) => {
      const reply = await fetch(url, init)
      if (lost++ < 2) throw new TypeError('fetch failed')
      return reply
    }
    let asked = 0
    const base = () => net.url(asked++ % 2)
    const second = await send(base, { session: first.session, text: 'B' }, { fetch: lossy })
    expect(second).toMatchObject({ session: first.session, queued: 1 })
    const third = await send(base, { session: first.session, text: 'C' }, { fetch: brokenLine([3]) })
    const { body } = await api<{ interactions: { id: string; input: string }[] }>(
      net.url(0),
      `/sessions/${first.session}/interactions`,
    )
    expect(body.interactions.map(({ id, input }) => [id, input])).toEqual([
      [first.interaction, 'A'],
      [second.interaction, 'B'],
      [third.interaction, 'C'],
    ])
  })

  test('comes again when the queue was full', async () => {
    let asked = 0
    using server = await startServer((_req, res) => {
      if (++asked === 1) {
        res.writeHead(429, { 'retry-after': '0' })
        return res.end(JSON.stringify({ error: { code: 'queue_full', message: 'Full.', retry: true } }))
      }
      res.writeHead(202).end(JSON.stringify({ session: 's', interaction: 'i', queued: 0 }))
    })
    expect(await send(server.url, { pool: 'coder', text: 'x' })).toMatchObject({ interaction: 'i' })
  })

  test('throws a refusal', async () => {
    await using net = await startNetwork()
    expect(await thrown(send(net.url(0), { pool: 'nobody-has-it', text: 'x' }))).toMatchObject({
      code: 'model_not_found',
    })
    expect(await thrown(send(net.url(0), { pool: 'coder', text: '' }))).toMatchObject({ code: 'invalid_request' })
  })
})
