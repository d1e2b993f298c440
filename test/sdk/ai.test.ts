import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { AbstractChat, DefaultChatTransport, validateUIMessages, type ChatState, type UIMessage } from 'ai'
import { lastingParts, serveChat, type Chat } from '../../src/sdk/ai.js'
import { createSession, getSession, sessions } from '../../src/sdk/client.js'
import { freePort } from '../../src/local/free-port.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'

/*
 * The `ai` package as it is, against our routes: what `useChat` is made of (AbstractChat, DefaultChatTransport), without
 * React.
 */
const FAST = { SWEEP_EVERY_MS: '300', AGENT_GRACE_MS: '1500', LEASE_TTL_MS: '1500' }

/** What `useChat` is, with plain fields in the place of React's state. */
class PlainChat extends AbstractChat<UIMessage> {
  readonly errors: Error[] = []

  constructor(api: string, id: string, messages: UIMessage[] = []) {
    const state: ChatState<UIMessage> = {
      status: 'ready',
      error: undefined,
      messages,
      pushMessage: (message) => void (state.messages = [...state.messages, message]),
      popMessage: () => void (state.messages = state.messages.slice(0, -1)),
      replaceMessage: (at, message) => void (state.messages = state.messages.with(at, structuredClone(message))),
      snapshot: (thing) => structuredClone(thing),
    }
    super({ id, state, transport: new DefaultChatTransport({ api }), onError: (error) => void this.errors.push(error) })
  }

  /** The text of the last message. */
  get said(): string {
    return textOf(this.lastMessage)
  }
}

const textOf = (message: UIMessage | undefined): string =>
  lastingParts(message?.parts ?? [])
    .flatMap((part) => (part.type === 'text' ? [part.text] : []))
    .join('')

/** An application's server: `/api/chat` and `/api/chat/<id>/stream`, on the same port after `restart`. */
async function startApp(net: Network, chat: Chat) {
  const port = await freePort()
  let server: Server
  const listen = async () => {
    server = createServer((req, res) => {
      const left = new AbortController()
      res.on('close', () => left.abort())
      const request = new Request(`http://127.0.0.1:${port}${req.url!}`, {
        method: req.method!,
        headers: req.headers as Record<string, string>,
        signal: left.signal,
        ...(req.method === 'POST' && { body: Readable.toWeb(req) as ReadableStream, duplex: 'half' }),
      })
      const route = chat[req.method as 'GET' | 'POST' | 'DELETE']
      void route(request).then(async (reply) => {
        res.writeHead(reply.status, Object.fromEntries(reply.headers))
        if (!reply.body) return void res.end()
        await pipeline(Readable.fromWeb(reply.body as never), res).catch(() => {}) // whoever read it has gone
      })
    }).listen(port, '127.0.0.1')
    await eventually(() => server.listening)
  }
  const stop = async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
  await listen()
  net.onDispose(stop)
  const app = { api: `http://127.0.0.1:${(server!.address() as AddressInfo).port}/api/chat`, stop, restart: listen }
  return app
}

async function start(options: Parameters<typeof startNetwork>[0] = {}) {
  const net = await startNetwork({ env: FAST, ...options })
  const chat = serveChat({ url: net.replicas.map(({ url }) => url), pool: 'coder' })
  const { api, ...app } = await startApp(net, chat)
  return { net, chat, api, app, [Symbol.asyncDispose]: () => net[Symbol.asyncDispose]() }
}

