import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { startProxy } from '../../src/local/proxy.js'
import { serve } from '../../src/sdk/agent.js'
import { getInteraction, getSession, transcript } from '../../src/sdk/client.js'
import type { InteractionId, SessionId } from '../../src/protocol/ids.js'
import { post, watch } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'
import { startProgram } from '../support/program.js'
import { startTerminal, type Terminal } from '../support/terminal.js'

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
const FAST = { SWEEP_EVERY_MS: '300', AGENT_GRACE_MS: '8000', LEASE_TTL_MS: '6000' }
const words = Array.from({ length: 120 }, (_, i) => `word-${i}`)

/** An agent of the pool `coder` that does as it is told, and knows which turns it was given. */
function startAgent(net: Network) {
  const given: { interaction: InteractionId; session: SessionId }[] = []
  const agent = serve(
    { url: net.replicas.map(({ url }) => url), pool: 'coder', capacity: 4, log: { info() {}, warn() {} } },
    async (turn) => {
      given.push(turn)
      if (turn.input === 'fail') return turn.fail('boom', 'The agent is out of order.')
      if (turn.input === 'hang') {
        await turn.text('hanging on')
        return sleep(60_000, undefined, { signal: turn.signal })
      }
      if (turn.input !== 'story') return turn.text(`echo: ${turn.input}`)
      await turn.reasoning('Let me think.')
      const tool = await turn.toolCall({ name: 'Look around' })
      await tool.append('nobody here')
      await tool.done()
      for (const word of words) {
        await turn.text(`${word} `)
        await sleep(20, undefined, { signal: turn.signal })
      }
    },
  )
  net.onDispose(() => agent.close(0))
  return given
}

function startChat(net: Network, args: string[] = [], url = net.url(0)): Terminal {
  const terminal = startTerminal(process.execPath, [MAIN, 'chat', '--url', url, '--pool', 'coder', ...args])
  net.onDispose(() => terminal[Symbol.asyncDispose]())
  return terminal
}

const CTRL_C = '\u0003'
const CTRL_D = '\u0004'

describe('in a terminal', () => {
  test('shows thoughts, tool calls and the answer; the next line goes to the same session; Ctrl-C leaves', async () => {
    await using net = await startNetwork({ env: FAST })
    const given = startAgent(net)
    const chat = startChat(net)
    await chat.shows('> ')
    chat.type('story\r')
    await chat.shows('\nLet me think.\n· Look around …\n✓ Look around: nobody here\nword-0 word-1 ')
    await chat.shows('word-119 \n> ')
    chat.type('hello\r')
    await chat.shows('echo: hello\n> ')
    expect(given[1]!.session).toBe(given[0]!.session)
    chat.type(CTRL_C)
    expect(await chat.exited).toBe(0)
    expect(chat.screen).toContain(`To go on: throughline chat --session ${given[0]!.session}`)
  })

  test('kill -9 of one replica after the other in mid-answer: the user sees every word once, and nothing else', async () => {
    await using net = await startNetwork({ replicas: 2, processes: true, env: FAST })
    startAgent(net)
    const targets = net.replicas.map(({ url }) => ({ host: '127.0.0.1', port: Number(new URL(url).port) }))
    const proxy = await startProxy({ port: 0, targets: () => targets, log: () => {} })
    net.onDispose(proxy.close)
    const chat = startChat(net, [], `http://127.0.0.1:${proxy.port}`)
    await chat.shows('> ')
    chat.type('story\r')
    await chat.shows('word-20 ')
    await net.replicas[0]!.kill9()
    await chat.shows('word-50 ')
    await net.replicas[0]!.restart()
    await net.replicas[1]!.kill9()
    await chat.shows('word-119 \n> ')
    expect(chat.screen).toContain(`✓ Look around: nobody here\n${words.join(' ')} \n> `)
  })

  test('Ctrl-C cancels the turn, and the conversation goes on', async () => {
    await using net = await startNetwork({ env: FAST })
    const given = startAgent(net)
    const chat = startChat(net)
    await chat.shows('> ')
    chat.type('hang\r')
    await chat.shows('hanging on')
    chat.type(CTRL_C)
    await chat.shows('(cancelled)\n> ')
    expect((await getInteraction(net.url(0), given[0]!.interaction)).status).toBe('cancelled')
    chat.type('still there?\r')
    await chat.shows('echo: still there?\n> ')
    chat.type('fail\r')
    await chat.shows('The agent is out of order.\n> ')
    chat.type(CTRL_D)
    expect(await chat.exited).toBe(0)
  })

  test('--session shows the end of what was said and goes on with it; what runs is shown as it goes on', async () => {
    await using net = await startNetwork({ env: FAST })
    const given = startAgent(net)
    const { session, interaction } = await post(net.url(0), { pool: 'coder' }, 'first')
    await watch(net.url(0), interaction).done
    for (const input of ['second', 'third', 'fourth'])
      await watch(net.url(0), (await post(net.url(0), { session }, input)).interaction).done
    const chat = startChat(net, ['--session', session])
    await chat.shows('… 1 earlier\n> second\necho: second\n> third\necho: third\n> fourth\necho: fourth\n> ')
    chat.type('hang\r')
    await chat.shows('hanging on')

    const elsewhere = startChat(net, ['--session', session])
    await elsewhere.shows('> hang\nhanging on')
    elsewhere.type(CTRL_C)
    await elsewhere.shows('(cancelled)\n> ')
    await chat.shows('(cancelled)\n> ')
    elsewhere.type('there\r')
    await elsewhere.shows('echo: there\n> ')
    expect(given.every((turn) => turn.session === session)).toBe(true)
    const turns = []
    for await (const { status } of transcript(net.url(0), session)) turns.push(status)
    expect(turns).toEqual([...Array<string>(4).fill('completed'), 'cancelled', 'completed'])
  })

  test('a session that does not exist ends it; a pool that does not exist is said, and another try is possible', async () => {
    await using net = await startNetwork({ env: FAST })
    const gone = startChat(net, ['--session', 'ses_00000000000000000000000000'])
    await gone.shows('(not_found)')
    expect(await gone.exited).toBe(1)
    const chat = startChat(net, ['--pool', 'nobody'])
    await chat.shows('> ')
    chat.type('hello\r')
    await chat.shows('(model_not_found)\n> ')
    chat.type(CTRL_C)
    expect(await chat.exited).toBe(0)
  })

  test('while no replica answers it says so, and Ctrl-C twice leaves', async () => {
    await using net = await startNetwork({ replicas: 1, processes: true, env: FAST })
    await net.replicas[0]!.kill9()
    const chat = startChat(net)
    await chat.shows('> ')
    chat.type('hello\r')
    await chat.shows('no replica answers')
    chat.type(CTRL_C)
    chat.type(CTRL_C)
    expect(await chat.exited).toBe(130)
  })
})

