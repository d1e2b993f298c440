import { tokens } from '../../src/auth/token.js'
import { newInteractionId, newSessionId } from '../../src/core/mint.js'
import { requestOf, type SessionId } from '../../src/protocol/ids.js'
import { api, post } from '../support/client.js'
import { startHelixAgent } from '../support/helix-agent.js'
import { startNetwork, type Network } from '../support/network.js'
import { text, type RawAgent } from '../support/raw-agent.js'

/** The doors of agents and of stream tokens: what is another's is as what does not exist, and is left alone. */
const TOKEN_SECRET = 'a secret of more than 32 characters'
const env = {
  CLIENT_KEYS: 'ann=key-of-ann-1,eve=key-of-eve-1',
  AGENT_KEYS: 'coder=key-of-coder,writer=key-of-writer',
  TOKEN_SECRET,
  POOLS: 'coder,writer',
}
const signer = tokens([TOKEN_SECRET])!
const keyOf = (who: 'ann' | 'eve') => ({ authorization: `Bearer key-of-${who}-1` })

/** A turn of ann's that an agent of pool coder has begun. */
async function ofAnn(net: Network): Promise<{ session: SessionId; agent: RawAgent; request: string }> {
  const agent = await net.rawAgent({ pool: 'coder', key: 'key-of-coder' })
  const { session } = await post(net.url(0), { pool: 'coder' }, 'hello', {}, keyOf('ann'))
  const { request } = await agent.turn()
  agent.send(request, 1, text('half'))
  await agent.acked(request, 1)
  return { session, agent, request }
}

/** A session of eve's, and the token of its agent. */
async function ofEve(net: Network): Promise<{ session: SessionId; token: string }> {
  const { body } = await api<{ id: SessionId }>(net.url(0), '/sessions', { pool: 'coder' }, { headers: keyOf('eve') })
  return { session: body.id, token: await signer.mint('agent', body.id, 60_000) }
}

test('an agent of another pool, or with the token of another session, gets nothing of a session and cannot tell that it is', async () => {
  await using net = await startNetwork({ env })
  const { session, agent, request } = await ofAnn(net)
  const { token } = await ofEve(net)
  const nowhere = newSessionId()
  const madeUp = requestOf(newInteractionId(nowhere), 1)
  for (const key of ['key-of-writer', token]) {
    const named = async (it: SessionId) => (await net.rawAgent({ sessions: [it], key })).welcome
    expect(await named(session)).toMatchObject({ ok: false, code: 'unauthorized', retry: false })
    expect(await named(session)).toEqual(await named(nowhere))
  }
  // nor by claiming to have its turn in hand
  const holding = async (it: SessionId, request: string) => {
    const claims = [{ session: it, request: request as `req_${string}` }]
    const { welcome } = await net.rawAgent({ pool: 'writer', key: 'key-of-writer', holding: claims })
    return JSON.stringify(welcome).replaceAll(request, 'request').replaceAll(it, 'session')
  }
  expect(await holding(session, request)).toContain('"ended":[{"session":"session","request":"request"}]')
  expect(await holding(session, request)).toBe(await holding(nowhere, madeUp))

  // nor by speaking of it: what is not held is dropped, whoever's it is
  const thief = await net.rawAgent({ pool: 'writer', key: 'key-of-writer' })
  thief.send(request as `req_${string}`, 2, text('words of a thief'))
  await thief.socket.timeout(5000).emitWithAck('leave', {}) // heard in order
  expect(thief.turns).toEqual([])

  const missing = { pool: 'coder', key: 'key-of-writer' }
  expect((await net.rawAgent(missing)).welcome).toMatchObject({ ok: false, code: 'unauthorized' })
  expect((await net.rawAgent({ ...missing, key: token })).welcome).toMatchObject({ ok: false, code: 'unauthorized' })
  for (const key of [undefined, 'key-of-ann-1', await signer.mint('stream', session, 60_000)])
    expect((await net.rawAgent({ pool: 'coder', ...(key && { key }) })).welcome).toMatchObject({ code: 'unauthorized' })

  // and the one whose it is goes on
  expect(agent.socket.connected).toBe(true)
  agent.send(request as `req_${string}`, 2, text(' and half'), { type: 'completed', reason: 'end_turn' })
  await agent.acked(request as `req_${string}`, 3)
  const turns = await api(net.url(0), `/sessions/${session}/interactions`, undefined, { headers: keyOf('ann') })
  expect(turns.body).toMatchObject({ interactions: [{ status: 'completed', text: 'half and half' }] })
})

test('nobody pushes another’s agent out by taking its name', async () => {
  await using net = await startNetwork({ replicas: 2, env })
  const ann = await api<{ id: SessionId }>(net.url(0), '/sessions', { pool: 'coder' }, { headers: keyOf('ann') })
  const eve = await ofEve(net)
  const hers = await signer.mint('agent', ann.body.id, 60_000)
  const named = await net.rawAgent({ agent: 'desk', sessions: [ann.body.id], key: hers })
  await using zed = await startHelixAgent({ url: net.url(0), session: ann.body.id, key: hers })
  for (const replica of [0, 1])
    for (const agent of ['desk', ann.body.id]) {
      const thief = await net.rawAgent({ replica, agent, sessions: [eve.session], key: eve.token })
      expect(thief.welcome.ok).toBe(true)
      const writer = await net.rawAgent({ replica, agent, pool: 'writer', key: 'key-of-writer' })
      expect(writer.welcome.ok).toBe(true)
    }
  // its own next connection does supersede it: when that has been heard of, the others have been, too
  const again = await net.rawAgent({ replica: 1, agent: 'desk', sessions: [ann.body.id], key: hers })
  expect(again.welcome.ok).toBe(true)
  await new Promise((resolve) => named.socket.once('disconnect', resolve))
  expect(named.notices.map(({ code }) => code)).toEqual(['superseded'])
  expect(zed.socket.readyState).toBe(1)
})

test('the Helix socket is the same for another’s session and for none', async () => {
  await using net = await startNetwork({ env })
  const { session, agent } = await ofAnn(net)
  const { token } = await ofEve(net)
  const refusal = (it: SessionId, key: string) =>
    startHelixAgent({ url: net.url(0), session: it, key }).then(
      () => 'let in',
      (err: Error) => err.message,
    )
  for (const key of ['key-of-writer', token, 'key-of-ann-1', 'x', await signer.mint('stream', session, 60_000)]) {
    expect(await refusal(session, key)).toBe('401 Invalid token')
    expect(await refusal(newSessionId(), key)).toBe('401 Invalid token')
  }
  expect(agent.socket.connected).toBe(true)
})

test('a stream token opens no stream of another session, and does not tell which there are', async () => {
  await using net = await startNetwork({ env })
  const { session, request } = await ofAnn(net)
  const eve = await ofEve(net)
  const token = await signer.mint('stream', eve.session, 60_000)
  const nowhere = newSessionId()
  const ask = async (path: string) => {
    const { status, body } = await api<{ error: { requestId: string } }>(net.url(0), `${path}?token=${token}`)
    return JSON.stringify({ status, body }).replace(body.error.requestId, '')
  }
  const interaction = `int_${request.slice('req_'.length, -2)}`
  expect(await ask(`/sessions/${session}/events`)).toContain('"status":404')
  expect(await ask(`/sessions/${session}/events`)).toBe(await ask(`/sessions/${nowhere}/events`))
  expect(await ask(`/interactions/${interaction}/events`)).toBe(
    await ask(`/interactions/${newInteractionId(nowhere)}/events`),
  )
  expect(await ask(`/sessions/${session}/queue`)).toContain('"status":401')
})
