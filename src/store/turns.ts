import type { Usage, StopReason } from '../protocol/events.js'
import type { Entry } from '../protocol/fold.js'
import { sessionOf, type InteractionId, type RequestId, type SessionId } from '../protocol/ids.js'
import type { Status } from '../protocol/interaction.js'
import type { Trail } from '../protocol/trail.js'
import type { Keys } from './keys.js'
import type { Database } from './redis.js'
import type { Scripts } from './scripts.js'

/** An interaction as stored. Times in ms of Redis time, 0 where it has not happened. */
export interface StoredInteraction {
  id: InteractionId
  session: SessionId
  owner: string
  pool: string
  status: Status
  /** Who began it: a client's message, or a person at the agent. */
  origin: 'client' | 'agent'
  input: string
  metadata: Record<string, string>
  /** Of a turn that the agent began: how the agent refers to it, or ''. */
  agentRef: string
  request: RequestId | ''
  /** The delivery under which its agent has it though it stepped back, the last one; '' when it never did. */
  yielded: RequestId | ''
  attempt: number
  createdAt: number
  startedAt: number
  firstOutputAt: number
  endedAt: number
  lastActivityAt: number
  tip: number
  incarnation: string
  usage: Usage | null
  stopReason: StopReason | null
  error: { code: string; message: string } | null
  /** The final answer, once it is sealed. */
  output: Entry[] | null
  /** Whether its end, and its output where one is kept, is all there will be. */
  sealed: boolean
  /** When it was taken out of its session, 0 while it is there. Its log lives for a minute from then. */
  forgottenAt: number
  /** Whether nothing of it is kept after its end. */
  ephemeral: boolean
  /** Where its end is to be posted, or ''. */
  webhook: string
  trail: Trail
}

/** An interaction without what was said in it. `sealed`: its result is kept and nothing is left to do. */
export type TurnSummary = Omit<StoredInteraction, 'input' | 'output' | 'metadata' | 'agentRef' | 'yielded'> & {
  dispatchedAt: number
  sealed: boolean
}

const SUMMARY = [
  ...['status', 'owner', 'pool', 'origin', 'request', 'attempt', 'tip', 'incarnation', 'usage', 'stopReason'],
  ...[
    'createdAt',
    'startedAt',
    'firstOutputAt',
    'endedAt',
    'lastActivityAt',
    'dispatchedAt',
    'sealedAt',
    'forgottenAt',
  ],
  ...['errorCode', 'errorMessage', 'ephemeral', 'webhook', 'requestId', 'traceparent', 'tracestate'],
]

export type DispatchAnswer =
  | {
      word: 'turn'
      interaction: InteractionId
      request: RequestId
      attempt: number
      thread: string | null
      input: string
      metadata: Record<string, string>
      pool: string
      tip: number
      /** `agent`: it has it already, this is only its number. */
      origin: 'client' | 'agent'
      createdAt: number
      trail: Trail
    }
  | {
      word: 'held'
      interaction: InteractionId
      request: RequestId
      after: number
      /** It is past its deadline; where the agent can be asked whether it is still at it, do so. */
      asked: boolean
      /** What clients have answered and the agent has not settled. */
      answers: { permission: string; option: string }[]
    }
  | { word: 'ended'; interaction: InteractionId; code: string }
  | { word: 'superseded'; epoch: number }
  | { word: 'idle' | 'gone' | 'others' }

/** What becomes of a client's answer: see `lua/answer.lua`. */
export type PermissionAnswer =
  { word: 'ok' | 'unknown' | 'option' | 'ended' | 'gone' } | { word: 'answered'; option: string }

export type OnAgentLoss = 'fail' | 'retry'

/** Limits that `expire` judges by, in ms; `away…` describe the last time nobody could act (see core/sweep.ts). */
export interface Deadlines {
  agentWaitMs: number
  staleAfterMs: number
  agentSilentMs: number
  maxAttempts: number
  onAgentLoss: OnAgentLoss
  awayUntil: number
  awayForMs: number
  leasesCountFrom: number
  agentGraceMs: number
}

export type Verdict =
  | { word: 'gone' | 'sealed' | 'unsealed' }
  | { word: 'later' | 'wake' | 'asked'; lookAt: number }
  | { word: 'pend'; pool: string; sticky: string; lookAt: number }
  | { word: 'reset'; pool: string; lookAt: number }
  | { word: 'silent'; tip: number }
  | { word: 'failed'; code: string; next: InteractionId | '' }

/** The life of one interaction. */
export class Turns {
  readonly #db: Database
  readonly #scripts: Scripts
  readonly #keys: Keys

  constructor(db: Database, scripts: Scripts, keys: Keys) {
    this.#db = db
    this.#scripts = scripts
    this.#keys = keys
  }

  async read(id: InteractionId): Promise<StoredInteraction | undefined> {
    const hash = await this.#db.run((redis) => redis.hgetall(this.#keys.interaction(id)))
    return hash['status'] === undefined ? undefined : toInteraction(id, hash)
  }

