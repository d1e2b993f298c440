import { outputText } from '../../../src/protocol/fold.js'
import type { Run } from './agent.js'
import { chapterOf } from './story.js'
import { REACHED_MS, type Outcome, type Told, type Turn } from './trial.js'

/** What came of a trial, counted; `wrong` has each thing that nothing excuses. */
export interface Verdict {
  turns: number
  endedOnce: number
  /** The whole answer as the agent holds it, and nothing else. */
  exact: number
  /** Ended without completing, as it must, with the beginning of what the agent holds. */
  brokenOff: number
  /** Lacks words that were on their way to a replica when it was killed; one that completed is `unconfirmed`. */
  cut: number
  /** Whole, but an entry whose first telling was lost that way stands where it was told next, after a later one. */
  reordered: number
  /** Has words of another turn that were cut off from it by a kill, and told again by the agent. */
  withLate: number
  /** Ended otherwise than it must, since the agent's end was on its way to a replica when it was killed. */
  otherEnd: number
  /** Completed as `unconfirmed`: the gateway says that words may be missing. Those of them that are exact all the same. */
  unconfirmed: number
  unconfirmedExact: string[]
  /** Failed since no connection lived long enough for its prompt to be sent again before the deadline. */
  unreached: number
  /** Turns whose prompt reached the agent again since the connection was lost before it had said a word. */
  promptsAgain: string[]
  /** Each turn that is `cut` or `withLate`, with what it has. */
  deviating: string[]
  wrong: string[]
}

/** Judges each turn. Only what was on its way when a connection broke without a close frame excuses anything. */
export function judge({ told, typed }: Pick<Outcome, 'told' | 'typed'>): Verdict {
  const verdict: Verdict = {
    turns: told.length,
    endedOnce: 0,
    exact: 0,
    brokenOff: 0,
    cut: 0,
    reordered: 0,
    withLate: 0,
    otherEnd: 0,
    unconfirmed: 0,
    unconfirmedExact: [],
    unreached: 0,
    promptsAgain: [],
    deviating: [],
    wrong: [],
  }
  for (const it of told) judgeTurn(verdict, it)
  for (const run of typed)
    if (run.inDoubt.size === 0 && !told.some(({ turn }) => turn.input === run.prompt))
      verdict.wrong.push(`typed and lost: ${run.prompt}`)
  return verdict
}

function judgeTurn(verdict: Verdict, it: Told): void {
  const { turn, runs, deliveries } = it
  const wrong = (why: string, ...more: unknown[]) =>
    verdict.wrong.push(
      `${why}: ${turn.origin} ${turn.input} ${turn.status} ${turn.error?.code ?? ''} ${JSON.stringify(more).slice(0, 1500)}`,
    )
  const chapter = chapterOf(turn.input)

  if (it.ends === 1) verdict.endedOnce++
  if (it.viewed !== undefined && it.viewed !== outputText({ entries: turn.output }))
    wrong('a viewer read something else', it.viewed)

  const bounced = deliveries.filter((delivery) => delivery.bounced).length
  const excess = deliveries.length - bounced - (chapter?.prompts ?? 1)
  // without an end that was heard, it may be that nothing was: then the prompt is sent again
  const broken = deliveries.some((delivery) => delivery.broken) || runs.some(({ inDoubt }) => inDoubt.has('end'))
  const requests = deliveries.map((delivery) => delivery.request.slice(-4))
  if (excess > 0 && !broken) wrong('prompted again', requests, runs.length)
  if (excess > 0 && broken) verdict.promptsAgain.push(turn.input)
  for (const { role, thread, expected, unfinished } of deliveries) {
    if (role) wrong('a role')
    if (thread !== expected && !doubted(it.conversation)) wrong('another thread', thread, expected)
    const others = unfinished.filter((other) => !/cancel|halting|stalls|withholds/.test(other))
    if (others.length > 0 && !doubted(it.conversation)) wrong('sent while another ran', others)
  }

  const words = turn.input || (runs[0]?.prompt ?? '')
  const own = turn.output.filter(({ text }) => words !== '' && text.includes(words))
  const late = turn.output.filter((entry) => !own.includes(entry))
  const asItMust = (chapter?.ends ?? /completed/).test(turn.status)
  if (!asItMust) {
    if (doubted(runs) || late.length > 0) verdict.otherEnd++
    else if (runs.length === 0 && it.connections.every(([from, to]) => to - from < REACHED_MS)) verdict.unreached++
    else wrong('ended otherwise', it.connections, requests, runs.map(brief), it.logged)
  }
  const whole = runs.some((run) => same(run, turn.output))
  const unconfirmed = turn.stopReason === 'unconfirmed'
  if (unconfirmed) verdict.unconfirmed++
  if (unconfirmed && whole) verdict.unconfirmedExact.push(turn.input)
  if (whole) return void verdict.exact++
  for (const entry of late) {
    const of = it.conversation.filter((run) => !runs.includes(run) && holds(run, entry))
    if (!of.some((run) => run.inDoubt.size > 0)) wrong('words of another turn', short(entry), of.map(brief))
  }
  const unsaid = turn.status === 'completed' && !unconfirmed
  const deviates = () => verdict.deviating.push(`${turn.input} ${turn.status}: ${turn.output.map(short).join(' ')}`)
  if (late.length > 0) {
    if (unsaid) wrong('words of another turn, and not said so', turn.output.map(short), it.logged)
    verdict.withLate++
    deviates()
  }
  if (runs.some((run) => same(run, own))) return void verdict.exact++
  if (runs.some((run) => run.wasInDoubt && same(run, inOrder(own)))) {
    if (unsaid) wrong('in another order, and not said so', turn.output.map(short))
    return void verdict.reordered++
  }
  if (turn.status !== 'completed' && (own.length === 0 || runs.some((run) => begins(run, own))))
    return void verdict.brokenOff++
  if (doubted(runs) && own.every((entry) => runs.some((run) => holds(run, entry)))) {
    if (late.length === 0) deviates()
    if (unsaid) wrong('lacks words, and not said so', turn.output.map(short), runs.map(brief), it.logged)
    return void verdict.cut++
  }
  if (own.length === 0 && late.length > 0 && doubted(it.conversation)) return // asked, the agent had nothing to add
  wrong('other content', turn.output.map(short), runs.map(brief))
}

const doubted = (runs: Run[]): boolean => runs.some((run) => run.inDoubt.size > 0)
const same = (run: Run, output: Turn['output']): boolean =>
  JSON.stringify(run.entries.map(({ id, content }) => [id, content])) ===
  JSON.stringify(output.map(({ id, text }) => [id, text]))
const inOrder = (output: Turn['output']): Turn['output'] => output.toSorted((a, b) => Number(a.id) - Number(b.id))
const holds = (run: Run, { id, text }: Turn['output'][number]): boolean =>
  run.entries.some((entry) => entry.id === id && (entry.content.startsWith(text) || entry.type === 'tool_call'))
/** What is there is the agent's, entry by entry, up to where it was cut off. */
const begins = (run: Run, output: Turn['output']): boolean => output.every((entry) => holds(run, entry))
const short = ({ id, text }: Turn['output'][number]): string =>
  `${id}:${text.length > 60 ? `${text.slice(0, 20)}…${text.slice(-25)}` : text}`
const brief = ({ prompt, request, entries }: Run): string[] => [
  `${prompt} ${request.slice(-4)}`,
  ...entries.map(({ id, content }) => short({ id, kind: 'text', text: content })),
]