test('a message streams its answer: thoughts, tool calls, text; the next one goes to the same session', async () => {
  await using it = await start()
  const agent = await it.net.rawAgent({ pool: 'coder' })
  const chat = new PlainChat(it.api, 'chat-1')
  const sending = chat.sendMessage({ text: 'Fix it' })
  const { request, input, session } = await agent.turn()
  expect(input).toBe('Fix it')
  agent.send(
    request,
    1,
    { type: 'entry.append', entry: 'r', kind: 'reasoning', text: 'Hm.' },
    { type: 'entry.set', entry: 'tool', kind: 'tool_call', name: 'Read a.ts', status: 'in_progress' },
    { type: 'entry.append', entry: 'tool', text: '42 lines' },
  )
  await eventually(() => chat.lastMessage?.parts.some((part) => part.type === 'dynamic-tool') ?? false)
  expect(chat.status).toBe('streaming')
  agent.send(
    request,
    4,
    { type: 'entry.set', entry: 'tool', status: 'completed' },
    { type: 'entry.replace', entry: 'p', kind: 'plan', offset: 0, text: '1. look' },
    { type: 'entry.replace', entry: 'p', offset: 0, text: '1. looked' },
    text('Do'),
    text('ne.'),
    completed,
  )
  await sending
  expect(chat.status).toBe('ready')
  expect(chat.messages).toHaveLength(2)
  expect(chat.lastMessage).toMatchObject({
    role: 'assistant',
    parts: [
      { type: 'step-start' },
      { type: 'reasoning', text: 'Hm.', state: 'done' },
      { type: 'dynamic-tool', toolName: 'Read a.ts', state: 'output-available', output: '42 lines' },
      { type: 'data-throughline-plan', data: { text: '1. looked' } },
      { type: 'text', text: 'Done.', state: 'done' },
    ],
  })
  const again = chat.sendMessage({ text: 'And now?' })
  const next = await agent.turn(1)
  expect(next.session).toBe(session)
  agent.send(next.request, 1, text('More.'), completed)
  await again
  expect(chat.said).toBe('More.')

  const stored = await it.chat.messages('chat-1')
  await validateUIMessages({ messages: stored })
  expect(stored.map(({ role }) => role)).toEqual(['user', 'assistant', 'user', 'assistant'])
  expect(stored[1]!.parts.map(({ type }) => type)).toEqual([
    'reasoning',
    'dynamic-tool',
    'data-throughline-plan',
    'text',
  ])
  expect(textOf(stored[3])).toBe('More.')
})

test('kill -9 of the replica in mid-answer: the stream goes on, byte for byte', async () => {
  await using it = await start({ replicas: 2, processes: true })
  const chat = new PlainChat(it.api, 'chat-1')
  const agent = await it.net.rawAgent({ pool: 'coder', replica: 0, agent: 'a' })
  const sending = chat.sendMessage({ text: 'go' })
  const turn = await agent.turn()
  agent.send(turn.request, 1, text('one '))
  await eventually(() => chat.said === 'one ', { limitMs: 15_000 })
  await it.net.replicas[0]!.kill9()
  const back = await it.net.rawAgent({
    pool: 'coder',
    replica: 1,
    agent: 'a',
    holding: [{ session: turn.session, request: turn.request, acked: 1 }],
  })
  back.send(turn.request, 2, text('two '))
  await eventually(() => chat.said === 'one two ', { limitMs: 15_000 })
  await it.net.replicas[0]!.restart()
  await it.net.replicas[1]!.kill9()
  const again = await it.net.rawAgent({
    pool: 'coder',
    replica: 0,
    agent: 'a',
    holding: [{ session: turn.session, request: turn.request, acked: 2 }],
  })
  again.send(turn.request, 3, text('three'), completed)
  await sending
  expect(chat.errors).toEqual([])
  expect(chat.said).toBe('one two three')
  expect(chat.status).toBe('ready')
})

