import type { SessionUpdate, ToolCallContent } from '@agentclientprotocol/sdk'
import fc from 'fast-check'
import { Narrator, toolEntry } from '../../src/bridge/narrate.js'
import { diffText, planText, rawText, toolText } from '../../src/bridge/render.js'
import { AgentEvent } from '../../src/protocol/events.js'
import { emptyTurn, fold } from '../../src/protocol/fold.js'
import { numbered } from '../protocol/arbitraries.js'

const told = (updates: SessionUpdate[], terminal?: (id: string) => string | undefined) => {
  const narrator = new Narrator(terminal)
  const events = updates.flatMap((update) => narrator.tell(update))
  for (const event of events) AgentEvent.parse(event) // what the gateway would take
  return { events, entries: numbered(events).reduce(fold, emptyTurn()).entries }
}
const says = (text: string, messageId?: string): SessionUpdate => ({
  sessionUpdate: 'agent_message_chunk',
  content: { type: 'text', text },
  ...(messageId !== undefined && { messageId }),
})
const thinks = (text: string): SessionUpdate => ({
  sessionUpdate: 'agent_thought_chunk',
  content: { type: 'text', text },
})
const shows = (text: string): ToolCallContent => ({ type: 'content', content: { type: 'text', text } })
const tool = (content: ToolCallContent[]): SessionUpdate => ({
  sessionUpdate: 'tool_call_update',
  toolCallId: 'c',
  content,
})

test('chunks of one kind and one message are one entry; another kind, message or tool call begins a new one', () => {
  const { entries } = told([
    says('a', '1'),
    says('b', '1'),
    says('c', '2'),
    thinks('hm'),
    says('d', '2'),
    { sessionUpdate: 'tool_call', toolCallId: 'c', title: 'ls' },
    says('e', '2'),
    tool([shows('x')]),
    says('f', '2'),
  ])
  expect(entries.map(({ kind, text }) => [kind, text])).toEqual([
    ['text', 'ab'],
    ['text', 'c'],
    ['reasoning', 'hm'],
    ['text', 'd'],
    ['tool_call', 'x'],
    ['text', 'ef'],
  ])
})

test('however the content of a tool call changes, its entry shows the last of it', () => {
  const pieces = fc.array(
    fc.array(fc.string({ unit: fc.constantFrom('a', 'b', '😀', '\n') }), { minLength: 1, maxLength: 3 }),
    {
      minLength: 1,
    },
  )
  fc.assert(
    fc.property(pieces, (contents) => {
      const { entries } = told(contents.map((content) => tool(content.map(shows))))
      expect(entries[0]!.text).toBe(toolText(contents.at(-1)!.map(shows), () => undefined))
    }),
  )
})

test('content that grows is appended, and what has not changed is not said again', () => {
  const { events } = told([
    { sessionUpdate: 'tool_call', toolCallId: 'c', title: 'make', status: 'in_progress' },
    tool([shows('one')]),
    tool([shows('one two')]),
    {
      sessionUpdate: 'tool_call_update',
      toolCallId: 'c',
      status: 'in_progress',
      title: 'make',
      content: [shows('one two')],
    },
    { sessionUpdate: 'tool_call_update', toolCallId: 'c', status: 'completed', content: [shows('one two three')] },
  ])
  expect(events.map(({ type, ...rest }) => [type, 'text' in rest ? rest.text : rest])).toEqual([
    ['entry.set', { entry: 'tool:c', kind: 'tool_call', name: 'make', status: 'in_progress' }],
    ['entry.append', 'one'],
    ['entry.append', ' two'],
    ['entry.append', ' three'],
    ['entry.set', { entry: 'tool:c', kind: 'tool_call', status: 'completed' }],
  ])
})

test('what a tool returned is shown where it shows nothing else', () => {
  const returned = (rawOutput: unknown): SessionUpdate => ({
    sessionUpdate: 'tool_call_update',
    toolCallId: 'c',
    rawOutput,
  })
  expect(told([returned({ output: 'plain' })]).entries[0]!.text).toBe('plain')
  expect(told([tool([shows('shown')]), returned('raw')]).entries[0]!.text).toBe('shown')
  expect([rawText('x'), rawText({ content: 'y' }), rawText({ n: 1 }), rawText(null), rawText(undefined)]).toEqual([
    'x',
    'y',
    '{\n  "n": 1\n}',
    '',
    '',
  ])
})

test('a change never begins in the middle of a character', () => {
  const { events, entries } = told([tool([shows('step \u{1F600}')]), tool([shows('step \u{1F601}!')])])
  expect(events.at(-1)).toMatchObject({ type: 'entry.replace', offset: 5, text: '\u{1F601}!' })
  expect(entries[0]!.text).toBe('step \u{1F601}!')
})

test('a tool call that refers to a terminal shows what the terminal shows', () => {
  const contents: ToolCallContent[] = [{ type: 'terminal', terminalId: 't' }]
  expect(told([tool(contents)], (id) => `$ ${id}`).entries[0]!.text).toBe('$ t')
  expect(told([tool(contents)]).entries[0]!.text).toBe('[terminal t]')
})

test('a change of a file is shown with a few lines around it, a new file whole', () => {
  const lines = (n: number) => Array.from({ length: n }, (_, i) => `l${i + 1}`)
  const after = lines(20).with(9, 'new')
  expect(diffText({ path: '/f', oldText: lines(20).join('\n'), newText: after.join('\n') }).split('\n')).toEqual([
    '--- /f',
    '+++ /f',
    '@@ line 10 @@',
    ' l7',
    ' l8',
    ' l9',
    '-l10',
    '+new',
    ' l11',
    ' l12',
    ' l13',
  ])
  expect(diffText({ path: '/f', newText: 'a\nb' })).toBe('+++ /f\n+a\n+b')
})

test('what is too much to show is cut, and says so', () => {
  expect(toolText([shows('x'.repeat(300_000))], () => undefined)).toMatch(/^x{200000}\n… \(100000 more characters\)$/)
  expect(planText([{ content: 'a', priority: 'low', status: 'pending' }])).toBe('[ ] a')
})

test('an id of theirs that is too long for an entry gets another one, always the same', () => {
  const long = 'x'.repeat(500)
  expect(toolEntry(long)).toBe(toolEntry(long))
  expect(toolEntry(long).length).toBeLessThanOrEqual(128)
  expect(toolEntry(long)).not.toBe(toolEntry(`${long}y`))
})

test('updates that are for an editor say nothing', () => {
  const updates: SessionUpdate[] = [
    { sessionUpdate: 'available_commands_update', availableCommands: [] },
    { sessionUpdate: 'current_mode_update', currentModeId: 'm' },
    { sessionUpdate: 'usage_update', used: 1, size: 2 },
    { sessionUpdate: 'user_message_chunk', content: { type: 'text', text: 'what I said' } },
    says(''),
  ]
  expect(told(updates).events).toEqual([])
})
