import { promptOf, refuseUnsupported } from '../../../src/surfaces/openai/prompt.js'
import { ChatRequest } from '../../../src/surfaces/openai/schemas.js'

const request = (more: object) =>
  ChatRequest.parse({ model: 'coder', messages: [{ role: 'user', content: 'Hi' }], ...more })
const refusal = (act: () => unknown): unknown => {
  try {
    act()
  } catch (error) {
    return error
  }
  throw new Error('was not refused')
}

describe('what the agent is told', () => {
  const list = ChatRequest.shape.messages.parse([
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'One?' },
    { role: 'assistant', content: 'One.' },
    {
      role: 'user',
      content: [
        { type: 'text', text: 'And ' },
        { type: 'text', text: 'two?' },
      ],
    },
  ])

  test('a single user message is just its text', () => {
    expect(promptOf([{ role: 'user', content: ' Fix the build\n' }], false)).toBe(' Fix the build\n')
  })

  test('a new session is given the whole list', () => {
    expect(promptOf(list, false)).toBe('system: Be brief.\n\nuser: One?\n\nassistant: One.\n\nuser: And two?')
  })

  test('a known session is told what follows the last answer', () => {
    expect(promptOf(list, true)).toBe('And two?')
  })

  test('messages without text are passed over', () => {
    const called = { role: 'assistant' as const, content: null }
    const result = { role: 'tool' as const, content: '42' }
    expect(promptOf([{ role: 'user', content: 'Sum?' }, called, result], false)).toBe('user: Sum?\n\ntool: 42')
    expect(promptOf([{ role: 'user', content: 'Sum?' }, called, result], true)).toBe('tool: 42')
  })

  test('nothing to say is refused', () => {
    expect(refusal(() => promptOf(list.slice(0, 3), true))).toMatchObject({
      code: 'invalid_request',
      param: 'messages',
    })
    expect(refusal(() => promptOf([{ role: 'user', content: ' \n' }], false))).toMatchObject({
      code: 'invalid_request',
    })
  })

  test('an image is refused by the path of its part, wherever it stands', () => {
    const image = { role: 'user' as const, content: [{ type: 'text', text: 'See' }, { type: 'image_url' }] }
    expect(refusal(() => promptOf([image, ...list], true))).toMatchObject({
      code: 'unsupported_parameter',
      param: 'messages[0].content[1]',
    })
  })
})

describe('what the answer could not honour', () => {
  test.each([
    ['n', 2],
    ['tools', [{ type: 'function' }]],
    ['functions', [{ name: 'f' }]],
    ['modalities', ['text', 'audio']],
    ['audio', { voice: 'alloy' }],
  ])('%s is refused', (param, value) => {
    expect(refusal(() => refuseUnsupported(request({ [param]: value })))).toMatchObject({
      code: 'unsupported_parameter',
      param,
    })
  })

  test('what asks for nothing special is not', () => {
    refuseUnsupported(
      request({ n: 1, tools: [], functions: null, modalities: ['text'], audio: null, temperature: 0.2 }),
    )
  })
})
