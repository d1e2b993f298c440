import { isDeepStrictEqual } from 'node:util'
import { outputText } from '../../src/protocol/fold.js'
import { getInteraction, GatewayError, sessions, transcript } from '../../src/sdk/client.js'
import { watch, type Seen } from '../support/client.js'
import { answerTo, hasForeign, piecesOf } from './answer.js'
import type { Message, Read } from './message.js'

/** What came of the messages of an act, counted. `wrong` says of each that is not as it should be, what. */
export interface Verdict {
  messages: number
  /** Answered exactly once, with exactly the right text, in Redis and before every reader. */
  exact: number
  lost: number
  doubled: number
  failed: number
  readers: number
  exactReaders: number
  wrongReader: number
  /** Readers that were given the state in place of events. */
  snapshots: number
  slowestMs: number
  wrong: string[]
}

type Fault = 'lost' | 'doubled' | 'failed' | 'wrongReader'

/** Judges each message by what Redis keeps of it, what its agents ran and what its readers saw. */
export async function judge(url: string, messages: readonly Message[], runs: readonly string[]): Promise<Verdict> {
  const verdict: Verdict = {
    messages: messages.length,
    exact: 0,
    lost: 0,
    doubled: 0,
    failed: 0,
    readers: 0,
    exactReaders: 0,
    wrongReader: 0,
    snapshots: 0,
    slowestMs: Math.round(Math.max(0, ...messages.map(({ tookMs = 0 }) => tookMs))),
    wrong: [],
  }
  const kept = await turnsOf(url, [...new Set(messages.map(({ key }) => key))])
  await inParallel(16, messages, async (message) => {
    const faults = new Map<Fault, string[]>()
    const fault = (kind: Fault, why: string) => faults.set(kind, [...(faults.get(kind) ?? []), why])
    const ran = runs.filter((input) => input === message.input).length
    const turns = kept.get(message.input) ?? 0
    if (message.givenUp !== undefined) fault('failed', `given up: ${message.givenUp}`)
    if (turns > 1) fault('doubled', `${turns} turns`)
    if (ran > 1) fault('doubled', `run ${ran} times`)
    if (message.accepted) {
      const log = await logOf(url, message)
      if (!log) fault('lost', 'accepted, and not known any more')
      else {
        if (log.turn.status !== 'completed') fault('failed', `${log.turn.status} ${log.turn.error?.code ?? ''}`)
        else compare(message, outputText(log.turn), (kind, why) => fault(kind, `the log ${why}`))
        for (const read of message.reads) {
          let exact = true
          judgeRead(message, read, log, (kind, why) => {
            exact = false
            fault(kind, `a reader ${why}`)
          })
          verdict.readers++
          if (exact) verdict.exactReaders++
          if (read.snapshots > 0) verdict.snapshots++
        }
      }
    }
    for (const kind of faults.keys()) verdict[kind]++
    if (faults.size === 0) verdict.exact++
    for (const [kind, why] of faults)
      verdict.wrong.push(
        `${kind}: "${message.input}" ${message.accepted?.interaction ?? 'not accepted'}: ${why.join('; ')}`,
      )
  })
  return verdict
}

function judgeRead(message: Message, read: Read, log: Seen, fault: (kind: Fault, why: string) => void): void {
  for (const why of read.faults) fault('lost', why)
  if (message.givenUp !== undefined) return // it had not come to its end
  if (log.turn.status === 'completed') compare(message, read.text, fault)
  else if (read.text !== outputText(log.turn)) fault('lost', 'read another text than the log has')
  const { events, snapshots } = read
  if (!events || snapshots > 0 || isDeepStrictEqual(events, log.events)) return
  const numbers = events.map(({ n }) => n)
  fault(
    new Set(numbers).size < numbers.length ? 'doubled' : 'lost',
    `saw other events than the log has: ${numbers.join()} of ${log.events.length}`,
  )
}

/** A text that is not the right answer has pieces of others, pieces twice, or lacks some. */
function compare(message: Message, text: string, fault: (kind: Fault, why: string) => void): void {
  if (text === answerTo(message.input)) return
  const pieces = piecesOf(message.input).map((piece) => text.split(piece).length - 1)
  const missing = pieces.filter((times) => times === 0).length
  if (hasForeign(text, message.input)) fault('wrongReader', 'has words of another message')
  if (pieces.some((times) => times > 1)) fault('doubled', 'has words twice')
  if (missing > 0) fault('lost', `lacks ${missing} of ${pieces.length} pieces`)
}

/** How many turns there are of each input. */
async function turnsOf(url: string, keys: readonly string[]): Promise<Map<string, number>> {
  const count = new Map<string, number>()
  for (const key of keys) {
    const all = []
    for await (const session of sessions(url, { key })) all.push(session)
    await inParallel(16, all, async ({ id }) => {
      for await (const { input } of transcript(url, id, { key })) count.set(input, (count.get(input) ?? 0) + 1)
    })
  }
  return count
}

/** The log of a message as a reader of now has it; undefined when the gateway does not know it. */
async function logOf(url: string, { accepted, key }: Message): Promise<Seen | undefined> {
  try {
    await getInteraction(url, accepted!.interaction, { key })
    const seen = watch(url, accepted!.interaction, { key, signal: AbortSignal.timeout(20_000) })
    await seen.done
    return seen
  } catch (err) {
    if (err instanceof GatewayError && err.code === 'not_found') return undefined
    throw err
  }
}

async function inParallel<T>(width: number, items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values()
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (const item of rest) await work(item)
    }),
  )
}
