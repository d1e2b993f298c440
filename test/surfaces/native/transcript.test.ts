import { once } from 'node:events'
import { request, type IncomingMessage } from 'node:http'
import type { Interaction, Session } from '../../../src/core/core.js'
import { api, post, type Posted } from '../../support/client.js'
import { eventually } from '../../support/eventually.js'
import { startNetwork, type Network } from '../../support/network.js'
import { completed, text, type RawAgent } from '../../support/raw-agent.js'
import { startRedisServer } from '../../support/redis-server.js'

interface Page {
  interactions: Interaction[]
  next: string | null
}
interface Sessions {
  sessions: Session[]
  next: string | null
}
const ids = (page: { sessions: Session[] }) => page.sessions.map(({ title }) => title)
const newSession = async (net: Network, body: object) =>
  (await api<Session>(net.url(0), '/sessions', { pool: 'coder', ...body })).body

/** Posts messages and answers them, one after the other. */
async function talk(net: Network, agent: RawAgent, answers: string[]): Promise<Posted[]> {
  const turns: Posted[] = []
  for (const [i, said] of answers.entries()) {
    turns.push(await post(net.url(0), turns[0] ?? { pool: 'coder' }, `message ${i}`))
    const { request } = await agent.turn(agent.turns.length > i ? agent.turns.length - 1 : i)
    if (said === 'fails') agent.send(request, 1, { type: 'failed', code: 'own', message: 'No' })
    else agent.send(request, 1, text(said), completed)
    await agent.acked(request, 1)
  }
  return turns
}

describe('a list of sessions', () => {
  test('by pool, by activity and by a pair of metadata, page by page, newest first', async () => {
    await using net = await startNetwork({ env: { POOLS: 'coder,writer' } })
    for (let i = 0; i < 6; i++)
      await newSession(net, {
        pool: i % 2 ? 'writer' : 'coder',
        title: `${i}`,
        metadata: { ticket: `${i % 3}`, 'a:b': 'x' },
      })
    const busy = await post(net.url(0), { pool: 'writer' }, 'runs')
    const list = async (query: string) => (await api<Sessions>(net.url(0), `/sessions?${query}`)).body
    expect(ids(await list('pool=coder'))).toEqual(['4', '2', '0'])
    expect(ids(await list('metadata=ticket:1'))).toEqual(['4', '1'])
    expect(ids(await list('metadata=ticket:1&pool=writer'))).toEqual(['1'])
    expect(ids(await list('metadata=ticket:'))).toEqual([])
    expect((await list('active=true')).sessions.map(({ id }) => id)).toEqual([busy.session])
    expect(ids(await list('active=false&limit=2'))).toEqual(['5', '4'])

    const seen: string[] = []
    let before = ''
    for (;;) {
      const page = await list(`pool=coder&limit=2${before}`)
      seen.push(...ids(page))
      if (page.next === null) break
      before = `&before=${page.next}`
    }
    expect(seen).toEqual(['4', '2', '0'])
  })

  test('that is filtered looks at a bounded number of sessions and says where to go on', async () => {
    await using net = await startNetwork()
    const rare = await newSession(net, { title: 'rare', metadata: { rare: 'yes' } })
    for (let made = 0; made < 1050; made += 50) await Promise.all(Array.from({ length: 50 }, () => newSession(net, {})))
    const first = (await api<Sessions>(net.url(0), '/sessions?metadata=rare:yes')).body
    expect(first.sessions).toEqual([])
    expect(first.next).not.toBeNull()
    const second = (await api<Sessions>(net.url(0), `/sessions?metadata=rare:yes&before=${first.next}`)).body
    expect(second.sessions.map(({ id }) => id)).toEqual([rare.id])
  })

  test.each([
    'limit=0',
    'limit=101',
    'limit=1e1000',
    'limit=1&limit=2',
    'active=yes',
    'metadata=x',
    'pool=%00',
    'limt=1',
    'before=1',
  ])('with ?%s is refused by the name of the parameter', async (query) => {
    await using net = await startNetwork()
    const reply = await api<{ error: { param: string } }>(net.url(0), `/sessions?${query}`)
    expect(reply).toMatchObject({ status: 400, body: { error: { code: 'invalid_request' } } })
    expect(reply.body.error.param).toBe(query.split('=')[0])
  })
})

