import fc from 'fast-check'
import type { LogEvent, TurnEvent } from '../../../src/protocol/events.js'
import { emptyTurn, fold, outputText } from '../../../src/protocol/fold.js'
import { ChatProjection } from '../../../src/surfaces/openai/project.js'
import type { Frame } from '../../../src/surfaces/http/sse.js'

const HEAD = { id: 'chatcmpl-1', created: 1_790_000_000, model: 'coder' }

const log = (...events: TurnEvent[]): LogEvent[] => events.map((event, i) => ({ ...event, n: i + 1, at: 1000 + i }))
const say = (text: string, entry = 'a'): TurnEvent => ({ type: 'entry.append', entry, text })
const done: TurnEvent = { type: 'completed', reason: 'end_turn' }

interface Chunk {
  choices: { delta: { role?: string; content?: string }; finish_reason: string | null }[]
  usage?: object | null
  error?: { code: string; type: string; message: string }
}
const project = (events: LogEvent[], includeUsage = false): Chunk[] => {
  const projection = new ChatProjection(HEAD, { includeUsage })
  return chunks(events.flatMap((event) => projection.event(event)))
}
const chunks = (frames: Frame[]): Chunk[] => frames.map(({ data }) => data as Chunk)
const textOf = (list: Chunk[]): string => list.flatMap(({ choices }) => choices?.[0]?.delta.content ?? []).join('')

describe('a log as Chat Completions chunks', () => {
  test('begins with the role, tells the text, ends with a finish reason', () => {
    expect(project(log({ type: 'submitted', queued: 0 }, say('Do'), say('ne.'), done))).toEqual(
      [
        [{ role: 'assistant', content: '' }, null],
        [{ content: 'Do' }, null],
        [{ content: 'ne.' }, null],
        [{}, 'stop'],
      ].map(([delta, finish_reason]) => ({
        ...HEAD,
        object: 'chat.completion.chunk',
        choices: [{ index: 0, delta, logprobs: null, finish_reason }],
      })),
    )
  })

  test('shows neither tool calls nor thoughts, and a blank line between two texts', () => {
    const events = log(
      { type: 'entry.append', entry: 'r', kind: 'reasoning', text: 'Hm.' },
      say('One', 'a'),
      { type: 'entry.set', entry: 't', kind: 'tool_call', name: 'ls', status: 'in_progress' },
      { type: 'entry.append', entry: 't', text: 'file' },
      say('Two', 'b'),
      done,
    )
    expect(textOf(project(events))).toBe('One\n\nTwo')
  })

  test('says the usage in a chunk of its own, and only when asked and known', () => {
    const usage: TurnEvent = { type: 'usage', usage: { inputTokens: 12, outputTokens: 2 } }
    const asked = project(log(say('x'), usage, done), true)
    expect(asked.slice(0, -1).every((chunk) => chunk.usage === null)).toBe(true)
    expect(asked.at(-1)).toMatchObject({
      choices: [],
      usage: { prompt_tokens: 12, completion_tokens: 2, total_tokens: 14 },
    })
    expect(project(log(say('x'), usage, done)).some((chunk) => 'usage' in chunk)).toBe(false)
    expect(project(log(say('x'), done), true).at(-1)!.choices[0]!.finish_reason).toBe('stop')
  })

  test.each([
    ['max_tokens', 'length'],
    ['max_turn_requests', 'length'],
    ['refusal', 'content_filter'],
    ['unconfirmed', 'length'],
  ] as const)('an agent that stops for %s finishes with %s', (reason, finish) => {
    expect(project(log(say('x'), { type: 'completed', reason })).at(-1)!.choices[0]!.finish_reason).toBe(finish)
  })

  test('a failure is an error with the code of the turn, a cancel one with the code cancelled', () => {
    const failed = project(log(say('x'), { type: 'failed', code: 'agent_silent', message: 'Silence.' }))
    expect(failed.at(-1)).toEqual({
      error: { message: 'Silence.', type: 'server_error', param: null, code: 'agent_silent' },
    })
    const cancelled = project(log(say('x'), { type: 'cancelled', reason: 'client' }))
    expect(cancelled.at(-1)!.error!.code).toBe('cancelled')
  })

  test('a new beginning after output ends the stream with an error; before any output nobody notices', () => {
    const reset: TurnEvent = { type: 'reset', reason: 'agent_disconnected', attempt: 2 }
    expect(project(log(say('half an ans'), reset)).at(-1)!.error!.code).toBe('reset_after_output')
    expect(textOf(project(log(reset, say('whole'), done)))).toBe('whole')
  })

  test('of a text that was changed after it was sent, what lies beyond it is sent', () => {
    const replace = (offset: number, text: string): TurnEvent => ({ type: 'entry.replace', entry: 'a', offset, text })
    expect(textOf(project(log(say('Status: run'), replace(8, 'run, then stop'), done)))).toBe('Status: run, then stop')
    expect(textOf(project(log(say('Hello wurld'), replace(7, 'orld and all'), done)))).toBe('Hello wurld and all')
    // what replaced a longer text is not shown, but what follows it is
    expect(textOf(project(log(say('Loading…'), replace(0, ''), say(' Here.'), done)))).toBe('Loading… Here.')
  })
})

