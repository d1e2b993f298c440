import fc from 'fast-check'
import type { TurnEvent } from '../../../src/protocol/events.js'
import { emptyTurn, fold } from '../../../src/protocol/fold.js'
import { isEnding, ResponseProjection, type ResponseFrame } from '../../../src/surfaces/openai/project-response.js'
import { numbered, wholeLog } from '../../protocol/arbitraries.js'
import { accumulate, HEAD, project, retrieved, typesOf } from './response-log.js'

const begin: TurnEvent[] = [
  { type: 'submitted', queued: 0 },
  { type: 'dispatched', request: 'req_1', attempt: 1, agent: 'a' },
]
const log = (...events: TurnEvent[]) => numbered([...begin, ...events])
const say = (text: string, entry = 'a'): TurnEvent => ({ type: 'entry.append', entry, text })
const think = (text: string): TurnEvent => ({ type: 'entry.append', entry: 'r', kind: 'reasoning', text })
const done: TurnEvent = { type: 'completed', reason: 'end_turn' }
const item = (attempt: number, k: number, prefix = 'msg') => `${prefix}_${HEAD.interaction.slice(4)}_${attempt}_${k}`
const endOf = (frames: ResponseFrame[]) => frames.at(-1)!.data['response'] as Record<string, unknown>

