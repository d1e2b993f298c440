import { Readable } from 'node:stream'
import { RequestError, type PermissionOption } from '@agentclientprotocol/sdk'
import { usageIn } from '../../src/bridge/acp.js'
import { isGone } from '../../src/bridge/agent.js'
import { Gate, gated } from '../../src/bridge/gate.js'
import { lineReader } from '../../src/bridge/lines.js'
import { optionsOf, outcome, pick } from '../../src/bridge/policy.js'
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
  expect(isGone(RequestError.resourceNotFound('x'))).toBe(true)
  expect(isGone(RequestError.internalError({ details: 'NotFoundError: session not found' }))).toBe(true)
  expect(isGone(RequestError.internalError({ details: 'the disk is full' }))).toBe(false)
  expect(isGone(new Error('session not found'))).toBe(false) // our own words, not the agent's
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
