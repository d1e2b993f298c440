import { newInteractionId, newSessionId } from '../../src/core/mint.js'
import { interactionId, type InteractionId, type SessionId } from '../../src/protocol/ids.js'
import { api, post } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'

/** Walks every route that Express has with a stranger's key, and without one. A route that is not told here fails. */
const env = {
  CLIENT_KEYS: 'ann=key-of-ann-1,eve=key-of-eve-1',
  AGENT_KEYS: '*=key-of-agents',
  TOKEN_SECRET: 'a secret of more than 32 characters',
  HELIX_POOL: 'coder',
}
const keyOf = (who: 'ann' | 'eve') => ({ authorization: `Bearer key-of-${who}-1` })

/** Ids of one session with one turn, whoever's they are. */
interface Ids {
  session: SessionId
  interaction: InteractionId
}
const named = ({ session, interaction }: Ids): Record<string, string> => ({
  session,
  interaction,
  permission: 'p1',
  response: interaction.replace('int_', 'resp_'),
  conversation: session.replace('ses_', 'conv_'),
  item: `msg_${interaction.slice('int_'.length)}_in_0`,
  id: 'coder',
})

interface Told {
  /** What is sent: one request each. Default: one without a body. */
  bodies?: (ids: Record<string, string>) => unknown[]
  queries?: string[]
  headers?: (ids: Record<string, string>) => Record<string, string>
  /** What a stranger is answered, where it is not 404: the ids stand in a list that is refused as a whole. */
  status?: number
}
const messages = [{ role: 'user', content: 'hi' }]
const helix = [{ role: 'user', content: { content_type: 'text', parts: ['hi'] } }]

/** Open to all, and the same for all. */
const PUBLIC = [
  'GET /api/v1/openapi.json',
  'GET /docs',
  'GET /docs/start.js',
  'GET /docs/swagger-ui.css',
  'GET /docs/swagger-ui-bundle.js',
  'GET /docs/favicon-32x32.png',
]
/** They name nobody's things: they make new ones, or list the caller's own. */
const OWN = [
  'GET /api/v1/sessions',
  'POST /api/v1/sessions',
  'POST /api/v1/messages',
  'GET /v1/models',
  'GET /v1/models/:id',
  'POST /v1/responses/compact',
  'POST /v1/responses/input_tokens',
]
/** They name what belongs to somebody, in the path, the body or a header. */
const NAMING: Record<string, Told> = {
  'POST /api/v1/sessions/chat': { bodies: ({ session }) => [{ session_id: session, messages: helix }] },
  'POST /api/v1/sessions/:session/messages': {
    bodies: () => [
      { text: 'hi' },
      { text: 'hi', stream: true },
      { text: 'hi', wait: true },
      { content: 'hi' },
      { content: 'hi', interrupt: true },
    ],
  },
  'GET /api/v1/sessions/:session/interactions': { queries: ['', '?page=0', '?order=desc'] },
  'GET /api/v1/sessions/:session/interactions/:interaction': {},
  'GET /api/v1/sessions/:session': {},
  'DELETE /api/v1/sessions/:session': {},
  'GET /api/v1/sessions/:session/queue': {},
  'POST /api/v1/sessions/:session/cancel': {},
  'GET /api/v1/interactions/:interaction': {},
  'GET /api/v1/interactions/:interaction/events': { queries: ['', '?after=1'] },
  'POST /api/v1/interactions/:interaction/permissions/:permission': { bodies: () => [{ option: 'yes' }] },
  'POST /api/v1/interactions/:interaction/cancel': {},
  'GET /api/v1/sessions/:session/events': { queries: ['', '?after=0'] },
  'GET /api/v1/sessions/:session/export': { queries: ['', '?format=markdown', '?format=ndjson'] },
  'POST /api/v1/sessions/:session/token': { bodies: () => [{}, { ttlSeconds: 60 }] },
  'POST /v1/chat/completions': {
    bodies: ({ session }) => [
      { model: 'coder', messages, metadata: { session_id: session } },
      { model: 'coder', messages, metadata: { session_id: session }, stream: true },
      { model: 'other', messages, metadata: { session_id: session } },
    ],
  },
  'POST /v1/responses': {
    bodies: ({ response, conversation }) => [
      { model: 'coder', input: 'hi', previous_response_id: response },
      { model: 'coder', input: 'hi', previous_response_id: response, stream: true },
      { model: 'coder', input: 'hi', conversation },
      { input: 'hi', conversation: { id: conversation } },
    ],
  },
  'GET /v1/responses/:response': { queries: ['', '?stream=true', '?stream=true&starting_after=0'] },
  'DELETE /v1/responses/:response': {},
  'POST /v1/responses/:response/cancel': {},
  'GET /v1/responses/:response/input_items': {},
  'POST /v1/conversations': {
    bodies: ({ item }) => [{ items: [{ type: 'item_reference', id: item }] }],
    status: 400,
  },
  'GET /v1/conversations/:conversation': {},
  'POST /v1/conversations/:conversation': { bodies: () => [{ metadata: { a: 'b' } }] },
  'DELETE /v1/conversations/:conversation': {},
  'GET /v1/conversations/:conversation/items': { queries: ['', '?order=desc'] },
  'GET /v1/conversations/:conversation/items/:item': {},
}