describe('a transcript', () => {
  test('in either order and by status, page by page', async () => {
    await using net = await startNetwork()
    const agent = await net.rawAgent({ pool: 'coder' })
    const turns = await talk(net, agent, ['a', 'fails', 'b', 'fails', 'c'])
    const path = `/sessions/${turns[0]!.session}/interactions`
    const read = async (query: string) => (await api<Page>(net.url(0), `${path}?${query}`)).body
    const inputs = (page: Page) => page.interactions.map(({ input }) => Number(input.slice(8)))
    await eventually(async () => inputs(await read('status=completed')).length === 3)
    expect(inputs(await read('order=desc'))).toEqual([4, 3, 2, 1, 0])
    expect(inputs(await read('status=failed&order=desc'))).toEqual([3, 1])
    const first = await read('order=desc&status=completed&limit=2')
    expect([inputs(first), first.next]).toEqual([[4, 2], turns[2]!.interaction])
    const rest = await read(`order=desc&status=completed&limit=2&after=${first.next}`)
    expect([inputs(rest), rest.next]).toEqual([[0], null])
    const exactly = await read('limit=5')
    expect([inputs(exactly), exactly.next]).toEqual([[0, 1, 2, 3, 4], null])
    for (const query of ['order=up', 'status=done', 'after=int_x'])
      expect(await api(net.url(0), `${path}?${query}`)).toMatchObject({
        status: 400,
        body: { error: { param: query.split('=')[0] } },
      })
  })

  test('whose answers are large comes in pages that are not', async () => {
    await using net = await startNetwork()
    const agent = await net.rawAgent({ pool: 'coder' })
    const turns: Posted[] = []
    for (let turn = 0; turn < 3; turn++) {
      turns.push(await post(net.url(0), turns[0] ?? { pool: 'coder' }, 'x'))
      const { request } = await agent.turn(turn)
      for (let n = 1; n <= 50; n++) {
        agent.send(request, n, text('x'.repeat(100_000)))
        if (n % 10 === 0) await agent.acked(request, n) // the window
      }
      agent.send(request, 51, completed)
      await agent.acked(request, 51)
    }
    const path = `/sessions/${turns[0]!.session}/interactions`
    const sizes: number[] = []
    for (let after: string | null = ''; after !== null;) {
      const page: Page = (await api<Page>(net.url(0), `${path}${after && `?after=${after}`}`)).body
      sizes.push(page.interactions.length)
      after = page.next
    }
    expect(sizes).toEqual([1, 1, 1])
  })
})

describe('an export', () => {
  test('is the whole transcript, as JSON, line by line, or for people', async () => {
    await using net = await startNetwork()
    const agent = await net.rawAgent({ pool: 'coder' })
    const turns = await talk(net, agent, ['an answer', 'fails', 'ends\n```js\nfence'])
    const { session } = turns[0]!
    const get = (query: string) => fetch(`${net.url(0)}/api/v1/sessions/${session}/export${query}`)
    await eventually(async () => (await api(net.url(0), `/sessions/${session}`)).body['current'] === null)

    const whole = await get('')
    expect(whole.headers.get('content-type')).toBe('application/json; charset=utf-8')
    expect(whole.headers.get('content-disposition')).toBe(`attachment; filename="${session}.json"`)
    const json = (await whole.json()) as { session: Session; interactions: Interaction[] }
    expect(json.session.id).toBe(session)
    expect(json.interactions).toEqual(
      (await api<Page>(net.url(0), `/sessions/${session}/interactions`)).body.interactions,
    )

    const lines = (await (await get('?format=ndjson&order=desc')).text()).trimEnd().split('\n')
    expect(lines.map((line) => Object.keys(JSON.parse(line) as object)[0])).toEqual([
      'session',
      ...turns.map(() => 'interaction'),
    ])
    expect((JSON.parse(lines[1]!) as { interaction: Interaction }).interaction.id).toBe(turns[2]!.interaction)

    const markdown = await (await get('?format=markdown')).text()
    expect(markdown).toMatch(/^# ses_.*\n/)
    expect(markdown).toContain('> message 0\n\nan answer\n')
    expect(markdown).toContain('**own**: No')

    expect((await fetch(`${net.url(0)}/api/v1/sessions/${session}/export`, { method: 'HEAD' })).status).toBe(200)
    expect((await get('?format=pdf')).status).toBe(400)
  })

  test('waits for a reader that takes nothing, and goes on when it does', async () => {
    await using redis = await startRedisServer() // whose commands are counted
    await using net = await startNetwork({ redisUrl: redis.url })
    const agent = await net.rawAgent({ pool: 'coder' })
    const size = 90_000
    const { session } = (
      await talk(
        net,
        agent,
        Array.from({ length: 120 }, () => 'x'.repeat(size)),
      )
    )[0]!
    const reads = () =>
      net.redis.info('commandstats').then((info) => Number(/cmdstat_hgetall:calls=(\d+)/.exec(info)![1]))
    const asked = request(`${net.url(0)}/api/v1/sessions/${session}/export?format=ndjson`).end()
    const [reply] = (await once(asked, 'response')) as [IncomingMessage]
    let before = -1
    await eventually(async () => before === (before = await reads()), { everyMs: 300, limitMs: 20_000 })
    const stopped = before
    reply.setEncoding('utf8')
    let said = ''
    for await (const chunk of reply) said += chunk as string
    expect(said.trimEnd().split('\n')).toHaveLength(121)
    expect((await reads()) - stopped).toBeGreaterThan(20) // most of it was read only then
  })
})