describe('a log as the events of the Responses API', () => {
  test('a plain answer is told by the events of the reference, numbered from 0 without a hole', () => {
    const frames = project(
      log(say('Do'), say('ne.'), { type: 'usage', usage: { inputTokens: 1, outputTokens: 2 } }, done),
    )
    expect(typesOf(frames)).toEqual([
      'response.created',
      'response.queued',
      'response.in_progress',
      'response.output_item.added',
      'response.content_part.added',
      'response.output_text.delta',
      'response.output_text.delta',
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.completed',
    ])
    expect(frames.map(({ data }) => data.sequence_number)).toEqual(frames.map((_, i) => i))
    expect(frames[5]!.data).toEqual({
      type: 'response.output_text.delta',
      sequence_number: 5,
      item_id: item(1, 0),
      output_index: 0,
      content_index: 0,
      delta: 'Do',
      logprobs: [],
    })
    expect(frames[3]!.data).toMatchObject({
      item: { id: item(1, 0), type: 'message', role: 'assistant', status: 'in_progress', content: [] },
    })
    expect((frames[0]!.data['response'] as { status: string }).status).toBe('queued')
    expect(endOf(frames)).toMatchObject({
      status: 'completed',
      completed_at: 1_700_000_000,
      usage: { input_tokens: 1, output_tokens: 2, total_tokens: 3 },
      output: [{ id: item(1, 0), status: 'completed', content: [{ type: 'output_text', text: 'Done.' }] }],
    })
  })

  test('every field that an SDK requires is in every response object', () => {
    for (const frame of project(log(say('x'), done)).filter(({ data }) => data['response']))
      expect(Object.keys(frame.data['response'] as object).sort()).toEqual(
        (
          'background completed_at conversation created_at error frequency_penalty id incomplete_details instructions ' +
          'max_output_tokens max_tool_calls metadata model object output parallel_tool_calls presence_penalty ' +
          'previous_response_id prompt_cache_key reasoning safety_identifier service_tier status store temperature text ' +
          'tool_choice tools top_logprobs top_p truncation usage user'
        ).split(' '),
      )
  })

  test('thoughts are a reasoning item, done when the answer begins', () => {
    const frames = project(log(think('Hm, '), think('so.'), say('Yes.'), done))
    expect(typesOf(frames).slice(3, 12)).toEqual([
      'response.output_item.added',
      'response.reasoning_summary_part.added',
      'response.reasoning_summary_text.delta',
      'response.reasoning_summary_text.delta',
      'response.reasoning_summary_text.done',
      'response.reasoning_summary_part.done',
      'response.output_item.done',
      'response.output_item.added',
      'response.content_part.added',
    ])
    expect(endOf(frames)['output']).toMatchObject([
      { id: item(1, 0, 'rs'), type: 'reasoning', summary: [{ type: 'summary_text', text: 'Hm, so.' }] },
      { id: item(1, 1), type: 'message' },
    ])
  })

  test('a tool call is an mcp_call that stays open until it has ended, whatever is said meanwhile', () => {
    const set = (status: 'in_progress' | 'completed' | 'failed', entry = 't'): TurnEvent => ({
      type: 'entry.set',
      entry,
      kind: 'tool_call',
      name: 'Read test.ts',
      status,
    })
    const frames = project(
      log(set('in_progress'), say('Meanwhile.'), say('12 lines', 't'), set('completed'), set('failed', 'u'), done),
    )
    expect(typesOf(frames).slice(3)).toEqual([
      'response.output_item.added',
      'response.mcp_call.in_progress',
      'response.output_item.added',
      'response.content_part.added',
      'response.output_text.delta',
      'response.mcp_call.completed',
      'response.output_item.done',
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.output_item.added',
      'response.mcp_call.in_progress',
      'response.mcp_call.failed',
      'response.output_item.done',
      'response.completed',
    ])
    expect(endOf(frames)['output']).toMatchObject([
      {
        id: item(1, 0, 'mcp'),
        type: 'mcp_call',
        server_label: 'coder',
        name: 'Read test.ts',
        arguments: '{}',
        output: '12 lines',
        error: null,
        status: 'completed',
        approval_request_id: null,
      },
      { type: 'message', status: 'completed' },
      { type: 'mcp_call', status: 'failed', error: 'The tool call failed.' },
    ])
  })

  test('a failure closes what is open as incomplete, then says error and response.failed, each with its number', () => {
    const frames = project(log(say('half'), { type: 'failed', code: 'agent_silent', message: 'Silence.' }))
    expect(typesOf(frames).slice(-5)).toEqual([
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'error',
      'response.failed',
    ])
    const error = { type: 'server_error', code: 'agent_silent', message: 'Silence.', param: null }
    expect(frames.at(-2)!.data).toEqual({ type: 'error', sequence_number: 9, error })
    expect(endOf(frames)).toMatchObject({ status: 'failed', error, output: [{ status: 'incomplete' }] })
  })

  test('a cancel is response.incomplete with status cancelled; the partial output stays', () => {
    const frames = project(log(say('half'), { type: 'cancelled', reason: 'cancelled' }))
    expect(typesOf(frames)).not.toContain('error')
    expect(frames.at(-1)!.event).toBe('response.incomplete')
    expect(endOf(frames)).toMatchObject({
      status: 'cancelled',
      incomplete_details: { reason: 'cancelled' },
      error: null,
      output: [{ status: 'incomplete', content: [{ text: 'half' }] }],
    })
  })

  test.each([
    ['max_tokens', 'max_output_tokens'],
    ['max_turn_requests', 'max_output_tokens'],
    ['refusal', 'content_filter'],
    ['unconfirmed', 'unconfirmed'],
  ] as const)('an agent that stopped for %s leaves an incomplete response', (reason, said) => {
    const frames = project(log(say('half'), { type: 'completed', reason }))
    expect(frames.at(-1)!.event).toBe('response.incomplete')
    expect(endOf(frames)).toMatchObject({ status: 'incomplete', incomplete_details: { reason: said } })
  })

  test('a new attempt closes the old item, goes on at the next index, and alone is in the final output', () => {
    const frames = project(
      log(
        say('half an ans'),
        { type: 'reset', reason: 'agent_disconnected', attempt: 2 },
        { type: 'dispatched', request: 'req_2', attempt: 2, agent: 'b' },
        say('Whole.'),
        done,
      ),
    )
    expect(typesOf(frames).filter((type) => type === 'response.in_progress')).toHaveLength(1)
    const added = frames.filter(({ event }) => event === 'response.output_item.added')
    expect(added.map(({ data }) => [data['output_index'], (data['item'] as { id: string }).id])).toEqual([
      [0, item(1, 0)],
      [1, item(2, 0)],
    ])
    expect(frames.find(({ event }) => event === 'response.output_item.done')!.data).toMatchObject({
      item: { status: 'incomplete', content: [{ text: 'half an ans' }] },
    })
    expect(endOf(frames)['output']).toMatchObject([{ id: item(2, 0), content: [{ text: 'Whole.' }] }])
  })

  test('a text that is changed after it was told is right in its done events and in the end', () => {
    const frames = project(
      log(say('Hello wurld'), { type: 'entry.replace', entry: 'a', offset: 7, text: 'orld!' }, done),
    )
    expect(frames.filter(({ event }) => event.endsWith('.delta')).map(({ data }) => data['delta'])).toEqual([
      'Hello wurld',
      '!',
    ])
    expect(frames.find(({ event }) => event === 'response.output_text.done')!.data['text']).toBe('Hello world!')
    expect(endOf(frames)['output']).toMatchObject([{ content: [{ text: 'Hello world!' }] }])
  })

  test('a text that grows after another has begun goes on in an item of its own', () => {
    const frames = project(log(say('One', 'a'), say('Two', 'b'), say(' and a half', 'a'), done))
    const added = frames.filter(({ event }) => event === 'response.output_item.added')
    expect(added.map(({ data }) => (data['item'] as { id: string }).id)).toEqual([
      item(1, 0),
      item(1, 1),
      `${item(1, 0)}_1`,
    ])
    expect(endOf(frames)['output']).toMatchObject([
      { content: [{ text: 'One and a half' }] },
      { content: [{ text: 'Two' }] },
    ])
  })
})