/** The requests that a route's line stands for, with these ids in them. */
function requestsOf(route: string, told: Told, ids: Record<string, string>) {
  const [method, pattern] = route.split(' ') as [string, string]
  const path = pattern.replaceAll(/:(\w+)/g, (_, name: string) => ids[name]!)
  return (told.bodies?.(ids) ?? [undefined]).flatMap((body) =>
    (told.queries ?? ['']).map((query) => ({ method, path: path + query, body })),
  )
}

interface Answer {
  status: number
  headers: Record<string, string>
  body: string
}

async function ask(
  net: Network,
  { method, path, body }: { method: string; path: string; body?: unknown },
  headers: Record<string, string>,
): Promise<Answer> {
  const over = new AbortController()
  const res = await fetch(net.url(0) + path, {
    method,
    signal: over.signal,
    headers: { ...(body !== undefined && { 'content-type': 'application/json' }), ...headers },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })
  const stream = res.ok && /event-stream/.test(res.headers.get('content-type') ?? '')
  const text = stream ? '' : await res.text()
  over.abort()
  return { status: res.status, headers: Object.fromEntries(res.headers), body: text }
}

/** An answer without what is of the one request, and without the ids that were asked for. */
function told({ status, headers, body }: Answer, ids: Record<string, string>): Answer {
  const id = headers['x-request-id']!
  delete headers['date']
  let text = JSON.stringify({ headers, body }).replaceAll(id, '<request>')
  for (const [name, value] of Object.entries(ids)) if (name !== 'id') text = text.replaceAll(value, `<${name}>`)
  return { status, ...(JSON.parse(text) as Omit<Answer, 'status'>) }
}

/** A session of ann's with a turn in which the agent has asked something; a fresh one each time. */
async function ofAnn(net: Network): Promise<Ids> {
  const { session, interaction } = await post(net.url(0), { pool: 'coder' }, 'secret of ann', {}, keyOf('ann'))
  const read = () =>
    api<{ permissions: unknown[] }>(net.url(0), `/interactions/${interaction}`, undefined, { headers: keyOf('ann') })
  await eventually(async () => (await read()).body.permissions.length > 0)
  return { session, interaction }
}

/** An agent that asks for a permission in every turn, says something, and goes on. */
async function asker(net: Network): Promise<void> {
  const agent = await net.rawAgent({ pool: 'coder', key: 'key-of-agents', capacity: 1000 })
  agent.socket.on('turn', ({ request }) =>
    agent.send(
      request,
      1,
      { type: 'entry.append', entry: 't', text: 'secret of the agent' },
      {
        type: 'permission',
        permission: 'p1',
        title: 'May I?',
        options: [{ id: 'yes', name: 'Yes', kind: 'allow_once' }],
      },
    ),
  )
}

