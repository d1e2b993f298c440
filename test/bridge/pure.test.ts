import { Readable } from 'node:stream'
import { RequestError, type PermissionOption } from '@agentclientprotocol/sdk'
import { usageIn } from '../../src/bridge/acp.js'
import { Gate, gated } from '../../src/bridge/gate.js'
import { lineReader, strayLines } from '../../src/bridge/lines.js'
import { optionsOf, outcome, pick } from '../../src/bridge/policy.js'
import { isGone, whyOff } from '../../src/bridge/trouble.js'
import { eventually } from '../support/eventually.js'

const option = (optionId: string, kind: PermissionOption['kind']): PermissionOption => ({
  optionId,
  name: optionId,
  kind,
})

describe('permissions', () => {
  test('yes and no are said once rather than for ever; where neither is offered nothing is chosen', () => {
    const all = [
      option('aa', 'allow_always'),
      option('a', 'allow_once'),
      option('ra', 'reject_always'),
      option('r', 'reject_once'),
    ]
    const { options } = optionsOf(all)
    expect([pick(options, 'allow'), pick(options, 'reject')]).toEqual(['a', 'r'])
    const ever = optionsOf([all[0]!, all[2]!]).options
    expect([pick(ever, 'allow'), pick(ever, 'reject')]).toEqual(['aa', 'ra'])
    expect(pick(optionsOf([all[0]!]).options, 'reject')).toBeNull()
    expect(outcome(null)).toEqual({ outcome: 'cancelled' })
  })

  test('ids that we cannot carry get one of ours, and lead back to theirs', () => {
    const long = 'x'.repeat(200)
    const { options, theirs } = optionsOf([long, '', 'a', 'a'].map((id) => option(id, 'allow_once')))
    expect(options.map(({ id }) => id)).toEqual(['option-1', 'option-2', 'a', 'option-4'])
    expect([...theirs.values()]).toEqual([long, '', 'a', 'a'])
    expect(optionsOf(Array.from({ length: 40 }, (_, i) => option(`${i}`, 'allow_once'))).options).toHaveLength(16)
  })
})

describe('stderr, line by line', () => {
  const lines = (...chunks: string[]) => {
    const said: string[] = []
    const reader = lineReader(
      (line) => said.push(line),
      () => 0,
    )
    for (const chunk of chunks) reader.read(Buffer.from(chunk))
    reader.end()
    return said
  }

  test('lines come whole however they arrive, without colours, control characters and empty ones', () => {
    expect(lines('on', 'e\ntw', 'o\r\n\n\u001b[31mred\u001b[0m\u0007\nlast')).toEqual(['one', 'two', 'red', 'last'])
    const bytes = Buffer.from('grün\n')
    const said: string[] = []
    const reader = lineReader((line) => said.push(line))
    for (const byte of bytes) reader.read(Uint8Array.of(byte))
    expect(said).toEqual(['grün'])
  })

  test('a line without an end is cut and not kept; a flood is counted', () => {
    const [line, ...rest] = lines(...Array<string>(100).fill('x'.repeat(1000)), '\nnext\n')
    expect(line).toMatch(/^x{2000}…$/)
    expect(rest).toEqual(['next'])
    const flood = lines(Array.from({ length: 1000 }, (_, i) => `line ${i}\n`).join(''))
    expect(flood).toHaveLength(201)
    expect(flood.at(-1)).toBe('(800 more lines)')
  })
})

test('while anybody holds the gate, nothing is read', async () => {
  const source = new Readable({ read() {} })
  let taken = 0
  async function* counted() {
    for await (const chunk of source) {
      taken++
      yield chunk as Uint8Array
    }
  }
  const gate = new Gate()
  const [one, two] = [{}, {}]
  gate.hold(one)
  gate.hold(two)
  const reader = gated(counted(), gate).getReader()
  source.push('hello')
  const read = reader.read()
  gate.free(one)
  expect(await Promise.race([read, new Promise((resolve) => setImmediate(() => resolve('waits')))])).toBe('waits')
  expect(taken).toBe(0)
  gate.free(two)
  expect(Buffer.from((await read).value!).toString()).toBe('hello')
  source.push(null)
  await eventually(async () => (await reader.read()).done)
})

test('only an agent that says it does not have the session makes the session gone', () => {
  const gone = (err: unknown) => isGone(err, 'id-1')
  for (const err of [
    RequestError.resourceNotFound('id-1'),
    RequestError.sessionNotFound('id-1'),
    RequestError.internalError({ details: 'NotFoundError: session not found' }),
    RequestError.invalidParams({ error: 'Session not found: id-1' }), // OpenCode
    RequestError.internalError({ details: 'no rollout found for thread id id-1' }), // Codex
    RequestError.internalError({ details: 'The session has expired' }),
  ])
    expect([err.message, gone(err)]).toEqual([err.message, true])
  for (const details of [
    'the disk is full',
    'API key not found',
    'the access token has expired',
    'command not found: node',
  ])
    expect([details, gone(RequestError.internalError({ details }))]).toEqual([details, false])
  expect(gone(RequestError.authRequired({ details: 'session expired' }))).toBe(false) // a login brings it back
  expect(gone(RequestError.resourceNotFound('file:///a.txt'))).toBe(false)
  expect(gone(new Error('session not found'))).toBe(false) // our own words, not the agent's
})

test('who asks for what is off is told by which option it comes', () => {
  expect(whyOff('fs/read_text_file')).toContain('without --allow-fs')
  expect(whyOff('terminal/create')).toContain('without --allow-terminal')
  expect(whyOff('elicitation/create')).toBe('') // there is none
})

test('what a program prints on stdout beside its messages is said, and all of it passed on', async () => {
  const chunks = ['{"a":1}\nWel', 'come!\n\n{"b"', ':"\\n x"}\n{', '"c":3}\nbye'].map((text) => Buffer.from(text))
  const said: string[] = []
  const passed: Uint8Array[] = []
  for await (const chunk of strayLines(Readable.from(chunks), (line) => said.push(line))) passed.push(chunk)
  expect(said).toEqual(['(on stdout) Welcome!', '(on stdout) bye'])
  expect(passed).toEqual(chunks)
})

test('tokens are passed on where an agent counts them, and nothing is made up', () => {
  expect(usageIn({ usage: { inputTokens: 1, outputTokens: 2, totalTokens: 3, thoughtTokens: null } })).toEqual({
    inputTokens: 1,
    outputTokens: 2,
  })
  expect(usageIn({ usage: { inputTokens: 1, outputTokens: 2, cachedReadTokens: 4 } })).toMatchObject({
    cachedTokens: 4,
  })
  for (const nothing of [{}, { usage: null }, { usage: { inputTokens: -1, outputTokens: 0 } }, null])
    expect(usageIn(nothing)).toBeUndefined()
})
