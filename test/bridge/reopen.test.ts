import { outputText } from '../../src/protocol/fold.js'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { answered, ask, folder, startBridge } from './bridge.js'

/** Whose session it is, whether the agent has it still, and what it replays when it is opened again. */

const LONG = { limitMs: 20_000 }
const env = { AGENT_GRACE_MS: '1000', LEASE_TTL_MS: '2000', SWEEP_EVERY_MS: '200' }

test('a replay that comes after the answer to session/load, as Gemini CLI sends it, is not shown either', async () => {
  await using net = await startNetwork({ env })
  const agent = ['--load', `--store=${folder(net)}`, '--late-replay']
  const first = startBridge(net, { agent })
  const one = await ask(net, 'say one')
  await answered(one.seen)
  await first.end('SIGTERM')
  startBridge(net, { agent })
  const two = await ask(net, 'slow 10', one.session)
  expect(await answered(two.seen)).toBe(Array.from({ length: 10 }, (_, i) => `word-${i + 1} `).join(''))
})

test('a session is loaded for as long as that takes: the agent does not count as silent meanwhile', async () => {
  await using net = await startNetwork({ env: { ...env, AGENT_SILENT_MS: '1500' } })
  const agent = ['--load', `--store=${folder(net)}`, '--slow-load=5000']
  const first = startBridge(net, { agent })
  const one = await ask(net, 'say one')
  await answered(one.seen)
  await first.end('SIGTERM')
  startBridge(net, { agent })
  const two = await ask(net, 'history', one.session)
  expect(await answered(two.seen)).toBe('[say one]')
  expect(two.seen.turn.attempt).toBe(1)
})

test.each([
  'No previous sessions found for this project.', // Gemini CLI
  'Invalid session identifier "x".\n  Searched for sessions in /tmp', // the same
  'No conversation found with session ID: x', // Claude Code
])('an agent that says %j has lost the session: the turn begins a new one', async (words) => {
  await using net = await startNetwork({ env })
  const store = `--store=${folder(net)}`
  const first = startBridge(net, { agent: ['--load', store] })
  const one = await ask(net, 'say one')
  await answered(one.seen)
  await first.end('SIGTERM')
  startBridge(net, { agent: ['--load', store, `--load-error=${words}`] })
  expect(await answered((await ask(net, 'history', one.session)).seen)).toBe('[]')
})

test('a session that the agent let go of while it ran is opened again; one that cannot be begins anew', async () => {
  await using net = await startNetwork({ env })
  const keeping = startBridge(net, { agent: ['--load', `--store=${folder(net)}`, '--forgets'] })
  const one = await ask(net, 'say one')
  await answered(one.seen)
  const two = await ask(net, 'history', one.session)
  expect(await answered(two.seen)).toBe('[say one]')
  expect(two.seen.turn.attempt).toBe(1)
  await keeping.end('SIGTERM')
  startBridge(net, { agent: ['--forgets'] })
  const three = await ask(net, 'say three')
  await answered(three.seen)
  expect(await answered((await ask(net, 'history', three.session)).seen)).toBe('[]')
})

test('a prompt that had begun to answer is not put to the agent twice, whatever it fails with', async () => {
  await using net = await startNetwork({ env })
  startBridge(net, { agent: ['--load', `--store=${folder(net)}`] })
  const one = await ask(net, 'say one')
  await answered(one.seen)
  const two = await ask(net, 'say two; expire', one.session)
  await two.seen.done
  expect(two.seen.turn.error?.code).toBe('agent_error')
  expect(outputText(two.seen.turn)).toBe('two')
  expect(await answered((await ask(net, 'history', one.session)).seen)).toBe('[say one|say two; expire]')
})

test('conversations do not meet in a session whose id the agent gives twice', async () => {
  await using net = await startNetwork({ env })
  const first = startBridge(net, { agent: ['--counts'] })
  const mine = await ask(net, 'say my secret')
  await answered(mine.seen)
  await first.end('SIGTERM')
  startBridge(net, { agent: ['--counts'], options: ['--capacity', '2'] })
  const yours = await ask(net, 'slow 40; history')
  await eventually(() => outputText(yours.seen.turn).includes('word-1 '), LONG)
  expect(yours.seen.turn.thread).toBe(mine.seen.turn.thread)
  expect(await answered((await ask(net, 'history', mine.session)).seen)).toBe('[]')
  expect(await answered(yours.seen)).toMatch(/word-40 \[]$/)
  expect(await answered((await ask(net, 'history', yours.session)).seen)).toBe('[slow 40; history]')
})

test('an agent that has but one session is not asked for two at a time, and it is said what to do', async () => {
  await using net = await startNetwork({ env })
  startBridge(net, { agent: ['--one-session'], options: ['--capacity', '2'] })
  const mine = await ask(net, 'slow 60')
  await eventually(() => outputText(mine.seen.turn).includes('word-1 '), LONG)
  const yours = await ask(net, 'say yours')
  await yours.seen.done
  expect(yours.seen.turn.error).toMatchObject({ code: 'agent_error', message: expect.stringContaining('--capacity 1') })
  expect(await answered(mine.seen)).toBe(Array.from({ length: 60 }, (_, i) => `word-${i + 1} `).join(''))
})
