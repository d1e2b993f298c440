import { setTimeout as sleep } from 'node:timers/promises'
import type { LogEvent } from '../../src/protocol/events.js'
import { emptyTurn, fold, outputText } from '../../src/protocol/fold.js'
import { post, type Posted } from '../support/client.js'
import { startNetwork, type Network, type Replica } from '../support/network.js'
import { answerTo, startWorker, type Worker } from './worker.js'

export interface PoolTrial {
  sessions: number
  /** Turns of each session, one after the other. */
  turns: number
  workers: number
  replicas: number
  /** Each replica a process of its own. */
  processes?: boolean
  /** What happens to workers, and to replicas, at random, so often each. */
  acts?: Partial<Record<Act, number>>
  env?: Record<string, string>
  limitMs: number
}

/** `join`: one more worker; `leave`: one says goodbye; `kill`: one is gone; `cut`: one loses its network; `drain`: a replica rolls. */
export type Act = 'join' | 'leave' | 'kill' | 'cut' | 'drain'

export interface PoolResult {
  turns: number
  /** With exactly one end in the log. */
  endedOnce: number
  /** Completed with exactly the right text. */
  answered: number
  places: number
  /** Workers that ever had more in hand than they said they could take. */
  overCapacity: string[]
  /** Workers that had all their places taken at some time. */
  filled: number
  /** The most turns that began to wait later and yet were taken before one that waited, over all turns. */
  overtaken: number
  /** Later turns of a session that went to the worker which has its thread, and the others. */
  stayed: number
  moved: number
  attempts: number
  longestWaitMs: number
  acts: Record<string, number>
}

/** Posts at a time, over all replicas. */
const POSTING = 32

/**
 * Many sessions onto few workers, over several replicas, perhaps with trouble; counts from what the workers saw and from
 * what stands in the logs.
 */
export async function runPoolTrial(options: PoolTrial): Promise<PoolResult> {
  const { sessions, turns, replicas, processes = false } = options
  await using net = await startNetwork({
    replicas,
    processes,
    env: { AGENT_WAIT_MS: '600000', STALE_AFTER_MS: '600000', LOG_LEVEL: 'warn', ...options.env },
  })
  const urls = net.replicas.map(({ url }) => url)
  const all: Worker[] = []
  const here = new Set<Worker>()
  let joined = 0
  async function join(): Promise<void> {
    const n = joined++
    const worker = await startWorker(`worker-${n}`, urls, 1 + (n % 3), () => 5 + Math.random() * 25)
    all.push(worker)
    here.add(worker)
  }
  net.onDispose(() => Promise.all([...here].map((worker) => worker.kill())))
  await Promise.all(Array.from({ length: options.workers }, join))
  const places = all.reduce((sum, { capacity }) => sum + capacity, 0)

  const total = sessions * turns
  const posted: (Posted & { input: string })[] = []
  const deadline = Date.now() + options.limitMs
  const plan = shuffled(Object.entries(options.acts ?? {}).flatMap(([act, n]) => Array<Act>(n).fill(act as Act)))
  const done: Record<string, number> = {}
  const begun = () => all.reduce((sum, worker) => sum + worker.turns.length, 0)

  async function trouble(): Promise<void> {
    for (let i = 0; i < plan.length && Date.now() < deadline; i++) {
      while (begun() < (total * (i + 1)) / (plan.length + 2) && Date.now() < deadline) await sleep(5)
      await perform(plan[i]!)
      done[plan[i]!] = (done[plan[i]!] ?? 0) + 1
    }
  }

  async function perform(act: Act): Promise<void> {
    const one = shuffled([...here])[0]!
    if (act === 'join') return join()
    if (act === 'cut') return one.cut()
    if (act === 'drain') return roll(shuffled(net.replicas)[0]!)
    here.delete(one)
    await join() // there are always some
    if (act === 'kill') await one.kill()
    else leaving.push(one.leave())
  }
  const leaving: Promise<void>[] = []

  async function roll(replica: Replica): Promise<void> {
    await replica.drain()
    await replica.restart()
  }

  async function conversation(i: number): Promise<void> {
    let to: Parameters<typeof post>[1] = { pool: 'coder' }
    for (let n = 0; n < turns; n++) {
      const input = `${i}.${n}`
      const headers = { 'idempotency-key': `trial-${input}` }
      const sent = await persist(
        () => post(urls[Math.floor(Math.random() * urls.length)]!, to, input, {}, headers),
        deadline,
      )
      posted.push({ ...sent, input })
      to = { session: sent.session }
    }
  }
  const upset = trouble()
  const rest = Array.from({ length: sessions }, (_, i) => i)
  await Promise.all(
    Array.from({ length: POSTING }, async () => {
      for (let i = rest.shift(); i !== undefined; i = rest.shift()) await conversation(i)
    }),
  )
  const logs = await Promise.all(posted.map((turn) => ended(net, turn, deadline)))
  await upset
  await Promise.all(leaving)
  return { ...count(posted, logs, all), places, acts: done }
}

