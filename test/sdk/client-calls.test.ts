import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import {
  cancel,
  createSession,
  deleteSession,
  follow,
  getInteraction,
  getSession,
  outputText,
  send,
  sessions,
  transcript,
  watch,
  type Turn,
} from '../../src/sdk/client.js'
import { interactionId, sessionId } from '../../src/protocol/ids.js'
import { freePort } from '../../src/local/free-port.js'
import { api } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}

test('a conversation from its making to its end: make, send, watch, read, cancel, list, delete', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const base = [net.url(0), net.url(1)]
  const agent = await net.rawAgent({ pool: 'coder' })
  const session = await createSession(base, { pool: 'coder', title: 'Tests', metadata: { repo: 'web' } })
  expect(session).toMatchObject({ pool: 'coder', title: 'Tests', metadata: { repo: 'web' }, current: null, turns: 0 })

  const first = await send(base, { session: session.id, text: 'one' })
  const { request } = await agent.turn()
  agent.send(request, 1, text('an'), text('swer'), completed)
  let last: Turn | undefined
  for await (const turn of watch(base, first.interaction)) last = turn
  expect(last).toMatchObject({ status: 'completed' })
  expect(outputText(last!)).toBe('answer')
  expect(await getInteraction(base, first.interaction)).toMatchObject({ status: 'completed', text: 'answer' })

  const second = await send(base, { session: session.id, text: 'two' })
  expect(await getSession(base, session.id)).toMatchObject({ current: second.interaction, turns: 2 })
  expect(await cancel(base, second.interaction)).toMatchObject({ status: 'cancelled' })
  expect(await cancel(base, second.interaction)).toMatchObject({ status: 'cancelled' })
  expect(await cancel(base, first.interaction)).toMatchObject({ status: 'completed' })

  expect((await all(transcript(base, session.id))).map(({ input, status }) => [input, status])).toEqual([
    ['one', 'completed'],
    ['two', 'cancelled'],
  ])
  expect((await all(sessions(base))).map(({ id }) => id)).toContain(session.id)
  await deleteSession(base, session.id)
  await deleteSession(base, session.id) // as when the first answer was lost
  await expect(getSession(base, session.id)).rejects.toMatchObject({ status: 404, code: 'not_found' })
})

test('a transcript and a listing go over their pages', async () => {
  await using net = await startNetwork()
  const { id } = await createSession(net.url(0), { pool: 'coder' })
  for (let i = 0; i < 45; i++) {
    const { interaction } = await send(net.url(0), { session: id, text: `${i}` })
    await cancel(net.url(0), interaction)
  }
  const turns = await all(transcript(net.url(0), id))
  expect(turns.map(({ input }) => input)).toEqual(Array.from({ length: 45 }, (_, i) => `${i}`))
  expect(await all(transcript(net.url(0), id, { after: turns[42]!.id }))).toHaveLength(2)

  for (let i = 0; i < 101; i++) await createSession(net.url(0), { pool: 'coder' })
  expect(new Set((await all(sessions(net.url(0)))).map((it) => it.id)).size).toBe(102)
})

test('of several addresses each attempt takes another, so a call finds the replica that is there', async () => {
  await using net = await startNetwork()
  const nobody = `http://127.0.0.1:${await freePort()}`
  const agent = await net.rawAgent({ pool: 'coder' })
  for (let i = 0; i < 4; i++) {
    const { interaction } = await send([nobody, net.url(0)], { pool: 'coder', text: 'x' })
    const { request } = await agent.turn(i)
    agent.send(request, 1, completed)
    const turns = await all(watch([nobody, net.url(0)], interaction))
    expect(turns.at(-1)!.status).toBe('completed')
  }
})

test('a session that is asked for twice under one key is made once', async () => {
  await using net = await startNetwork()
  const options = { idempotencyKey: 'chat-1' }
  const made = await createSession(net.url(0), { pool: 'coder' }, options)
  expect((await createSession(net.url(0), { pool: 'coder' }, options)).id).toBe(made.id)
})

test('a stream token goes along as ?token=, asked for anew at every attempt, and no key with it', async () => {
  const asked: { token: string | null; authorization: string | undefined }[] = []
  const server = createServer((req, res) => {
    const token = new URL(req.url!, 'http://x').searchParams.get('token')
    asked.push({ token, authorization: req.headers.authorization })
    if (token === 't/2') return void res.writeHead(401).end() // it ran out on its way
    res.writeHead(200, { 'content-type': 'text/event-stream' })
    if (asked.length < 3) return void res.end('retry: 1\n\n')
    res.end('event: done\ndata: {}\n\n')
  }).listen(0, '127.0.0.1')
  await eventually(() => server.listening)
  try {
    const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    let minted = 0
    const id = interactionId(sessionId(0, new Uint8Array(16)), new Uint8Array(10))
    await all(follow(base, id, { token: () => Promise.resolve(`t/${++minted}`) }))
    expect(asked).toEqual([
      { token: 't/1', authorization: undefined },
      { token: 't/2', authorization: undefined },
      { token: 't/3', authorization: undefined },
    ])
    await expect(all(follow(base, id, { token: () => 't/2' }))).rejects.toMatchObject({ status: 401 })
    expect(asked).toHaveLength(5)
  } finally {
    server.close()
  }
})

test('a reader with stream tokens, which run out in mid-turn, reads all of it once and holds no key', async () => {
  const env = { CLIENT_KEYS: 'alice=key-of-alice', TOKEN_SECRET: 'a secret of more than 32 characters' }
  await using net = await startNetwork({ replicas: 2, env })
  const agent = await net.rawAgent({ pool: 'coder' })
  const key = { headers: { authorization: 'Bearer key-of-alice' } }
  const { session, interaction } = await send(net.url(0), { pool: 'coder', text: 'x' }, { key: 'key-of-alice' })
  const mint = async () => {
    const body = { ttlSeconds: 1 }
    const made = await api<{ token: string }>(net.url(0), `/sessions/${session}/token`, body, key)
    return made.body.token
  }
  let minted = 0
  let asked = 0
  const seen: number[] = []
  const read = (async () => {
    const base = () => net.url(asked++ % 2)
    for await (const update of follow(base, interaction, { token: () => (minted++, mint()) }))
      if (update.type === 'event') seen.push(update.event.n)
  })()
  const { request } = await agent.turn()
  agent.send(request, 1, text('before '))
  await eventually(() => minted >= 3, { limitMs: 20_000 }) // two of them have run out
  agent.send(request, 2, text('and after'), completed)
  await read
  expect(seen).toEqual([1, 2, 3, 4, 5])
  await expect(all(follow(net.url(0), interaction, { token: 'forged' }))).rejects.toMatchObject({ status: 401 })
})

test('a signal ends every call with its reason', async () => {
  const nobody = `http://127.0.0.1:${await freePort()}`
  const id = sessionId(0, new Uint8Array(16))
  for (const call of [
    (signal: AbortSignal) => createSession(nobody, { pool: 'coder' }, { signal }),
    (signal: AbortSignal) => getSession(nobody, id, { signal }),
    (signal: AbortSignal) => all(transcript(nobody, id, { signal })),
    (signal: AbortSignal) => cancel(nobody, interactionId(id, new Uint8Array(10)), { signal }),
  ]) {
    const stop = new AbortController()
    const calling = call(stop.signal)
    stop.abort(new Error('enough'))
    await expect(calling).rejects.toThrow('enough')
  }
})