describe('of any log', () => {
  test('the frames keep every rule that the SDKs throw by, and end where the log does', () => {
    fc.assert(
      fc.property(wholeLog, (events) => {
        const frames = project(events)
        const { response, streamed } = accumulate(frames)
        const ended = ['completed', 'failed', 'cancelled'].includes(events.at(-1)!.type)
        expect(frames.filter(isEnding).length > 0).toBe(ended)
        expect(frames.map(({ data }) => data.sequence_number)).toEqual(frames.map((_, i) => i))
        if (ended) expect(frames.filter(({ event }) => event.endsWith('item.added'))).toHaveLength(streamed.length)
        if (ended) expect(response).toEqual(retrieved(events))
      }),
    )
  })

  test('any way of breaking off and resuming after the last number that was seen gives the same frames', () => {
    fc.assert(
      fc.property(wholeLog, fc.array(fc.nat({ max: 12 }), { maxLength: 6 }), (events, reads) => {
        const all = project(events)
        const seen: ResponseFrame[] = []
        for (const k of [...reads, Infinity]) {
          const after = seen.at(-1)?.data.sequence_number ?? -1
          seen.push(
            ...project(events)
              .filter(({ data }) => data.sequence_number > after)
              .slice(0, k),
          )
        }
        expect(seen).toEqual(all)
      }),
    )
  })

  test('an end that is read from the kept result, the log being gone, is the end that the log would have told', () => {
    fc.assert(
      fc.property(wholeLog, fc.nat(), (events, cut) => {
        fc.pre(['completed', 'failed', 'cancelled'].includes(events.at(-1)!.type))
        const projection = new ResponseProjection(HEAD)
        const frames = events.slice(0, cut % events.length).flatMap((event) => projection.event(event))
        frames.push(...projection.endWith(events.reduce(fold, emptyTurn()), events.at(-1)!.at))
        expect(accumulate(frames).response).toEqual(retrieved(events))
        expect(frames.at(-1)!.event).toBe(project(events).at(-1)!.event)
      }),
    )
  })
})