  /** Little to read, however much was said. */
  async summary(id: InteractionId): Promise<TurnSummary | undefined> {
    const values = await this.#db.run((redis) => redis.hmget(this.#keys.interaction(id), ...SUMMARY))
    const hash: Record<string, string> = {}
    for (const [i, field] of SUMMARY.entries()) if (values[i] != null) hash[field] = values[i]
    if (hash['status'] === undefined) return undefined
    const { input: _, output: __, metadata: ___, agentRef: ____, ...rest } = toInteraction(id, hash)
    return { ...rest, dispatchedAt: Number(hash['dispatchedAt'] ?? 0), sealed: hash['sealedAt'] !== undefined }
  }

  /** Several interactions of one session; those that expired are left out. */
  async readMany(ids: InteractionId[]): Promise<StoredInteraction[]> {
    return (await Promise.all(ids.map((id) => this.read(id)))).filter((i) => i !== undefined)
  }

  /** The statuses of several interactions of one session, in their order; undefined for those that expired. */
  async statuses(ids: InteractionId[]): Promise<(Status | undefined)[]> {
    const found = await Promise.all(
      ids.map((id) => this.#db.run((redis) => redis.hget(this.#keys.interaction(id), 'status'))),
    )
    return found.map((status) => (status ?? undefined) as Status | undefined)
  }

  /** What the door that it came through keeps with it, or ''. */
  async note(id: InteractionId): Promise<string> {
    return (await this.#db.run((redis) => redis.hget(this.#keys.interaction(id), 'note'))) ?? ''
  }

  async trail(id: InteractionId): Promise<Trail> {
    const [requestId, traceparent, tracestate] = await this.#db.run((redis) =>
      redis.hmget(this.#keys.interaction(id), 'requestId', 'traceparent', 'tracestate'),
    )
    return { requestId: requestId ?? '', traceparent: traceparent ?? '', tracestate: tracestate ?? '' }
  }

  /** The little a follower needs. */
  async head(
    id: InteractionId,
  ): Promise<{ status: Status; tip: number; incarnation: string; sealed: boolean } | undefined> {
    const [status, tip, incarnation, sealedAt] = await this.#db.run((redis) =>
      redis.hmget(this.#keys.interaction(id), 'status', 'tip', 'incarnation', 'sealedAt'),
    )
    if (!status) return undefined
    const sealed = typeof sealedAt === 'string'
    return { status: status as Status, tip: Number(tip ?? 0), incarnation: incarnation ?? '', sealed }
  }

  /** The pool of an interaction, '' when there is no such interaction. */
  async poolOf(id: InteractionId): Promise<string> {
    return (await this.#db.run((redis) => redis.hget(this.#keys.interaction(id), 'pool'))) ?? ''
  }

  async dispatch(
    session: SessionId,
    args: {
      epoch: number
      /** The request that the agent has in hand. */
      holding: RequestId | ''
      /**
       * The last request that this holder of the lease was given by `dispatch`, '' before the first. With it a call may
       * be repeated when its answer was lost: it gives the same request again and uses up no attempt.
       */
      heard?: RequestId | ''
      maxAttempts: number
      onAgentLoss: OnAgentLoss
      agent: string
      /** Which run of the agent this is, '' when it does not say. */
      run?: string
      /** It takes no new turn of a client. */
      leaving?: boolean
    },
  ): Promise<DispatchAnswer> {
    const [word, ...rest] = await this.#scripts.run('dispatch', session, [
      args.epoch,
      args.holding,
      args.maxAttempts,
      args.onAgentLoss,
      args.agent,
      args.heard ?? '*',
      args.run ?? '',
      args.leaving ? '1' : '',
    ])
    const text = rest.map(String)
    switch (word) {
      case 'turn':
        return {
          word,
          interaction: text[0] as InteractionId,
          request: text[1] as RequestId,
          attempt: Number(text[2]),
          thread: text[3] || null,
          input: text[4]!,
          metadata: JSON.parse(text[5] || '{}') as Record<string, string>,
          pool: text[6]!,
          tip: Number(text[7]),
          origin: text[8] as 'client' | 'agent',
          createdAt: Number(text[9] || 0),
          trail: { requestId: text[10]!, traceparent: text[11]!, tracestate: text[12]! },
        }
      case 'held':
        return {
          word,
          interaction: text[0] as InteractionId,
          request: text[1] as RequestId,
          after: Number(text[2]),
          asked: text[3] === '1',
          answers: pairs(text.slice(4)),
        }
      case 'ended':
        return { word, interaction: text[0] as InteractionId, code: text[1]! }
      case 'superseded':
        return { word, epoch: Number(text[0] || 0) }
      default:
        return { word: word as 'idle' | 'gone' | 'others' }
    }
  }

  async cancel(id: InteractionId, reason: string): Promise<'cancelled' | 'ended' | 'gone'> {
    const [word] = await this.#scripts.run('cancel', sessionOf(id), [id, reason])
    return word as 'cancelled' | 'ended' | 'gone'
  }

  /** A client's answer to a permission; the first one counts, and may be given again. */
  async answer(id: InteractionId, permission: string, option: string): Promise<PermissionAnswer> {
    const [word, detail] = await this.#scripts.run('answer', sessionOf(id), [id, permission, option])
    if (word === 'answered') return { word, option: String(detail) }
    return { word: word as Exclude<PermissionAnswer['word'], 'answered'> }
  }

  async forgetThread(
    id: InteractionId,
    request: RequestId,
    epoch: number,
  ): Promise<{ word: 'again' | 'fail'; thread: string } | { word: 'stale' }> {
    const [word, thread] = await this.#scripts.run('forget_thread', sessionOf(id), [id, request, epoch])
    return word === 'stale' ? { word } : { word: word as 'again' | 'fail', thread: String(thread) }
  }

  /** The verdict on one interaction. `silentAt` confirms, for that tip, that no tool excuses the agent's silence. */
  async expire(id: InteractionId, deadlines: Deadlines, silentAt?: number): Promise<Verdict> {
    const [word, a, b, c] = await this.#scripts.run('expire', sessionOf(id), [
      id,
      deadlines.agentWaitMs,
      deadlines.staleAfterMs,
      deadlines.agentSilentMs,
      deadlines.maxAttempts,
      deadlines.onAgentLoss,
      deadlines.awayUntil,
      deadlines.awayForMs,
      deadlines.leasesCountFrom,
      silentAt ?? '',
      deadlines.agentGraceMs,
    ])
    switch (word) {
      case 'later':
      case 'wake':
      case 'asked':
        return { word, lookAt: Number(a) }
      case 'pend':
        return { word, pool: String(a), sticky: String(b), lookAt: Number(c) }
      case 'reset':
        return { word, pool: String(a), lookAt: Number(b) }
      case 'silent':
        return { word, tip: Number(a) }
      case 'failed':
        return { word, code: String(a), next: b as InteractionId | '' }
      default:
        return { word: word as 'gone' | 'sealed' | 'unsealed' }
    }
  }

  /** Takes it out of its session, cancelled first where it runs or waits. Gives the status before. */
  async forget(id: InteractionId): Promise<Status | 'gone'> {
    const [word, before] = await this.#scripts.run('forget', sessionOf(id), [id])
    return word === 'gone' ? word : (before as Status)
  }

  /** Tells a turn that waits for an agent its place in the line (1: next), if that has changed. */
  async pending(id: InteractionId, position: number): Promise<'ok' | 'same' | 'taken'> {
    const [word] = await this.#scripts.run('pending', sessionOf(id), [id, position])
    return word as 'ok' | 'same' | 'taken'
  }

  async seal(id: InteractionId, output: Entry[]): Promise<'ok' | 'sealed' | 'gone' | 'running'> {
    const [word] = await this.#scripts.run('seal', sessionOf(id), [id, JSON.stringify(output)])
    return word as 'ok' | 'sealed' | 'gone' | 'running'
  }
}

