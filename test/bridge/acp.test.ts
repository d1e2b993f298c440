import { existsSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import OpenAI from 'openai'
import { outputText } from '../../src/protocol/fold.js'
import { api, post, watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'
import { answered, ask, EXAMPLE, folder, startBridge, type Bridge } from './bridge.js'

test('what an agent says, thinks, plans and does becomes entries; a second turn goes to the same ACP session', async () => {
  await using net = await startNetwork()
  const bridge = startBridge(net, { options: ['--capacity', '2'] })
  await bridge.joined()
  const turn = await ask(
    net,
    'think hm; say one ; say two; plan a,b,c; tool Edit a.txt; unknown; usage 900; usage 1200; title Work; say three',
  )
  expect(await answered(turn.seen)).toBe('onetwo\n\nthree')
  expect(turn.seen.turn).toMatchObject({
    title: 'Work',
    stopReason: 'end_turn',
    usage: {
      inputTokens: 10,
      outputTokens: 5,
      reasoningTokens: 2,
      contextTokens: 1200,
      contextSize: 200_000,
      cost: { amount: 0.12, currency: 'USD' },
    },
    entries: [
      { kind: 'reasoning', text: 'hm' },
      { kind: 'text', text: 'onetwo' },
      { id: 'plan', kind: 'plan', text: '[x] a\n[~] b\n[ ] c' },
      {
        kind: 'tool_call',
        name: 'Edit a.txt',
        status: 'completed',
        text: '--- /a.txt\n+++ /a.txt\n@@ line 2 @@\n one\n-two\n+2\n three',
      },
      { kind: 'text', text: 'three' },
    ],
  })
  const again = await ask(net, 'history', turn.session)
  expect(await answered(again.seen)).toMatch(/^\[think hm;.*say three]$/)
  const other = await ask(net, 'history')
  expect(await answered(other.seen)).toBe('[]')
  expect(new Set([turn, again, other].map(({ seen }) => seen.turn.thread)).size).toBe(3) // said once per session
  expect(bridge.log()).toContain('[agent] scripted agent')
})

describe('one bridge, turn after turn', () => {
  let net: Network
  let bridge: Bridge
  beforeAll(async () => {
    net = await startNetwork()
    bridge = startBridge(net)
    await bridge.joined()
  })
  afterAll(() => net[Symbol.asyncDispose]())

  test('the trace of a turn is handed on to the agent in _meta; without one there is none', async () => {
    const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
    const headers = { traceparent, tracestate: 'a=1' }
    const traced = await post(net.url(0), { pool: 'coder' }, 'meta', {}, headers)
    expect(JSON.parse(await answered(watch(net.url(0), traced.interaction)))).toEqual(headers)
    expect(await answered((await ask(net, 'meta')).seen)).toBe('null')
  })

  test.each(['max_tokens', 'max_turn_requests', 'refusal'] as const)('stop reason %s is passed on', async (reason) => {
    const { seen } = await ask(net, `say x; stop ${reason}`)
    await answered(seen)
    expect(seen.turn.stopReason).toBe(reason)
  })

  test('a cancel ends the prompt; what the agent still says is not shown, and not in the next turn either', async () => {
    const first = await ask(net, 'slow 1000')
    await eventually(() => outputText(first.seen.turn).includes('word-3'), { limitMs: 20_000 })
    await api(net.url(0), `/interactions/${first.interaction}/cancel`, {})
    await first.seen.done
    expect(first.seen.turn.status).toBe('cancelled')
    const second = await ask(net, 'say fresh', first.session)
    expect(await answered(second.seen)).toBe('fresh')
    expect(outputText(first.seen.turn)).not.toContain('late')
  })

  test('ten thousand updates in one go arrive in order and once', async () => {
    const { seen } = await ask(net, 'flood 10000')
    expect(await answered(seen)).toBe(Array.from({ length: 10_000 }, (_, i) => `${i + 1},`).join(''))
  })

  test('rubbish on stdout is nothing; stderr goes to the log of the bridge, without its colours', async () => {
    const { seen } = await ask(net, 'garbage; stderr \u001b[31mred\u001b[0m line; say fine')
    expect(await answered(seen)).toBe('fine')
    await eventually(() => expect(bridge.log()).toMatch(/info \[agent] red line\n/))
  })

  test('a turn that is cancelled while it asks frees the agent', async () => {
    const { seen, interaction, session } = await ask(net, 'ask Delete it?')
    await eventually(() => seen.turn.permissions?.length === 1, { limitMs: 20_000 })
    await api(net.url(0), `/interactions/${interaction}/cancel`, {})
    const next = await ask(net, 'say next', session)
    expect(await answered(next.seen)).toBe('next')
  })
})

test('an agent that cancels by itself, that fails, or that wants a login, fails the turn and says why', async () => {
  await using net = await startNetwork()
  const bridge = startBridge(net)
  const failure = async (text: string) => {
    const { seen } = await ask(net, text)
    await seen.done
    return seen.turn.error
  }
  expect(await failure('stop cancelled')).toMatchObject({ code: 'agent_cancelled' })
  const { code, message } = (await failure('error'))!
  expect([code, message]).toEqual(['agent_error', expect.stringContaining('the model is on strike')])
  await bridge.end('SIGTERM')
  startBridge(net, { agent: ['--login'] })
  expect(await failure('hello')).toMatchObject({
    code: 'agent_auth_required',
    message: expect.stringContaining('Web login'),
  })
})

test('an agent that does not stop when it is cancelled loses its session; the next turn begins a new one', async () => {
  await using net = await startNetwork()
  startBridge(net)
  const first = await ask(net, 'say x; deaf')
  await eventually(() => outputText(first.seen.turn) === 'x', { limitMs: 20_000 })
  await api(net.url(0), `/interactions/${first.interaction}/cancel`, {})
  await first.seen.done
  const second = await ask(net, 'history', first.session)
  expect(await answered(second.seen)).toBe('[]')
}, 90_000)

describe('permissions', () => {
  test.each([
    ['allow', 'once', 'outcome selected once'],
    ['deny', 'never', 'outcome selected never'],
  ])('policy %s answers %s by itself, and readers see it', async (policy, option, outcome) => {
    await using net = await startNetwork()
    startBridge(net, { options: ['--permission', policy] })
    const { seen } = await ask(net, 'ask Delete it?')
    expect(await answered(seen)).toContain(outcome)
    expect(seen.turn.permissions).toMatchObject([{ title: 'Delete it?', status: 'settled', option, by: 'policy' }])
  })

  test('policy ask puts it to the client, in its place among the updates', async () => {
    await using net = await startNetwork({ replicas: 2 })
    startBridge(net, { url: [net.url(0)] })
    const { seen, interaction } = await ask(net, 'ask Delete it?; say done')
    const permission = await eventually(() => seen.turn.permissions?.[0] ?? false, { limitMs: 20_000 })
    expect(permission).toMatchObject({ title: 'Delete it?', status: 'open', entry: expect.stringMatching(/^tool:/) })
    expect(outputText(seen.turn)).toBe('before ')
    const path = `/interactions/${interaction}/permissions/${permission.id}`
    expect((await api(net.url(1), path, { option: 'always' })).status).toBe(200)
    expect(await answered(seen)).toContain('outcome selected always done')
  })

  test('nobody answers: after its time it is a no; a cancelled turn answers the agent at once', async () => {
    await using net = await startNetwork()
    startBridge(net, { options: ['--permission-timeout', '1', '--capacity', '2'] })
    const { seen } = await ask(net, 'ask Delete it?')
    expect(await answered(seen)).toContain('outcome selected never')
    expect(seen.turn.permissions).toMatchObject([{ status: 'settled', option: 'never', by: 'timeout' }])
  })
})

describe('files and terminals', () => {
  test('are refused unless they are allowed', async () => {
    await using net = await startNetwork()
    const cwd = folder(net)
    writeFileSync(join(cwd, 'a.txt'), 'content')
    startBridge(net, { options: ['--cwd', cwd] })
    expect(await answered((await ask(net, `read ${join(cwd, 'a.txt')}`)).seen)).toBe('error -32601')
    expect(await answered((await ask(net, 'run echo hello')).seen)).toBe('error -32601')
  })

  test('files of the working folder can be read and written, no others, by no detour', async () => {
    await using net = await startNetwork()
    const [cwd, outside] = [folder(net), folder(net)]
    writeFileSync(join(outside, 'secret'), 'secret')
    writeFileSync(join(cwd, 'a.txt'), 'content')
    symlinkSync(join(outside, 'secret'), join(cwd, 'link'))
    symlinkSync(outside, join(cwd, 'door'))
    symlinkSync(join(outside, 'new'), join(cwd, 'dangling'))
    startBridge(net, { options: ['--cwd', cwd, '--allow-fs'] })
    const says = async (text: string) => answered((await ask(net, text)).seen)
    expect(await says('cwd')).toBe(cwd)
    expect(await says(`read ${cwd}/a.txt`)).toBe('content')
    expect(await says(`write ${cwd}/b.txt new`)).toBe('written')
    expect(readFileSync(join(cwd, 'b.txt'), 'utf8')).toBe('new')
    expect(await says(`read ${cwd}/missing`)).toBe('error -32002')
    const detours = [
      '/etc/passwd',
      `${cwd}/../${outside.split('/').at(-1)}/secret`,
      `${cwd}/link`,
      `${cwd}/door/secret`,
      'a.txt',
      cwd,
    ]
    for (const path of detours) {
      expect([path, await says(`read ${path}`)]).toEqual([path, 'error -32602'])
      expect([path, await says(`write ${path} x`)]).toEqual([path, 'error -32602'])
    }
    for (const path of [`${cwd}/dangling`, `${cwd}/door/new`])
      expect(await says(`write ${path} x`)).toBe('error -32602')
    expect([readFileSync(join(outside, 'secret'), 'utf8'), existsSync(join(outside, 'new'))]).toEqual(['secret', false])
  })

  test('a command runs in the working folder, and its tool call shows what it printed and how it ended', async () => {
    await using net = await startNetwork()
    const cwd = folder(net)
    startBridge(net, { options: ['--cwd', cwd, '--allow-terminal', '--env', 'COLOUR=green'] })
    const { seen } = await ask(net, 'run pwd && echo $COLOUR && exit 3')
    expect(await answered(seen)).toBe('exit 3')
    expect(seen.turn.entries[0]).toMatchObject({
      kind: 'tool_call',
      status: 'completed',
      text: `$ pwd && echo $COLOUR && exit 3\n${cwd}\ngreen\n(exit code 3)`,
    })
  })
})

test("the agent has the environment it was given, and not the bridge's own key", async () => {
  await using net = await startNetwork({ env: { AGENT_KEYS: '*=an-agent-key' } })
  startBridge(net, { options: ['--env', 'A=1=2'], env: { THROUGHLINE_AGENT_KEY: 'an-agent-key' } })
  const { seen } = await ask(net, 'env A; env THROUGHLINE_AGENT_KEY')
  expect(await answered(seen)).toBe('1=2 undefined ')
})

test("the ACP authors' example agent answers a client of the openai package", async () => {
  await using net = await startNetwork({ replicas: 2 })
  startBridge(net, {
    url: [], // as in docs/acp.md
    env: { THROUGHLINE_URL: net.url(0) },
    options: ['--permission', 'allow'],
    command: [process.execPath, EXAMPLE],
  })
  const openai = new OpenAI({ baseURL: `${net.url(1)}/v1`, apiKey: 'none' })
  const stream = await openai.chat.completions.create({
    model: 'coder',
    stream: true,
    messages: [{ role: 'user', content: 'hello' }],
  })
  let text = ''
  let finish: string | null = null
  for await (const { choices } of stream) {
    text += choices[0]?.delta.content ?? ''
    finish = choices[0]?.finish_reason ?? finish
  }
  expect(finish).toBe('stop')
  expect(text).toContain("I'll help you with that.")
  expect(text).toContain("I've successfully updated the configuration.")
})