test('a page that is loaded anew in mid-answer shows the whole answer once; with nothing running it gets a 204', async () => {
  await using it = await start({ replicas: 2 })
  const agent = await it.net.rawAgent({ pool: 'coder' })
  const { id } = await createSession(it.net.url(0), { pool: 'coder' })
  const fresh = new PlainChat(it.api, id)
  await fresh.resumeStream()
  expect(fresh.status).toBe('ready')
  expect((await fetch(`${it.api}/${id}/stream`)).status).toBe(204)

  const first = new PlainChat(it.api, id)
  void first.sendMessage({ text: 'go' })
  const { request } = await agent.turn()
  agent.send(request, 1, text('one '))
  await eventually(() => first.said === 'one ')
  await first.stop() // the page is closed: the turn goes on
  agent.send(request, 2, text('two '))

  const second = new PlainChat(it.api, id, await it.chat.messages(id))
  expect(second.messages.map(({ role }) => role)).toEqual(['user'])
  const resuming = second.resumeStream()
  await eventually(() => second.said === 'one two ')
  expect(second.status).toBe('streaming')
  agent.send(request, 3, text('three'), completed)
  await resuming
  expect(second.said).toBe('one two three')
  expect(second.messages.map(({ role }) => role)).toEqual(['user', 'assistant'])

  await second.resumeStream()
  expect(second.status).toBe('ready')
  expect(second.messages).toHaveLength(2)
})

test('when the server with our routes dies, the chat resumes on its next instance from the start of the turn', async () => {
  await using it = await start()
  const agent = await it.net.rawAgent({ pool: 'coder' })
  const chat = new PlainChat(it.api, 'any id: it need not be ours')
  const sending = chat.sendMessage({ text: 'go' })
  const { request } = await agent.turn()
  agent.send(request, 1, text('one '))
  await eventually(() => chat.said === 'one ')
  await it.app.stop()
  await sending
  expect(chat.status).toBe('error')
  await it.app.restart()
  const resuming = chat.resumeStream()
  await eventually(() => chat.status === 'streaming')
  agent.send(request, 2, text('two'), completed)
  await resuming
  expect(chat.said).toBe('one two')
  expect(chat.messages.map(({ role }) => role)).toEqual(['user', 'assistant'])
  expect(agent.turns).toHaveLength(1)
})

test('DELETE cancels the turn: the stream ends, what was said stays, the agent is told', async () => {
  await using it = await start()
  const agent = await it.net.rawAgent({ pool: 'coder' })
  const chat = new PlainChat(it.api, 'chat-1')
  const sending = chat.sendMessage({ text: 'go' })
  const { request } = await agent.turn()
  agent.send(request, 1, text('half an ans'))
  await eventually(() => chat.said !== '')
  expect((await fetch(`${it.api}/chat-1/stream`, { method: 'DELETE' })).status).toBe(204)
  await sending
  expect(chat.status).toBe('ready')
  expect(chat.said).toBe('half an ans')
  await eventually(() => agent.cancels.length === 1)
  expect((await fetch(`${it.api}/chat-1/stream`, { method: 'DELETE' })).status).toBe(204) // nothing runs any more
})

test('a turn that fails is an error of the chat, and the chat goes on', async () => {
  await using it = await start()
  const agent = await it.net.rawAgent({ pool: 'coder' })
  const chat = new PlainChat(it.api, 'chat-1')
  const sending = chat.sendMessage({ text: 'go' })
  const { request } = await agent.turn()
  agent.send(request, 1, text('x'), { type: 'failed', code: 'model_error', message: 'The model is on fire.' })
  await sending
  expect(chat.status).toBe('error')
  expect(chat.error!.message).toBe('The model is on fire.')
  const again = chat.regenerate()
  const second = await agent.turn(1)
  expect(second.input).toBe('go')
  agent.send(second.request, 1, text('Fine now.'), completed)
  await again
  expect(chat.said).toBe('Fine now.')
})

test('an answer that begins anew, and a text that is replaced, void what was shown', async () => {
  await using it = await start({ env: { ...FAST, ON_AGENT_LOSS: 'retry', AGENT_GRACE_MS: '500' } })
  const lost = await it.net.rawAgent({ pool: 'coder' })
  const chat = new PlainChat(it.api, 'chat-1')
  const sending = chat.sendMessage({ text: 'go' })
  lost.send((await lost.turn()).request, 1, text('from the first'))
  await eventually(() => chat.said === 'from the first')
  const agent = await it.net.rawAgent({ pool: 'coder' })
  lost.close()
  const { request } = await agent.turn()
  agent.send(request, 1, text('I am absolutly sure'))
  await eventually(() => chat.said === 'I am absolutly sure', { limitMs: 15_000 })
  agent.send(request, 2, { type: 'entry.replace', entry: 't', offset: 5, text: 'not sure' }, completed)
  await sending
  expect(chat.said).toBe('I am not sure')
  expect(chat.lastMessage!.parts.filter(({ type }) => type === 'data-throughline-reset')).toMatchObject([
    { data: { reason: 'restarted' } },
    { data: { reason: 'replaced' } },
  ])
})

