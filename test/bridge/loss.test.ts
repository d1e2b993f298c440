import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { outputText } from '../../src/protocol/fold.js'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { alive, answered, ask, folder, startBridge, type BridgeOptions } from './bridge.js'

const LONG = { limitMs: 20_000 }
const gone = (pid: number) => eventually(() => !alive(pid), LONG)

/** Fast enough for a test: an agent that is lost with its replica is judged within a second or two. */
const env = { AGENT_GRACE_MS: '1000', LEASE_TTL_MS: '2000', SWEEP_EVERY_MS: '200' }

describe('the agent program is killed in mid-turn', () => {
  test('before output: the turn is given back, the program started again, and the turn answered by it', async () => {
    await using net = await startNetwork({ env })
    const bridge = startBridge(net)
    const marker = join(folder(net), 'crashed')
    const { seen } = await ask(net, `crashonce ${marker}; say back`)
    expect(await answered(seen)).toBe('back')
    expect(seen.turn.attempt).toBeGreaterThan(1)
    expect(seen.events.filter((event) => event.type === 'reset')).toEqual([])
    expect(bridge.agents()).toHaveLength(2)
    expect(net.logged('agent_lost')).toMatchObject([{ why: 'The agent program is gone: it ended with exit code 9.' }])
  })

  test('after output, ON_AGENT_LOSS=fail: the turn fails with agent_disconnected, the session goes on', async () => {
    await using net = await startNetwork({ env })
    const bridge = startBridge(net)
    const { seen, session } = await ask(net, 'slow 1000')
    await eventually(() => outputText(seen.turn).includes('word-3'), LONG)
    process.kill(bridge.agents()[0]!, 'SIGKILL')
    await seen.done
    expect(seen.turn).toMatchObject({ status: 'failed', error: { code: 'agent_disconnected' } })
    expect(outputText(seen.turn)).toContain('word-3')
    expect(await answered((await ask(net, 'say on', session)).seen)).toBe('on')
  })

  test('after output, ON_AGENT_LOSS=retry: readers get a reset, and the whole answer', async () => {
    await using net = await startNetwork({ env: { ...env, ON_AGENT_LOSS: 'retry', MAX_ATTEMPTS: '5' } })
    startBridge(net)
    const marker = join(folder(net), 'crashed')
    const { seen } = await ask(net, `say one ; crashonce ${marker}; say two`)
    expect(await answered(seen)).toBe('onetwo')
    expect(seen.events.filter((event) => event.type === 'reset')).toHaveLength(1)
  })

  test('by every attempt: the turn fails once they are used up, and others are still answered', async () => {
    await using net = await startNetwork({ env })
    startBridge(net)
    const poison = await ask(net, 'crash')
    await poison.seen.done
    expect(poison.seen.turn.error?.code).toBe('attempts_exhausted')
    expect(await answered((await ask(net, 'say fine')).seen)).toBe('fine')
  })
})

describe('a program that keeps crashing', () => {
  test('is started again with more and more delay; meanwhile turns go to others; then it takes turns again', async () => {
    await using net = await startNetwork({ env })
    const broken = join(folder(net), 'broken')
    const bridge = startBridge(net, { agent: [`--crash-while=${broken}`] })
    await bridge.joined()
    writeFileSync(broken, '')
    process.kill(bridge.agents()[0]!, 'SIGKILL')
    await eventually(() => expect(bridge.log()).toContain('no turns are taken until it runs again'), {
      limitMs: 40_000,
    })
    await eventually(() => expect(net.logged('agent_left')).toHaveLength(1))
    const other = startBridge(net)
    expect(await answered((await ask(net, 'say healthy')).seen)).toBe('healthy')
    await other.end('SIGTERM')
    rmSync(broken)
    expect(await answered((await ask(net, 'say again')).seen)).toBe('again')
  }, 90_000)

  test('from the start: the bridge joins no pool, and says why', async () => {
    await using net = await startNetwork({ env })
    const bridge = startBridge(net, { agent: ['--crash-at-start'] })
    await eventually(
      () => expect(bridge.log()).toMatch(/the agent is gone: it ended with exit code 7; starting it again/),
      LONG,
    )
    expect(net.logged('agent_joined')).toEqual([])
    expect(await bridge.end('SIGTERM')).toBe(0)
  })

  test('that does not exist at all: the bridge ends with code 78 and names the command', async () => {
    await using net = await startNetwork()
    const bridge = startBridge(net, { command: ['no-such-agent-program'] })
    await eventually(() => expect(bridge.log()).toContain('"no-such-agent-program" cannot be run'), LONG)
    expect(await bridge.end('SIGCONT')).toBe(78)
  })

  test('is not started for a pool or an address that cannot be', async () => {
    await using net = await startNetwork()
    const cases: [BridgeOptions, string][] = [
      [{ options: ['--pool', 'no pool'] }, 'pool: a pool name is'],
      [{ url: ['gateway:8080'] }, 'gateway:8080 is no http address'],
    ]
    for (const [wrong, says] of cases) {
      const bridge = startBridge(net, wrong)
      await eventually(() => expect(bridge.log()).toContain(says), LONG)
      expect(await bridge.end('SIGCONT')).toBe(78)
      expect(bridge.agents()).toEqual([])
    }
  })
})

