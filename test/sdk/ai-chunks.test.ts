import { readUIMessageStream, uiMessageChunkSchema, type UIMessageChunk } from 'ai'
import fc from 'fast-check'
import type { LogEvent, TurnEvent } from '../../src/protocol/events.js'
import { emptyTurn, fold, type Turn } from '../../src/protocol/fold.js'
import { isTerminal } from '../../src/protocol/interaction.js'
import { interactionId, sessionId } from '../../src/protocol/ids.js'
import { lastingParts } from '../../src/sdk/ai.js'
import { ChunkProjection, type Chunk } from '../../src/sdk/ai-chunks.js'
import { numbered, wholeLog } from '../protocol/arbitraries.js'

const ID = interactionId(sessionId(0, new Uint8Array(16)), new Uint8Array(10))

/** The log's chunks; in place of the events from `from` to `to` comes a snapshot. */
function chunksOf(log: LogEvent[], from = Infinity, to = -1): Chunk[] {
  const projection = new ChunkProjection(ID)
  const chunks: Chunk[] = []
  let turn = emptyTurn()
  for (const event of log) {
    turn = fold(turn, event)
    const cursor = String(event.n)
    if (event.n === to) chunks.push(...projection.next({ type: 'snapshot', turn, cursor }))
    else if (event.n < from || event.n > to) chunks.push(...projection.next({ type: 'event', event, cursor }))
  }
  return chunks
}

/** What a reader holds of each text, thought and plan after the last reset. */
function held(chunks: Chunk[]): Record<string, string> {
  const texts: Record<string, string> = {}
  for (const chunk of chunks.slice(chunks.findLastIndex(({ type }) => type === 'data-throughline-reset') + 1)) {
    const entry = 'id' in chunk ? chunk.id.split('.')[1]! : ''
    if (chunk.type === 'text-delta' || chunk.type === 'reasoning-delta')
      texts[entry] = (texts[entry] ?? '') + chunk.delta
    if (chunk.type === 'data-throughline-plan') texts[entry] = chunk.data.text
  }
  return texts
}

const textsOf = (turn: Turn) =>
  Object.fromEntries(
    turn.entries.filter(({ kind, text }) => kind !== 'tool_call' && text !== '').map(({ id, text }) => [id, text]),
  )

const withoutEmpty = (texts: Record<string, string>) => Object.fromEntries(Object.entries(texts).filter(([, t]) => t))

test('whatever a log says, what holds of its chunks is its fold; a snapshot in place of any part changes nothing', () => {
  fc.assert(
    fc.property(wholeLog, fc.nat(), fc.nat(), (log, a, b) => {
      const texts = textsOf(log.reduce(fold, emptyTurn()))
      const [from, to] = [(a % log.length) + 1, (b % log.length) + 1].sort((x, y) => x - y)
      expect(withoutEmpty(held(chunksOf(log)))).toEqual(texts)
      expect(withoutEmpty(held(chunksOf(log, from, to)))).toEqual(texts)
    }),
    { numRuns: 500 },
  )
})

test('the AI SDK reads the chunks of any log', async () => {
  const { validate } = uiMessageChunkSchema()
  await fc.assert(
    fc.asyncProperty(wholeLog, async (log) => {
      const chunks = chunksOf(log).filter(({ type }) => type !== 'error') // at that it throws, as it should
      for (const chunk of chunks) expect(await validate!(chunk)).toMatchObject({ success: true })
      const stream = new ReadableStream<UIMessageChunk>({
        start(out) {
          for (const chunk of chunks) out.enqueue(chunk)
          out.close()
        },
      })
      let parts: { type: string }[] = []
      for await (const message of readUIMessageStream({ stream, terminateOnError: true })) parts = message.parts
      const turn = log.reduce(fold, emptyTurn())
      const shown = (kind: string) =>
        lastingParts(parts).flatMap((part) => (part.type === kind ? [(part as unknown as { text: string }).text] : []))
      for (const kind of ['text', 'reasoning']) {
        const entries = turn.entries.filter((entry) => entry.kind === kind)
        if (entries.length === 1) expect(shown(kind).join('')).toBe(entries[0]!.text)
      }
      if (isTerminal(turn.status))
        expect(parts.some((part) => 'state' in part && part.state === 'streaming')).toBe(false)
    }),
    { numRuns: 100 },
  )
})

test.each<[string, TurnEvent, object]>([
  ['completed', { type: 'completed', reason: 'end_turn' }, { type: 'finish', finishReason: 'stop' }],
  ['out of tokens', { type: 'completed', reason: 'max_tokens' }, { type: 'finish', finishReason: 'length' }],
  ['refused', { type: 'completed', reason: 'refusal' }, { type: 'finish', finishReason: 'content-filter' }],
  ['cancelled', { type: 'cancelled', reason: 'cancelled' }, { type: 'abort', reason: 'cancelled' }],
  ['failed', { type: 'failed', code: 'boom', message: 'It broke.' }, { type: 'error', errorText: 'It broke.' }],
])('a turn that is %s ends so, with nothing left open', (_, end, last) => {
  const chunks = chunksOf(
    numbered([
      { type: 'submitted', queued: 0 },
      { type: 'entry.set', entry: 'tool', kind: 'tool_call', name: 'Look', status: 'in_progress' },
      { type: 'entry.append', entry: 'a', text: 'x' },
      end,
    ]),
  )
  expect(chunks.at(-1)).toEqual(last)
  expect(chunks.map(({ type }) => type)).toEqual([
    'start',
    'start-step',
    'tool-input-available',
    'text-start',
    'text-delta',
    'text-end',
    end.type === 'completed' ? 'tool-output-available' : 'tool-output-error',
    'finish-step',
    (last as Chunk).type,
  ])
})
