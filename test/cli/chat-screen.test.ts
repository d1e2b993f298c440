import { Screen } from '../../src/cli/chat-screen.js'
import type { Chunk } from '../../src/sdk/ai-chunks.js'

const show = (chunks: Chunk[], colours = false): string => {
  const screen = new Screen(colours)
  return chunks.map((chunk) => screen.show(chunk)).join('')
}
const tool = { toolCallId: 't', dynamic: true, providerExecuted: true } as const

test('thoughts, tool calls and text each begin on a line of their own', () => {
  expect(
    show([
      { type: 'start', messageId: 'm' },
      { type: 'reasoning-start', id: 'r' },
      { type: 'reasoning-delta', id: 'r', delta: 'Let me ' },
      { type: 'reasoning-delta', id: 'r', delta: 'look.' },
      { type: 'reasoning-end', id: 'r' },
      { type: 'tool-input-available', ...tool, toolName: 'Read a.ts', title: 'Read a.ts', input: {} },
      { type: 'tool-output-available', ...tool, output: 'line 1\n  line 2\n' },
      { type: 'text-start', id: 'x' },
      { type: 'text-delta', id: 'x', delta: 'Done.\n' },
      { type: 'text-end', id: 'x' },
      { type: 'finish-step' },
      { type: 'finish', finishReason: 'length' },
    ]),
  ).toBe('Let me look.\n· Read a.ts …\n✓ Read a.ts: line 1 line 2\nDone.\n(ended: length)\n')
})

test('an agent can neither colour the screen nor move the cursor', () => {
  const text = 'a\u001b[2Jb\u0007c\rd\u009b1me\tf\n'
  expect(show([{ type: 'text-delta', id: 'x', delta: text }])).toBe('a[2Jbcd1me\tf\n')
  expect(
    show([{ type: 'tool-input-available', ...tool, toolName: text, title: 'rm\u001b]0;x\u0007', input: {} }]),
  ).not.toMatch(/[\u001b\u0007]/)
})

test('colours are used when they are wanted', () => {
  const thought: Chunk = { type: 'reasoning-delta', id: 'r', delta: 'Hm.' }
  expect(show([thought], true)).toBe('\u001b[2mHm.\u001b[0m')
  expect(show([thought])).toBe('Hm.')
})
