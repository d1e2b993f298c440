import fc from 'fast-check'
import type { AgentEvent, LogEvent } from '../../../src/protocol/events.js'
import { emptyTurn, fold } from '../../../src/protocol/fold.js'
import { formatCursor, parseCursor } from '../../../src/protocol/sequence.js'
import { ChatProjection } from '../../../src/surfaces/openai/project.js'
import { numbered, wholeLog } from '../../protocol/arbitraries.js'
import { post } from '../../support/client.js'
import { startNetwork, type Network } from '../../support/network.js'
import type { RawAgent } from '../../support/raw-agent.js'
import { json, SseReader, type RawFrame } from '../../support/sse.js'
import type { ResponseFrame } from '../../../src/surfaces/openai/project-response.js'
import { accumulate } from './response-log.js'

/*
 * However a reader is cut into (connect, read k events, break, reconnect elsewhere): put together it is what one who was
 * never interrupted reads. The pure half of it for the Responses API is in project-response.test.ts.
 */
const RUNS = 6 // turns, each read over three replicas by readers who break off in ways of their own

const agentEvents: fc.Arbitrary<AgentEvent[]> = fc.array(
  fc.oneof(
    fc.record({
      type: fc.constant('entry.append' as const),
      entry: fc.constantFrom('a', 'b'),
      text: fc.string({ unit: 'grapheme', maxLength: 12 }),
    }),
    fc.record({
      type: fc.constant('entry.append' as const),
      entry: fc.constant('r'),
      kind: fc.constant('reasoning' as const),
      text: fc.string({ maxLength: 8 }),
    }),
    fc.record({
      type: fc.constant('entry.set' as const),
      entry: fc.constant('t'),
      kind: fc.constant('tool_call' as const),
      name: fc.constantFrom('ls', 'cat'),
      status: fc.constantFrom('in_progress' as const, 'completed' as const),
    }),
    fc.record({
      type: fc.constant('entry.replace' as const),
      entry: fc.constantFrom('a', 'b'),
      offset: fc.nat({ max: 10 }),
      text: fc.string({ maxLength: 8 }),
    }),
  ),
  { minLength: 1, maxLength: 25 },
)
const end: fc.Arbitrary<AgentEvent> = fc.constantFrom<AgentEvent>(
  { type: 'completed', reason: 'end_turn' },
  { type: 'completed', reason: 'max_tokens' },
  { type: 'failed', code: 'boom', message: 'why' },
)
/** How many events a reader takes before each break; after the last it reads to the end. */
const breaks = fc.array(fc.nat({ max: 7 }), { maxLength: 4 })

describe('pure: of any log', () => {
  test('the native events resumed after any of them fold to the same turn', () => {
    fc.assert(
      fc.property(wholeLog, breaks, (log, reads) => {
        const seen: LogEvent[] = []
        for (const k of [...reads, Infinity]) {
          const { n } = parseCursor(formatCursor({ n: seen.at(-1)?.n ?? 0, incarnation: '' }))!
          seen.push(...log.filter((event) => event.n > n).slice(0, k))
        }
        expect(seen.reduce(fold, emptyTurn())).toEqual(log.reduce(fold, emptyTurn()))
      }),
    )
  })

  test('a chat completion, which cannot be resumed, is the same at every replay, however its log is cut into batches', () => {
    const chunks = (log: LogEvent[], cuts: number[]) => {
      const projection = new ChatProjection({ id: 'c', created: 1, model: 'coder' }, { includeUsage: true })
      const at = [0, ...cuts.map((cut) => cut % (log.length + 1)).sort((a, b) => a - b), log.length]
      return at
        .slice(1)
        .flatMap((to, i) => log.slice(at[i]!, to).flatMap((event) => (projection.over ? [] : projection.event(event))))
    }
    fc.assert(
      fc.property(wholeLog, fc.array(fc.nat()), (log, cuts) =>
        expect(chunks(log, cuts)).toEqual(chunks(numbered(log), [])),
      ),
    )
  })
})

const isEnd = (frame: RawFrame | undefined): boolean => /^(completed|failed)$/.test(frame?.event ?? '')
const isOver = (frame: RawFrame | undefined): boolean => frame?.data === '[DONE]' || frame?.event === 'done'

/** What the last connection of a reader showed who has to read from the start each time: the role comes first. */
const lastReplay = (frames: RawFrame[]): RawFrame[] =>
  frames.slice(frames.findLastIndex(({ data }) => data?.includes('"role":"assistant"')))