describe('a snapshot in place of events', () => {
  const entries = (text: string) => [{ id: 'a', kind: 'text' as const, text }]

  test('adds what is new in it', () => {
    const projection = new ChatProjection(HEAD, { includeUsage: false })
    const shown = log(say('One, ')).flatMap((event) => projection.event(event))
    const rest = projection.snapshot({ n: 3, status: 'completed', attempt: 0, entries: entries('One, two.') })
    expect(textOf(chunks([...shown, ...rest]))).toBe('One, two.')
    expect(projection.over).toBe(true)
  })

  test('that is behind what was sent is caught up with in silence', () => {
    const projection = new ChatProjection(HEAD, { includeUsage: false })
    const frames = [
      ...log(say('One, '), say('two, ')).flatMap((event) => projection.event(event)),
      ...projection.snapshot({ n: 1, status: 'streaming', attempt: 0, entries: entries('One, ') }),
      ...log(say('two, '), say('three.')).flatMap((event) => projection.event(event)),
    ]
    expect(textOf(chunks(frames))).toBe('One, two, three.')
  })

  test('of a later attempt, after output, ends the stream with an error', () => {
    const projection = new ChatProjection(HEAD, { includeUsage: false })
    log(say('One')).forEach((event) => projection.event(event))
    const frames = projection.snapshot({ n: 9, status: 'streaming', attempt: 2, entries: entries('Another') })
    expect(chunks(frames).at(-1)!.error!.code).toBe('reset_after_output')
  })
})

describe('whatever the agent says', () => {
  const event = fc.oneof(
    fc
      .record({ entry: fc.constantFrom('a'), text: fc.string({ maxLength: 12, unit: 'binary' }) })
      .map(({ entry, text }): TurnEvent => ({ type: 'entry.append', entry, text })),
    fc.constant<TurnEvent>({ type: 'entry.set', entry: 't', kind: 'tool_call', status: 'completed' }),
    fc.constant<TurnEvent>({ type: 'entry.append', entry: 'r', kind: 'reasoning', text: 'hm' }),
    fc.constant<TurnEvent>({ type: 'title', title: 'A title' }),
  )
  /** Events in which entries follow one another: `a0`, then `a1`, … as agents that do not go back produce them. */
  const turn = fc
    .array(fc.array(event, { maxLength: 8 }), { maxLength: 5 })
    .map((parts) =>
      parts.flatMap((part, i) => part.map((e) => ('entry' in e && e.entry === 'a' ? { ...e, entry: `a${i}` } : e))),
    )

  test('the chunks together are the output of the fold', () => {
    fc.assert(
      fc.property(turn, (events) => {
        const all = log({ type: 'submitted', queued: 0 }, ...events, done)
        expect(textOf(project(all))).toBe(outputText(all.reduce(fold, emptyTurn())))
      }),
    )
  })

  test('where the events are cut into batches makes no difference, nor does a snapshot in the place of some', () => {
    fc.assert(
      fc.property(turn, fc.nat(), fc.nat(), (events, a, b) => {
        const all = log({ type: 'submitted', queued: 0 }, ...events, done)
        const [from, to] = [a % all.length, b % all.length].sort((x, y) => x - y) as [number, number]
        const projection = new ChatProjection(HEAD, { includeUsage: false })
        const frames = [
          ...all.slice(0, from).flatMap((e) => projection.event(e)),
          ...projection.snapshot(all.slice(0, to).reduce(fold, emptyTurn())),
          ...all.slice(to).flatMap((e) => projection.event(e)),
        ]
        expect(textOf(chunks(frames))).toBe(textOf(project(all)))
      }),
    )
  })

  test('how a text is cut into events makes no difference to what is read', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200 }), fc.array(fc.nat({ max: 200 })), (text, cuts) => {
        const at = [0, ...cuts.map((cut) => Math.min(cut, text.length)).sort((x, y) => x - y), text.length]
        const pieces = at.slice(1).map((to, i) => say(text.slice(at[i]!, to)))
        expect(textOf(project(log(...pieces, done)))).toBe(text)
      }),
    )
  })
})