test('the same POST twice is one message; regenerating is another', async () => {
  await using it = await start()
  const agent = await it.net.rawAgent({ pool: 'coder' })
  const body = (trigger: string) => ({
    method: 'POST',
    body: JSON.stringify({
      id: 'chat-1',
      trigger,
      messages: [{ id: 'm1', role: 'user', parts: [{ type: 'text', text: 'go' }] }],
    }),
  })
  const first = await fetch(it.api, body('submit-message'))
  expect(first.headers.get('x-vercel-ai-ui-message-stream')).toBe('v1')
  const second = await fetch(it.api, body('submit-message'))
  const id = (reply: Response) => reply.headers.get('throughline-interaction-id')
  expect(id(second)).toBe(id(first))
  agent.send((await agent.turn()).request, 1, text('x'), completed)
  expect(await first.text()).toBe(await second.text())
  const third = await fetch(it.api, body('regenerate-message'))
  expect(id(third)).not.toBe(id(first))
  await third.body!.cancel()
  const all = []
  for await (const session of sessions(it.net.url(0))) all.push(session)
  expect(all).toHaveLength(1)
})

test('what cannot be answered is refused in words, and useChat shows them', async () => {
  await using it = await start()
  const refused = async (init: RequestInit, path = '') => {
    const reply = await fetch(`${it.api}${path}`, { method: 'POST', ...init })
    return [reply.status, ((await reply.json()) as { error: { code: string } }).error.code]
  }
  expect(await refused({ body: 'no json' })).toEqual([400, 'invalid_request'])
  expect(await refused({ body: '{"id":"x","messages":[]}' })).toEqual([400, 'invalid_request'])
  expect(await refused({ method: 'DELETE' })).toEqual([404, 'unknown_url'])

  const chat = new PlainChat(it.api, 'chat-1')
  await chat.sendMessage({ files: [{ type: 'file', mediaType: 'image/png', url: 'data:image/png;base64,AA==' }] })
  expect(chat.status).toBe('error')
  expect(chat.error!.message).toContain('text only')

  const gone = new PlainChat(it.api, 'ses_00000000000000000000000000')
  await gone.resumeStream()
  expect(gone.status).toBe('ready')
  await gone.sendMessage({ text: 'hello?' })
  expect(gone.error!.message).toContain('not_found')
})

test('an application may map chats to sessions itself', async () => {
  await using net = await startNetwork({ env: FAST })
  const { id } = await createSession(net.url(0), { pool: 'coder' })
  const chat = serveChat({
    url: net.url(0),
    pool: 'coder',
    session: (chatId) => Promise.resolve(chatId === 'mine' ? id : null),
  })
  const post = (chatId: string) =>
    chat.POST(
      new Request('http://app/api/chat', {
        method: 'POST',
        body: JSON.stringify({
          id: chatId,
          messages: [{ id: 'm', role: 'user', parts: [{ type: 'text', text: 'hi' }] }],
        }),
      }),
    )
  const reply = await post('mine')
  expect(reply.status).toBe(200)
  expect((await getSession(net.url(0), id)).current).toBe(reply.headers.get('throughline-interaction-id'))
  await reply.body!.cancel()
  expect((await post("somebody else's")).status).toBe(404)
  expect((await chat.GET(new Request('http://app/api/chat/unknown/stream'))).status).toBe(204)
  expect(await chat.messages('unknown')).toEqual([])
})