/** Reads as `reads` says, each time at the next replica, `open` being given what was seen so far. */
async function pieced(
  net: Network,
  reads: number[],
  open: (url: string, seen: RawFrame[]) => Promise<SseReader>,
  isLast = isOver,
): Promise<RawFrame[]> {
  const seen: RawFrame[] = []
  for (const [i, k] of [...reads, Infinity].entries()) {
    await using reader = await open(net.url(i % net.replicas.length), seen)
    for (let left = k; left > 0;) {
      const frame = await reader.next()
      if (!frame) break
      if (frame.data === undefined) continue // a comment, or how long to wait
      seen.push(frame)
      left--
      if (isLast(frame)) break
    }
    if (isLast(seen.at(-1))) break
  }
  return seen
}

/** Without `done`: who breaks off right before it and comes back with the last cursor gets a 204 in its place. */
const told = (frames: RawFrame[]) => frames.filter(({ event }) => event !== 'done')
const asFrames = (frames: RawFrame[]) =>
  frames
    .filter(({ data }) => data !== '[DONE]')
    .map((frame) => ({ event: frame.event, data: json(frame) }) as ResponseFrame)

describe('real: three replicas, readers that break off and come back elsewhere, while the agent talks', () => {
  test('a response by starting_after, a turn and a session by Last-Event-ID, a chat completion from its start', async () => {
    await using net = await startNetwork({ replicas: 3 })
    const agent = await net.rawAgent({ pool: 'coder', replica: 1, capacity: 4 })
    const headers = { 'content-type': 'application/json' }
    let turns = 0

    async function talk(it: RawAgent, events: AgentEvent[]): Promise<void> {
      const { request } = await it.turn(turns++)
      for (const [i, event] of events.entries()) {
        it.send(request, i + 1, event)
        if (i % 5 === 0) await it.acked(request, i + 1)
      }
    }

    await fc.assert(
      fc.asyncProperty(
        agentEvents,
        end,
        fc.array(breaks, { minLength: 2, maxLength: 3 }),
        async (said, last, readers) => {
          const events = [...said, last]
          const { session, interaction } = await post(net.url(0), { pool: 'coder' }, 'go')
          const id = `resp_${interaction.slice(4)}`
          const response = (url: string, seen: RawFrame[]) => {
            const after = seen.length > 0 ? `&starting_after=${String(json(seen.at(-1)!)['sequence_number'])}` : ''
            return SseReader.open(`${url}/v1/responses/${id}?stream=true${after}`)
          }
          const native = (url: string, seen: RawFrame[]) => {
            const cursor = seen.at(-1)?.id
            return SseReader.open(`${url}/api/v1/interactions/${interaction}/events`, {
              headers: cursor === undefined ? {} : { 'last-event-id': cursor },
            })
          }
          const inSession = (url: string, seen: RawFrame[]) =>
            SseReader.open(`${url}/api/v1/sessions/${session}/events?after=0`, {
              headers: seen.length > 0 ? { 'last-event-id': seen.at(-1)!.id! } : {},
            })
          const [whole, turn, ofSession, ...parts] = await Promise.all([
            pieced(net, [], response),
            pieced(net, [], native),
            pieced(net, [], inSession, isEnd),
            ...readers.map((reads) => pieced(net, reads, response)),
            ...readers.map((reads) => pieced(net, reads, native)),
            ...readers.map((reads) => pieced(net, reads, inSession, isEnd)),
            talk(agent, events).then(() => []),
          ])
          readers.forEach((_, i) => {
            expect(parts[i]).toEqual(whole)
            expect(told(parts[readers.length + i]!)).toEqual(told(turn))
            expect(parts[2 * readers.length + i]).toEqual(ofSession)
          })
          const { response: folded } = accumulate(asFrames(whole))
          expect(folded).toEqual(await (await fetch(`${net.url(2)}/v1/responses/${id}`)).json())

          const body = { model: 'coder', messages: [{ role: 'user', content: 'go' }], stream: true }
          const once = { 'idempotency-key': interaction }
          const chat = (url: string) => SseReader.post(`${url}/v1/chat/completions`, body, { ...headers, ...once })
          const [first, ...others] = await Promise.all([
            pieced(net, [], chat),
            ...readers.map((reads) => pieced(net, reads, chat).then(lastReplay)),
            talk(agent, events).then(() => []),
          ])
          for (const i of readers.keys()) expect(others[i]).toEqual(first)
          for (const url of [net.url(1), net.url(2)]) {
            await using again = await chat(url)
            expect(await again.all()).toEqual(first)
          }
        },
      ),
      { numRuns: RUNS, endOnFailure: true },
    )
  })
})