/** The log of a turn once it has ended, or as it is at the deadline. */
async function ended(net: Network, { session, interaction }: Posted, deadline: number): Promise<LogEvent[]> {
  for (;;) {
    const rows = await net.redis.xrange(`${net.prefix}{${session}}:log:${interaction}`, '-', '+')
    const events = rows.map(([id, [, event, , at]]) => {
      return { ...(JSON.parse(event!) as LogEvent), n: Number(id.split('-')[0]), at: Number(at) }
    })
    if (events.some(isEnd) || Date.now() > deadline) return events
    await sleep(100)
  }
}

const isEnd = ({ type }: LogEvent) => type === 'completed' || type === 'failed' || type === 'cancelled'

function count(posted: (Posted & { input: string })[], logs: LogEvent[][], workers: Worker[]) {
  const waits = logs.flatMap((log) => {
    const since = log.findLast((event) => event.type === 'started' || event.type === 'submitted')
    const taken = log.find((event) => event.type === 'dispatched')
    return since && taken ? [{ since: since.at, taken: taken.at }] : []
  })
  const threads = workers.flatMap(({ id, turns }) => turns.map(({ thread }) => thread && thread.endsWith(` at ${id}`)))
  return {
    turns: posted.length,
    endedOnce: logs.filter((log) => log.filter(isEnd).length === 1).length,
    answered: logs.filter((log, i) => {
      const turn = log.reduce(fold, emptyTurn())
      return turn.status === 'completed' && outputText(turn) === answerTo(posted[i]!.input)
    }).length,
    overCapacity: workers.filter(({ most, capacity }) => most > capacity).map(({ id }) => id),
    filled: workers.filter(({ most, capacity }) => most === capacity).length,
    overtaken: mostOvertaken(waits),
    stayed: threads.filter((own) => own === true).length,
    moved: threads.filter((own) => own === false).length,
    attempts: workers.reduce((sum, { turns }) => sum + turns.length, 0),
    longestWaitMs: Math.max(...waits.map(({ since, taken }) => taken - since)),
  }
}

/** Over all turns the most others that began to wait later (in ms of Redis) and were taken earlier. */
export function mostOvertaken(waits: { since: number; taken: number }[]): number {
  return Math.max(
    0,
    ...waits.map((one) => waits.filter((other) => other.since > one.since && other.taken < one.taken).length),
  )
}

/** Posts again, by its Idempotency-Key, while replicas come and go. */
async function persist<T>(work: () => Promise<T>, deadline: number): Promise<T> {
  for (;;) {
    try {
      return await work()
    } catch (err) {
      if (Date.now() > deadline) throw err
      await sleep(50)
    }
  }
}

function shuffled<T>(items: T[]): T[] {
  return items
    .map((item) => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item)
}