describe('a program that is no agent (any more)', () => {
  test('does not answer initialize: the log says so and what may be wrong, and shows what it printed instead', async () => {
    await using net = await startNetwork({ env })
    const mute = join(folder(net), 'mute')
    writeFileSync(mute, '')
    const bridge = startBridge(net, {
      agent: [`--mute-while=${mute}`, '--prints=Usage: agent acp'],
      options: ['--start-timeout', '1'],
    })
    await eventually(() => expect(bridge.log()).toMatch(/did not answer initialize within 1 s.*`acp`/), LONG)
    expect(bridge.log()).toContain('[agent] (on stdout) Usage: agent acp\n')
    rmSync(mute)
    expect(await answered((await ask(net, 'say heard')).seen)).toBe('heard')
  })

  test('hangs when it is started again: its turns go to others', async () => {
    await using net = await startNetwork({ env })
    const mute = join(folder(net), 'mute')
    const bridge = startBridge(net, { agent: [`--mute-while=${mute}`], options: ['--start-timeout', '2'] })
    await bridge.joined()
    writeFileSync(mute, '')
    process.kill(bridge.agents()[0]!, 'SIGKILL')
    await eventually(() => expect(bridge.log()).toContain('starting it again'), LONG)
    const { seen } = await ask(net, 'say healthy')
    await eventually(() => seen.turn.attempt === 1, LONG)
    const other = startBridge(net)
    await other.joined()
    expect(await answered(seen)).toBe('healthy')
  })

  test.each([
    ['says more in one message than can be read', 'huge', /message of more than 32 MiB/],
    ['closes its stdout', 'mumble', /closed its stdin or stdout/],
  ])('%s: the turn is lost, and it is said why', async (_, command, why) => {
    await using net = await startNetwork({ env })
    const bridge = startBridge(net)
    const { seen, session } = await ask(net, `say x; ${command}`)
    await seen.done
    expect(seen.turn.error?.code).toBe('agent_disconnected')
    expect(net.logged('agent_lost')[0]!['why']).toMatch(why)
    await eventually(() => expect(bridge.log()).toMatch(why), LONG)
    expect(await answered((await ask(net, 'say on', session)).seen)).toBe('on')
  })
})

describe('the bridge is killed with -9 in mid-turn', () => {
  test('before output: another bridge answers; nothing of the first is left running', async () => {
    await using net = await startNetwork({ env })
    const first = startBridge(net, { agent: ['--stays'] })
    await first.joined()
    const { seen } = await ask(net, 'deaf')
    await eventually(() => seen.turn.thread !== undefined, LONG)
    const second = startBridge(net, { agent: ['--load'] })
    await second.joined()
    await first.end('SIGKILL')
    await eventually(() => seen.turn.attempt > 1, LONG)
    await gone(first.agents()[0]!)
    await second.end('SIGKILL')
  })

  test('after output: agent_disconnected; its agent goes, also one that ignores SIGTERM and the end of its input, with what it has started', async () => {
    await using net = await startNetwork({ env })
    const bridge = startBridge(net, { agent: ['--stays'] })
    const { seen } = await ask(net, 'grandchild; slow 1000')
    await eventually(() => outputText(seen.turn).includes('word-1'), LONG)
    const grandchild = Number(/^\d+/.exec(outputText(seen.turn))![0])
    expect([alive(bridge.agents()[0]!), alive(grandchild)]).toEqual([true, true])
    await bridge.end('SIGKILL')
    await seen.done
    expect(seen.turn.error?.code).toBe('agent_disconnected')
    await Promise.all([gone(bridge.agents()[0]!), gone(grandchild)])
  })

  test('and started again with the same --agent and store: it has the conversation, without its replay', async () => {
    await using net = await startNetwork({ env })
    const store = folder(net)
    const given = { options: ['--agent', 'coder-1'], agent: ['--load', `--store=${store}`, '--slow-load=300'] }
    const first = startBridge(net, given)
    const one = await ask(net, 'say one')
    expect(await answered(one.seen)).toBe('one')
    await first.end('SIGKILL')
    startBridge(net, given)
    const two = await ask(net, 'history', one.session)
    expect(await answered(two.seen)).toBe('[say one]')
    expect(two.seen.turn.attempt).toBe(1)
  })
})

