import type { LogEvent } from '../../../src/protocol/events.js'
import { emptyTurn, fold } from '../../../src/protocol/fold.js'
import { newInteractionId, newSessionId } from '../../../src/core/mint.js'
import { UNASKED } from '../../../src/surfaces/openai/asked.js'
import { ResponseProjection, type ResponseFrame } from '../../../src/surfaces/openai/project-response.js'
import { responseObject, type ResponseHead } from '../../../src/surfaces/openai/response.js'

export const HEAD: ResponseHead = {
  interaction: newInteractionId(newSessionId()),
  pool: 'coder',
  createdAt: 1_790_000_000_000,
  metadata: {},
  asked: UNASKED,
}

export function project(events: LogEvent[]): ResponseFrame[] {
  const projection = new ResponseProjection(HEAD)
  return events.flatMap((event) => projection.event(event))
}

export const typesOf = (frames: ResponseFrame[]): string[] => frames.map(({ event }) => event)

/** The response as a plain GET gives it after these events. */
export function retrieved(events: LogEvent[]): object {
  const turn = events.reduce(fold, emptyTurn())
  const last = events.at(-1)
  const ended = last && ['completed', 'failed', 'cancelled'].includes(last.type)
  return responseObject(HEAD, { ...turn, endedAt: ended ? last.at : null })
}

export interface Item {
  id: string
  type: string
  status: string
  content?: { type: string; text: string }[]
  summary?: { type: string; text: string }[]
  name?: string
  output?: string | null
}
export interface SeenResponse {
  id: string
  status: string
  output: Item[]
  error: object | null
  incomplete_details: { reason: string } | null
}

/**
 * What the SDKs' helpers make of the frames, with the rules that they throw by: `response.created` first, indexes that
 * count up, ids that match, deltas only into what was added, nothing after `done`.
 */
export function accumulate(frames: ResponseFrame[]): { response: SeenResponse; streamed: Item[] } {
  let response: SeenResponse | undefined
  const items: Item[] = []
  const done = new Set<number>()
  const ids = new Set<string>()
  const rule = (holds: boolean, what: string, frame: ResponseFrame) => {
    if (!holds) throw new Error(`${what}: ${JSON.stringify(frame)}`)
  }
  frames.forEach((frame, i) => {
    const data = structuredClone(frame.data) as ResponseFrame['data'] & Record<string, never>
    const index = data['output_index'] as unknown as number
    const item = items[index]
    rule(data.type === frame.event, 'event equals type', frame)
    rule((i === 0) === (data.type === 'response.created'), 'created is first, and once', frame)
    switch (data.type) {
      case 'response.output_item.added': {
        const added = data['item'] as unknown as Item
        rule(index === items.length, 'output_index counts up', frame)
        rule(!ids.has(added.id), 'ids are unique', frame)
        ids.add(added.id)
        items.push(added)
        break
      }
      case 'response.output_item.done': {
        const given = data['item'] as unknown as Item
        rule(item !== undefined && !done.has(index), 'done once, after added', frame)
        rule(given.id === item!.id && given.type === item!.type, 'done repeats id and type', frame)
        done.add(index)
        items[index] = given
        break
      }
      case 'response.content_part.added':
      case 'response.reasoning_summary_part.added': {
        const list = item!.type === 'message' ? item!.content! : item!.summary!
        rule(
          ((data['content_index'] ?? data['summary_index']) as unknown as number) === list.length,
          'parts count up',
          frame,
        )
        list.push(data['part'] as never)
        break
      }
      case 'response.output_text.delta':
      case 'response.reasoning_summary_text.delta':
        rule(data['item_id'] === (item!.id as never) && !done.has(index), 'item_id is that of the index', frame)
        ;(item!.content ?? item!.summary!)[0]!.text += data['delta'] as unknown as string
        break
      case 'response.output_text.done':
      case 'response.reasoning_summary_text.done':
        ;(item!.content ?? item!.summary!)[0]!.text = data['text'] as unknown as string
        break
      default:
        if (data['response']) response = data['response'] as unknown as SeenResponse
    }
  })
  return { response: response!, streamed: items }
}
