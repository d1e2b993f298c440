import { threadIsGone } from '../../src/protocol/thread.js'

// as real agents word it; the last column says where it was seen
test.each([
  ['entity released', 'Zed, after its thread was dropped'],
  ['failed to load thread: entity released', 'the same, wrapped'],
  ['no rollout found for thread id 0199-ab', 'Codex'],
  ['Internal error: no thread found with ID: SessionId("abc")', 'Zed'],
  ['Resource not found: zed:///t/1: {"uri":"zed:///t/1"}', 'ACP'],
])('a load error that says %j means that the thread is gone (%s)', (message) => {
  expect(threadIsGone('thread_load_error', message)).toBe(true)
})

test.each([
  'connection refused',
  'timed out',
  'Resource not found: zed:///t/1: {"uri":"zed:///t/2"}',
  'no thread found with ID: 7',
  'Entity Released',
  '',
])('a load error that says %j may be over the next time: the thread stays', (message) => {
  expect(threadIsGone('thread_load_error', message)).toBe(false)
})

test('the code thread_gone needs no wording', () => {
  expect(threadIsGone('thread_gone', '')).toBe(true)
})

test('the wording alone, in any other failure, clears nothing', () => {
  expect(threadIsGone('tool_failed', 'entity released')).toBe(false)
  expect(threadIsGone('', 'no rollout found for thread id 1')).toBe(false)
})