test('an agent that offers resume is resumed; one that offers neither begins anew', async () => {
  await using net = await startNetwork({ env })
  const store = folder(net)
  const resuming = startBridge(net, { agent: ['--resume', `--store=${store}`] })
  const one = await ask(net, 'say one')
  await answered(one.seen)
  await resuming.end('SIGTERM')
  const again = startBridge(net, { agent: ['--resume', `--store=${store}`] })
  expect(await answered((await ask(net, 'history', one.session)).seen)).toBe('[say one]')
  await again.end('SIGTERM')
  startBridge(net)
  const three = await ask(net, 'history', one.session)
  expect(await answered(three.seen)).toBe('[]')
  expect(net.logged('thread_mapping_cleared')).toHaveLength(1)
})

test('a session that the agent has lost is not found: the turn begins a new one, once', async () => {
  await using net = await startNetwork({ env })
  const store = folder(net)
  const first = startBridge(net, { agent: ['--load', `--store=${store}`] })
  const one = await ask(net, 'say one')
  await answered(one.seen)
  await first.end('SIGTERM')
  rmSync(join(store, one.seen.turn.thread!))
  startBridge(net, { agent: ['--load', `--store=${store}`] })
  const two = await ask(net, 'history', one.session)
  expect(await answered(two.seen)).toBe('[]')
  expect(two.seen.turn.attempt).toBe(2)
})

test('an agent that hangs in silence fails its turn with agent_silent, and the session goes on', async () => {
  await using net = await startNetwork({ env: { ...env, AGENT_SILENT_MS: '2000' } })
  startBridge(net)
  const { seen, session } = await ask(net, 'say x; hang')
  await seen.done
  expect(seen.turn).toMatchObject({ status: 'failed', error: { code: 'agent_silent' } })
  expect(await answered((await ask(net, 'say on', session)).seen)).toBe('on')
})

test('the replica of the bridge is killed with -9 in mid-turn: nothing is lost and nothing doubled', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true, env })
  startBridge(net)
  const { seen } = await ask(net, 'slow 100')
  await eventually(() => outputText(seen.turn).includes('word-5 '), LONG)
  const its = net.replicas.findIndex((replica) => replica.logs.some((line) => line['event'] === 'agent_joined'))
  await net.replicas[its]!.kill9()
  expect(await answered(seen)).toBe(Array.from({ length: 100 }, (_, i) => `word-${i + 1} `).join(''))
  expect(seen.turn.attempt).toBe(1)
})

test('the replica goes while the second turn of a session runs: the end of the first is told again, and disturbs nothing', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true, env })
  startBridge(net)
  const first = await ask(net, 'say one')
  expect(await answered(first.seen)).toBe('one')
  const { seen } = await ask(net, 'slow 100', first.session)
  await eventually(() => outputText(seen.turn).includes('word-5 '), LONG)
  const its = net.replicas.findIndex((replica) => replica.logs.some((line) => line['event'] === 'agent_joined'))
  await net.replicas[its]!.kill9()
  expect(await answered(seen)).toBe(Array.from({ length: 100 }, (_, i) => `word-${i + 1} `).join(''))
})

describe('SIGTERM', () => {
  test('the bridge finishes its turn, then ends with 0 and leaves no process', async () => {
    await using net = await startNetwork({ env })
    const bridge = startBridge(net)
    const { seen } = await ask(net, 'grandchild; slow 30')
    await eventually(() => outputText(seen.turn).includes('word-1'), LONG)
    const grandchild = Number(/^\d+/.exec(outputText(seen.turn))![0])
    expect(await bridge.end('SIGTERM')).toBe(0)
    expect(await answered(seen)).toContain('word-30')
    expect(alive(bridge.agents()[0]!)).toBe(false)
    await gone(grandchild)
  })

  test('also when the agent ignores it', async () => {
    await using net = await startNetwork({ env })
    const bridge = startBridge(net, { agent: ['--stays'] })
    await bridge.joined()
    expect(await bridge.end('SIGTERM')).toBe(0)
    expect(alive(bridge.agents()[0]!)).toBe(false)
  })

  test('commands that the agent runs through the bridge end with it', async () => {
    await using net = await startNetwork({ env })
    const file = join(folder(net), 'pid')
    const bridge = startBridge(net, { options: ['--allow-terminal'] })
    const { seen } = await ask(net, `terminal echo $$ > ${file} && sleep 600; slow 5`)
    await answered(seen)
    const pid = await eventually(() => (existsSync(file) && Number(readFileSync(file, 'utf8'))) || false)
    expect(alive(pid)).toBe(true)
    expect(await bridge.end('SIGTERM')).toBe(0)
    await gone(pid)
  })
})