const unknown = (): Ids => {
  const session = newSessionId()
  return { session, interaction: newInteractionId(session) }
}

test('every route is told of here', async () => {
  await using net = await startNetwork({ env })
  const routes = net.replicas[0]!.routes.filter((route) => !route.startsWith('OPTIONS '))
  expect([...new Set(routes)].sort()).toEqual([...PUBLIC, ...OWN, ...Object.keys(NAMING)].sort())
})

test('what is another’s is answered as what does not exist, on every route, and stays as it was', async () => {
  await using net = await startNetwork({ env })
  await asker(net)
  const foreign = await ofAnn(net)
  const known = named(foreign)
  const seen = async () => {
    const paths = [
      `/sessions/${foreign.session}`,
      `/sessions/${foreign.session}/interactions`,
      `/interactions/${foreign.interaction}`,
    ]
    return Promise.all(
      paths.map(async (path) => (await api(net.url(0), path, undefined, { headers: keyOf('ann') })).body),
    )
  }
  const before = await seen()
  for (const [route, line] of Object.entries(NAMING)) {
    const nothing = named(unknown())
    const others = requestsOf(route, line, nothing)
    for (const [i, request] of requestsOf(route, line, known).entries()) {
      const [theirs, none] = [await ask(net, request, keyOf('eve')), await ask(net, others[i]!, keyOf('eve'))]
      const what = `${route} ${JSON.stringify(request.body ?? '')}`
      expect([what, theirs.status]).toEqual([what, line.status ?? 404])
      expect([what, told(theirs, known)]).toEqual([what, told(none, nothing)])
      // a mistake in the request tells nothing either
      const wrong = {
        ...request,
        path: `${request.path}${request.path.includes('?') ? '&' : '?'}limit=x&after=x`,
        body: request.body && { ...request.body, metadata: 7 },
      }
      const [a, b] = [
        await ask(net, wrong, keyOf('eve')),
        await ask(net, { ...wrong, path: wrong.path.replace(request.path, others[i]!.path) }, keyOf('eve')),
      ]
      expect([what, told(a, known)]).toEqual([what, told(b, nothing)])
    }
    const [method, path] = [route.split(' ')[0], requestsOf(route, line, known)[0]!.path]
    if (method === 'GET')
      expect([route, (await ask(net, { method: 'HEAD', path }, keyOf('eve'))).status]).toEqual([route, 404])
  }
  const header = { 'throughline-session-id': foreign.session }
  const chat = { method: 'POST', path: '/v1/chat/completions', body: { model: 'coder', messages } }
  expect((await ask(net, chat, { ...keyOf('eve'), ...header })).status).toBe(404)
  expect(await seen()).toEqual(before)
})

test('the same requests open what is one’s own, so that it is the key which shuts the door', async () => {
  await using net = await startNetwork({ env: { ...env, WAIT_LIMIT_MS: '50' } })
  await asker(net)
  for (const [route, line] of Object.entries(NAMING)) {
    for (const i of requestsOf(route, line, named(unknown())).keys()) {
      const request = requestsOf(route, line, named(await ofAnn(net)))[i]!
      const { status, body } = await ask(net, request, keyOf('ann'))
      const rightModel = (request.body as { model?: string } | undefined)?.model !== 'other'
      if (rightModel)
        expect([route, request.body, status, body]).not.toEqual([route, request.body, line.status ?? 404, body])
    }
  }
})