function pairs(flat: string[]): { permission: string; option: string }[] {
  const answers = []
  for (let i = 0; i + 1 < flat.length; i += 2) answers.push({ permission: flat[i]!, option: flat[i + 1]! })
  return answers
}

const parsed = <T>(text: string | undefined): T | null => (text ? (JSON.parse(text) as T) : null)

function toInteraction(id: InteractionId, hash: Record<string, string>): StoredInteraction {
  return {
    id,
    session: sessionOf(id),
    owner: hash['owner'] ?? '',
    pool: hash['pool'] ?? '',
    status: hash['status'] as Status,
    origin: hash['origin'] ? 'agent' : 'client',
    input: hash['input'] ?? '',
    metadata: parsed<Record<string, string>>(hash['metadata']) ?? {},
    agentRef: hash['agentRef'] ?? '',
    request: (hash['request'] ?? '') as RequestId | '',
    yielded: (hash['yielded'] ?? '') as RequestId | '',
    attempt: Number(hash['attempt'] ?? 0),
    createdAt: Number(hash['createdAt'] ?? 0),
    startedAt: Number(hash['startedAt'] ?? 0),
    firstOutputAt: Number(hash['firstOutputAt'] ?? 0),
    endedAt: Number(hash['endedAt'] ?? 0),
    lastActivityAt: Number(hash['lastActivityAt'] ?? 0),
    tip: Number(hash['tip'] ?? 0),
    incarnation: hash['incarnation'] ?? '',
    usage: parsed<Usage>(hash['usage']),
    stopReason: (hash['stopReason'] as StopReason | undefined) ?? null,
    error: hash['errorCode'] ? { code: hash['errorCode'], message: hash['errorMessage'] ?? '' } : null,
    output: parsed<Entry[]>(hash['output']),
    sealed: hash['sealedAt'] !== undefined,
    forgottenAt: Number(hash['forgottenAt'] ?? 0),
    ephemeral: hash['ephemeral'] === '1',
    webhook: hash['webhook'] ?? '',
    trail: {
      requestId: hash['requestId'] ?? '',
      traceparent: hash['traceparent'] ?? '',
      tracestate: hash['tracestate'] ?? '',
    },
  }
}
