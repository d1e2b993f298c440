import { fileURLToPath } from 'node:url'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'
import { startProgram, type Program } from '../support/program.js'
import { pythonWith } from '../support/python.js'
import { completed, text } from '../support/raw-agent.js'
import { startRedisServer } from '../support/redis-server.js'
import { balance, replicaOf, RICH, say } from './agent.js'

/*
 * The package `openai` of PyPI as a black box, in an environment of its own, against replicas that are real processes.
 */
const here = (file: string) => fileURLToPath(new URL(file, import.meta.url))
let python: string

beforeAll(async () => {
  python = await pythonWith(here('requirements.txt'))
}, 240_000)

/** Runs one function of openai_client.py; it ends with the network. */
function run(net: Network, what: string, ...urls: string[]): Program {
  const program = startProgram(python, [here('openai_client.py'), what, ...urls])
  net.onDispose(() => program[Symbol.asyncDispose]())
  return program
}

/** What the program has said so far. */
const said = ({ stdout }: Program): Record<string, unknown>[] =>
  stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Record<string, unknown>)

/** All that it says, to its good end. */
async function all(program: Program): Promise<Record<string, unknown>[]> {
  if ((await program.exited) !== 0) throw new Error(program.stderr)
  return said(program)
}

const failed = { type: 'failed' as const, code: 'out_of_luck', message: 'No luck.' }

test('the stream helper folds thoughts, tool calls and text into the final response', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true })
  const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
  const program = run(net, 'stream', net.url(0))
  expect(await say(agent, 0, RICH)).toBe('hello')
  const lines = await all(program)
  expect(lines.at(-1)).toEqual({
    text: 'Done: two files changed.',
    types: ['reasoning', 'mcp_call', 'message'],
    total: 19,
  })
  expect(lines.slice(0, -1).map(({ number }) => number)).toEqual(lines.slice(1).map((_, i) => i))
})

test('kill -9 of the replica breaks a stream with an error; it goes on at another, by number and by helper', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true })
  const agent = await net.rawAgent({ pool: 'coder', replica: 1 })
  const program = run(net, 'resume', net.url(0), net.url(1))
  await say(agent, 0, RICH.slice(0, 6))
  await eventually(() => said(program).at(-1)?.['delta'] === 'Done: ', { limitMs: 15_000 })
  await net.replicas[0]!.kill9()
  await say(agent, 0, RICH.slice(6), 7)
  const lines = await all(program)
  const broke = lines.findIndex((line) => 'broke' in line)
  expect(lines[broke]).toEqual({ broke: expect.stringMatching(/Error$/) as string })
  const events = lines.filter((line) => 'event' in line)
  expect(events.map(({ number }) => number)).toEqual(events.map((_, i) => i))
  expect(
    events
      .filter(({ event }) => event === 'response.output_text.delta')
      .map(({ delta }) => delta)
      .join(''),
  ).toBe('Done: two files changed.')
  expect(lines.at(-1)).toEqual({ text: 'Done: two files changed.', first: broke, last: events.length - 1 })
})

test('kill -9 of the replica in mid-POST: the SDK posts again by itself, and it is one turn', async () => {
  await using net = await startNetwork({ replicas: 3, processes: true })
  const agent = await net.rawAgent({ pool: 'coder', replica: 2, capacity: 4 })
  const program = run(net, 'post', await balance(net))
  const { interaction } = await agent.turn()
  await (await eventually(() => replicaOf(net, interaction) ?? false)).kill9()
  await say(agent, 0, [text('Done.'), completed])
  expect(await all(program)).toEqual([{ text: 'Done.' }])
  expect(agent.turns).toHaveLength(1)
})

test('a failed turn is its own error in a stream, a status in a plain answer; a cancel is a status', async () => {
  await using net = await startNetwork({ processes: true })
  const agent = await net.rawAgent({ pool: 'coder', capacity: 4 })
  const program = run(net, 'ends', net.url(0))
  await say(agent, 0, [text('half'), failed])
  await say(agent, 1, [text('half'), failed])
  expect(await all(program)).toEqual([
    { error: 'APIError', code: 'out_of_luck', type: 'server_error', message: 'No luck.' },
    { status: 'failed', code: 'out_of_luck', text: 'half' },
    { status: 'cancelled', reason: 'cancelled' },
  ])
})

test('Chat Completions stream, with their usage, and fail in mid-stream', async () => {
  await using net = await startNetwork({ processes: true })
  const agent = await net.rawAgent({ pool: 'coder', capacity: 4 })
  const program = run(net, 'chat', net.url(0))
  await say(agent, 0, RICH)
  await say(agent, 1, [text('half'), failed])
  expect(await all(program)).toEqual([
    { text: 'Done: two files changed.', total: 19, reason: 'stop' },
    { error: 'APIError', code: 'out_of_luck', type: 'server_error' },
  ])
})

test('errors come as the SDK’s own: 401, 400, 404, 429', async () => {
  await using net = await startNetwork({
    processes: true,
    env: { CLIENT_KEYS: 'alice=key-of-alice-1', QUEUE_LIMIT: '0' },
  })
  expect(await all(run(net, 'errors', net.url(0)))).toEqual([
    { tried: 'key', error: 'AuthenticationError', code: 'invalid_api_key', request: true },
    { tried: 'tools', error: 'BadRequestError', code: 'unsupported_parameter', request: true },
    { tried: 'model', error: 'NotFoundError', code: 'model_not_found', request: true },
    { tried: 'id', error: 'NotFoundError', code: 'response_not_found', request: true },
    { tried: 'queue', error: 'RateLimitError', code: 'queue_full', request: true },
  ])
})

test('while Redis is away it is InternalServerError; the SDK’s own retry, Redis back, posts once', async () => {
  await using redis = await startRedisServer()
  await using net = await startNetwork({
    processes: true,
    redisUrl: redis.url,
    env: { REDIS_DEADLINE_MS: '800', PROBE_MS: '500', SWEEP_EVERY_MS: '300' },
  })
  await redis.kill9()
  const program = run(net, 'outage', net.url(0))
  await eventually(() => net.replicas[0]!.logs.filter((line) => line['status'] === 503).length > 1, {
    limitMs: 15_000,
  })
  await redis.restart()
  await eventually(() => net.replicas[0]!.well(), { limitMs: 10_000 })
  const agent = await net.rawAgent({ pool: 'coder' })
  await say(agent, 0, [text('Done.'), completed])
  expect(await all(program)).toEqual([{ error: 'InternalServerError', code: 'store_unavailable' }, { text: 'Done.' }])
  expect(agent.turns).toHaveLength(1)
})