test('a turn of another’s is unknown in one’s own session, too', async () => {
  await using net = await startNetwork({ env })
  await asker(net)
  const [foreign, none] = [named(await ofAnn(net)), named(unknown())]
  const mine = named(await post(net.url(0), { pool: 'coder' }, 'of eve', {}, keyOf('eve')))
  const paths = (ids: Record<string, string>) => [
    `/api/v1/sessions/${mine['session']}/interactions/${ids['interaction']}`,
    `/api/v1/sessions/${mine['session']}/interactions?after=${ids['interaction']}`,
    `/api/v1/sessions/${mine['session']}/events?after=${ids['interaction']}/1`,
    `/api/v1/sessions?before=1.${ids['session']}`,
    `/v1/conversations/${mine['conversation']}/items?after=${ids['item']}`,
    `/v1/conversations/${mine['conversation']}/items/${ids['item']}`,
    `/v1/responses/${mine['response']}/input_items?after=${ids['item']}`,
  ]
  for (const [i, path] of paths(foreign).entries()) {
    const [theirs, nothing] = [
      await ask(net, { method: 'GET', path }, keyOf('eve')),
      await ask(net, { method: 'GET', path: paths(none)[i]! }, keyOf('eve')),
    ]
    expect([path, told(theirs, foreign)]).toEqual([path, told(nothing, none)])
    expect(theirs.body).not.toContain('secret')
  }
  const reference = (ids: Record<string, string>) => ({
    method: 'POST',
    path: '/v1/responses',
    body: { model: 'coder', input: [{ type: 'item_reference', id: ids['item'] }] },
  })
  const [theirs, nothing] = [
    await ask(net, reference(foreign), keyOf('eve')),
    await ask(net, reference(none), keyOf('eve')),
  ]
  expect(theirs.status).toBe(400)
  expect(told(theirs, foreign)).toEqual(told(nothing, none))
})

test('lists hold what is one’s own, and a key that another used before is a new one', async () => {
  await using net = await startNetwork({ env })
  await asker(net)
  const foreign = await ofAnn(net)
  expect((await ask(net, { method: 'GET', path: '/api/v1/sessions' }, keyOf('eve'))).body).toBe(
    '{"sessions":[],"next":null}',
  )
  const once = { 'idempotency-key': 'k-1' }
  const [first, second] = [
    await post(net.url(0), { pool: 'coder' }, 'x', {}, { ...keyOf('ann'), ...once }),
    await post(net.url(0), { pool: 'coder' }, 'x', {}, { ...keyOf('eve'), ...once }),
  ]
  expect(second.session).not.toBe(first.session)
  const models = await Promise.all(
    (['ann', 'eve'] as const).map((who) => ask(net, { method: 'GET', path: '/v1/models' }, keyOf(who))),
  )
  expect(models[0]!.body).toBe(models[1]!.body)
  expect(models[0]!.body).not.toContain(foreign.session)
})

test('without a key nothing is open but what is public: the same 401 for what is and what is not', async () => {
  await using net = await startNetwork({ env: { ...env, MAX_AUTH_FAILURES: '1000000' } }) // so many are tried here
  await asker(net)
  const foreign = await ofAnn(net)
  const [known, none] = [named(foreign), named(unknown())]
  for (const route of PUBLIC) {
    const [method, path] = route.split(' ') as [string, string]
    expect([route, (await ask(net, { method, path }, {})).status]).toEqual([route, 200])
  }
  const all = { ...Object.fromEntries(OWN.map((route) => [route, {}])), ...NAMING }
  for (const [route, line] of Object.entries(all)) {
    const others = requestsOf(route, line, none)
    for (const [i, request] of requestsOf(route, line, known).entries())
      for (const headers of [{}, { authorization: 'Bearer key-of-ann-2' }, { authorization: 'Basic YW5uOg==' }]) {
        const answer = await ask(net, request, headers as Record<string, string>)
        expect([route, answer.status]).toEqual([route, 401])
        expect(answer.headers['www-authenticate']).toBe('Bearer')
        expect(told(answer, known)).toEqual(told(await ask(net, others[i]!, headers as Record<string, string>), none))
      }
  }
  // and what is no route at all does not tell that by asking for a key
  expect((await ask(net, { method: 'GET', path: '/api/v1/nowhere' }, {})).status).toBe(404)
})

test('ids carry no rights: a made-up turn of a real session is unknown to everybody', async () => {
  await using net = await startNetwork({ env })
  await asker(net)
  const { session } = await ofAnn(net)
  const path = `/api/v1/interactions/${interactionId(session, new Uint8Array(10))}`
  for (const who of ['ann', 'eve'] as const)
    expect((await ask(net, { method: 'GET', path }, keyOf(who))).status).toBe(404)
})
