import { decode, encode, isOutput, type AgentEvent, type LogEvent } from '../protocol/events.js'
import { sessionOf, type InteractionId, type RequestId } from '../protocol/ids.js'
import type { Keys } from './keys.js'
import type { Database } from './redis.js'
import type { Scripts } from './scripts.js'

/** Events read at a time; a resume of any length costs one page of memory. */
export const PAGE = 500

export interface Batch {
  interaction: InteractionId
  request: RequestId
  epoch: number
  /** Tip of the log as the writer last saw it, 0 when it has not. */
  expectedTip: number
  /** The agent's number of the first event. */
  first: number
  events: AgentEvent[]
  /** When the replica had the first event from the agent, ms of Redis time as far as it knows. */
  heardAt: number
  /** Name for the log's next incarnation, used only when Redis turns out to have lost its tail. */
  incarnation: string
}

export type AppendAnswer =
  | { word: 'ok'; tip: number; after: number; next: InteractionId | '' }
  /** Redis has less than the writer thinks, or less than the batch needs: send again from `after + 1`. */
  | { word: 'rewound' | 'hole'; tip: number; after: number }
  | { word: 'ended'; status: string; after: number }
  | { word: 'superseded'; epoch: number }
  | { word: 'fenced'; request: string }
  | { word: 'full' | 'gone' }

/** What a batch says of permissions, as `append.lua` wants it. */
function permissionsIn({ first, events }: Batch): string {
  const said: [number, string, string[] | false][] = []
  for (const [i, event] of events.entries()) {
    if (event.type === 'permission') said.push([first + i, event.permission, event.options.map((it) => it.id)])
    if (event.type === 'permission.settled') said.push([first + i, event.permission, false])
  }
  return said.length > 0 ? JSON.stringify(said) : ''
}

/** What goes over the live channel of a session for each batch. `events` is null for a large one: read the log. */
export interface LiveBatch {
  interaction: InteractionId
  incarnation: string
  first: number
  count: number
  at: number
  /** When the agent's replica had the first of them, ms of Redis time; one of an older version does not say it. */
  heard?: number
  events: Record<string, unknown>[] | null
}

/** The append-only events of an interaction. */
export class Log {
  readonly #db: Database
  readonly #scripts: Scripts
  readonly #keys: Keys
  readonly #limits: { maxEvents: number; maxBytes: number }

  constructor(db: Database, scripts: Scripts, keys: Keys, limits: { maxEvents: number; maxBytes: number }) {
    this.#db = db
    this.#scripts = scripts
    this.#keys = keys
    this.#limits = limits
  }

  /** Writes a batch, fenced and without repeats: the same call may be made again after any failure. */
  async append(batch: Batch): Promise<AppendAnswer> {
    const last = batch.events.at(-1)
    const end = last && (last.type === 'completed' || last.type === 'failed') ? last : undefined
    const said = <T extends AgentEvent['type']>(type: T) =>
      batch.events.findLast((e): e is Extract<AgentEvent, { type: T }> => e.type === type)
    const usage = said('usage')?.usage
    const thread = said('thread')
    const [word, a, b, c] = await this.#scripts.run('append', sessionOf(batch.interaction), [
      batch.interaction,
      batch.request,
      batch.epoch,
      batch.expectedTip,
      batch.first,
      batch.incarnation,
      this.#limits.maxEvents,
      this.#limits.maxBytes,
      batch.events.some(isOutput) ? '1' : '0',
      end?.type ?? '',
      end?.type === 'failed' ? end.code : '',
      end?.type === 'failed' ? end.message : '',
      thread?.thread ?? '',
      thread ? batch.first + batch.events.indexOf(thread) : 0,
      said('title')?.title ?? '',
      usage ? JSON.stringify(usage) : '',
      end?.type === 'completed' ? end.reason : '',
      permissionsIn(batch),
      batch.heardAt,
      ...batch.events.map(encode),
    ])
    switch (word) {
      case 'ok':
        return { word, tip: Number(a), after: Number(b), next: c as InteractionId | '' }
      case 'rewound':
      case 'hole':
        return { word, tip: Number(a), after: Number(b) }
      case 'ended':
        return { word, status: String(a), after: Number(b) }
      case 'superseded':
        return { word, epoch: Number(a || 0) }
      case 'fenced':
        return { word, request: String(a) }
      default:
        return { word: word as 'full' | 'gone' }
    }
  }

  /** The last event; undefined for a log that is empty or has expired. */
  async last(id: InteractionId): Promise<LogEvent | undefined> {
    const rows = await this.#db.run((redis) => redis.xrevrange(this.#keys.log(id), '+', '-', 'COUNT', 1))
    return (rows as [string, string[]][]).map(toEvent)[0]
  }

  /** At most `limit` events after number `after`. */
  async read(id: InteractionId, after: number, limit = PAGE): Promise<LogEvent[]> {
    const rows = await this.#db.run((redis) => redis.xrange(this.#keys.log(id), `(${after}-0`, '+', 'COUNT', limit))
    return (rows as [string, string[]][]).map(toEvent)
  }
}

const toEvent = ([entryId, fields]: [string, string[]]): LogEvent =>
  decode(Number.parseInt(entryId, 10), Number(fields[3]), fields[1]!)