describe('from a pipe', () => {
  async function ask(net: Network, input: string, args: string[] = []) {
    await using chat = startProgram(process.execPath, [MAIN, 'chat', '--url', net.url(0), '--pool', 'coder', ...args])
    chat.child.stdin.end(input)
    const code = await chat.exited
    return { code, stdout: chat.stdout, stderr: chat.stderr }
  }

  test('prints the answer and nothing else', async () => {
    await using net = await startNetwork({ env: FAST })
    const given = startAgent(net)
    expect(await ask(net, 'story\n')).toEqual({ code: 0, stdout: `${words.join(' ')} \n`, stderr: '' })
    const { session } = given[0]!
    expect(await ask(net, 'two\nlines\n', ['--session', session])).toEqual({
      code: 0,
      stdout: 'echo: two\nlines\n',
      stderr: '',
    })
    expect((await getSession(net.url(0), session)).turns).toBe(2)
  })

  test('the exit code tells failure, and stderr says why', async () => {
    await using net = await startNetwork({ env: FAST })
    startAgent(net)
    await eventually(() => net.logged('agent_joined').length > 0)
    expect(await ask(net, 'fail')).toEqual({ code: 1, stdout: '', stderr: 'The agent is out of order.\n' })
    expect(await ask(net, 'x', ['--pool', 'nobody'])).toMatchObject({ code: 1, stdout: '' })
    expect(await ask(net, ' \n')).toMatchObject({ code: 64, stdout: '' })
    expect(await ask(net, 'x', ['--session', 'rubbish'])).toMatchObject({ code: 64, stdout: '' })
  })

  test('an interrupt cancels the turn; what was said is printed', async () => {
    await using net = await startNetwork({ env: FAST })
    const given = startAgent(net)
    await using chat = startProgram(process.execPath, [MAIN, 'chat', '--url', net.url(0), '--pool', 'coder'])
    chat.child.stdin.end('hang')
    await eventually(
      async () => given.length > 0 && (await getInteraction(net.url(0), given[0]!.interaction)).text === 'hanging on',
      { limitMs: 15_000 },
    )
    chat.child.kill('SIGINT')
    expect(await chat.exited).toBe(130)
    expect(chat.stdout).toBe('hanging on\n')
    expect((await getInteraction(net.url(0), given[0]!.interaction)).status).toBe('cancelled')
  })
})
