import { readFileSync } from 'node:fs'
import ts from 'typescript'
import { outputText } from '../../src/protocol/fold.js'
import { serve, type Handler, type ServeOptions, type Turn } from '../../src/sdk/agent.js'
import { createSession, send } from '../../src/sdk/client.js'
import { post, watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'

/*
 * What docs/agent-sdk.md says and no other test of the SDK shows, against the real gateway.
 */
const FAST = { SWEEP_EVERY_MS: '300', AGENT_GRACE_MS: '1500', LEASE_TTL_MS: '1500' }
const quiet = { info() {}, warn() {} }

function agentOf(net: Network, handler: Handler, options: Partial<ServeOptions> = {}) {
  const agent = serve({ url: net.url(0), pool: 'coder', log: quiet, ...options }, handler)
  net.onDispose(() => agent.close(0))
  return agent
}

const waits = (turn: Turn) => new Promise<void>((resolve) => turn.signal.addEventListener('abort', () => resolve()))

test('everything an agent can say reaches the reader', async () => {
  await using net = await startNetwork({ env: FAST })
  const turns: Turn[] = []
  agentOf(net, async (turn) => {
    turns.push(turn)
    await turn.setThread('thread-7')
    await turn.setTitle('Title '.repeat(200))
    await turn.reasoning('Hm.')
    await turn.plan('1. look')
    await turn.plan('1. looked')
    const tool = await turn.toolCall({ name: 'Read a.ts' })
    await tool.append('42 ')
    await tool.append('lines')
    await tool.update({ name: 'Read a.ts (all of it)' })
    await tool.done()
    const other = await turn.toolCall({ name: 'Write a.ts', id: 'write', status: 'pending' })
    await other.fail()
    await turn.text('It is ')
    await turn.text('done')
    await turn.append('mine', 'Bye now')
    await turn.replace('mine', 3, '.')
    await turn.usage({ inputTokens: 1, outputTokens: 2 })
    await turn.usage({ inputTokens: 10, outputTokens: 20, cachedTokens: 5 })
    await turn.complete('max_tokens')
  })
  const { session, interaction } = await send(net.url(0), { pool: 'coder', text: 'go', metadata: { repo: 'web' } })
  const seen = watch(net.url(0), interaction)
  await seen.done
  expect(seen.turn).toMatchObject({
    status: 'completed',
    stopReason: 'max_tokens',
    thread: 'thread-7',
    usage: { inputTokens: 10, outputTokens: 20, cachedTokens: 5 },
  })
  expect(seen.turn.title).toHaveLength(512)
  expect(seen.turn.entries.map(({ kind, text, name, status }) => [kind, text, name, status])).toEqual([
    ['reasoning', 'Hm.', undefined, undefined],
    ['plan', '1. looked', undefined, undefined],
    ['tool_call', '42 lines', 'Read a.ts (all of it)', 'completed'],
    ['tool_call', '', 'Write a.ts', 'failed'],
    ['text', 'It is done', undefined, undefined],
    ['text', 'Bye.', undefined, undefined],
  ])
  expect(turns[0]).toMatchObject({ input: 'go', metadata: { repo: 'web' }, thread: null, attempt: 1, session })
  await watch(net.url(0), (await send(net.url(0), { session, text: 'again' })).interaction).done
  expect(turns[1]).toMatchObject({ thread: 'thread-7', metadata: {} })
})

test('a failure has the words of the agent, cut to what a reader may be shown', async () => {
  await using net = await startNetwork({ env: FAST })
  agentOf(net, (turn) => turn.fail('c'.repeat(100), 'm'.repeat(10_000)))
  const seen = watch(net.url(0), (await post(net.url(0), { pool: 'coder' }, 'go')).interaction)
  await seen.done
  expect(seen.turn.status).toBe('failed')
  expect(seen.turn.error!.code).toHaveLength(64)
  expect(seen.turn.error!.message).toHaveLength(8192)
})

test('an agent gets no more turns at a time than its capacity, and the next when one has ended', async () => {
  await using net = await startNetwork({ env: FAST })
  let running = 0
  let most = 0
  const go: (() => void)[] = []
  agentOf(
    net,
    async () => {
      most = Math.max(most, ++running)
      await new Promise<void>((resolve) => go.push(resolve))
      running--
    },
    { capacity: 2 },
  )
  const all = []
  for (let i = 0; i < 5; i++)
    all.push(watch(net.url(0), (await post(net.url(0), { pool: 'coder' }, `${i}`)).interaction))
  for (let i = 0; i < 5; i++) {
    await eventually(() => go.length > i)
    go[i]!()
  }
  await Promise.all(all.map(({ done }) => done))
  expect(most).toBe(2)
})

test('an agent may serve sessions by name, without a pool', async () => {
  await using net = await startNetwork({ env: FAST })
  const { id } = await createSession(net.url(0), { pool: 'coder' })
  agentOf(net, (turn) => turn.text('just for you'), { pool: undefined, sessions: [id] })
  const seen = watch(net.url(0), (await send(net.url(0), { session: id, text: 'hi' })).interaction)
  await seen.done
  expect(outputText(seen.turn)).toBe('just for you')
})

test('restarted under the same id an agent is handed at once what its predecessor had not begun to answer', async () => {
  await using net = await startNetwork({ env: { ...FAST, AGENT_GRACE_MS: '60000' } })
  const first = agentOf(net, waits, { agent: 'coder-1' })
  const { interaction } = await post(net.url(0), { pool: 'coder' }, 'go')
  const seen = watch(net.url(0), interaction)
  await eventually(() => seen.turn.attempt === 1)
  // a second process: the first one is superseded, as when its connection has not been noticed to be dead
  agentOf(net, (turn) => turn.text(`attempt ${turn.attempt}`), { agent: 'coder-1' })
  void first.close(0)
  await seen.done
  expect(outputText(seen.turn)).toBe('attempt 2')
})

test('`closed` resolves after `close`, and `await using` closes', async () => {
  await using net = await startNetwork({ env: FAST })
  let closed: Promise<void>
  {
    await using agent = serve({ url: net.url(0), pool: 'coder', log: quiet }, () => {})
    await eventually(() => agent.connected)
    expect(agent.id).toMatch(/^agent_/)
    closed = agent.closed
  }
  await closed
  await eventually(() => net.logged('agent_left').length === 1)
})

test('docs/agent-sdk.md names every option, property and method, and no other', () => {
  const docs = readFileSync('docs/agent-sdk.md', 'utf8')
  const section = (from: string, to: string) => docs.slice(docs.indexOf(from), docs.indexOf(to))
  const named = (text: string) =>
    new Set(
      [...text.matchAll(/^\| (.+?) \| /gm)].flatMap((row) => [...row[1]!.matchAll(/`(\w+)/g)].map((it) => it[1]!)),
    )
  const members = (file: string, type: string): Set<string> => {
    const found = new Set<string>()
    ts.forEachChild(ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest, true), (node) => {
      if (!(ts.isClassDeclaration(node) || ts.isInterfaceDeclaration(node)) || node.name?.text !== type) return
      for (const member of node.members)
        if (member.name && ts.isIdentifier(member.name) && !member.getFullText().includes('@internal'))
          found.add(member.name.text)
    })
    return found
  }
  expect(named(section('## `serve(', 'The `handler` is'))).toEqual(members('src/sdk/agent-options.ts', 'ServeOptions'))
  expect(named(section('## The turn', 'Text longer than'))).toEqual(members('src/sdk/agent-turn.ts', 'Turn'))
})
