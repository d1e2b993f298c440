import type { InteractionId, SessionId } from '../protocol/ids.js'
import { NO_TRACE, NO_TRAIL, type TraceContext, type Trail } from '../protocol/trail.js'
import type { Keys } from './keys.js'
import { newestFirst } from './newest-first.js'
import type { Database } from './redis.js'
import type { Scripts } from './scripts.js'

/** A session as stored. Times in ms of Redis time. */
export interface StoredSession {
  id: SessionId
  owner: string
  pool: string
  title: string
  thread: string
  metadata: Record<string, string>
  /** What the door that made it keeps with it, or ''. */
  note: string
  createdAt: number
  updatedAt: number
  turns: number
  epoch: number
  /** The agent that had the session last. */
  agent: string
  /** When it was first seen that its lease had run out although nobody gave it up; 0 where that is not so. */
  missedAt: number
  waitingInteractionId: InteractionId | ''
  lastRequestId: string
  requestStartedAt: number
}

/** A turn from its beginning (`n` 0) or, when it had stepped back, from after its event `n` on. */
export interface Run {
  interaction: InteractionId
  n: number
}

export type SubmitAnswer =
  | {
      word: 'ok' | 'known'
      /** 0: its turn now; n: the n-th that waits. */
      position: number
      /** The agent that holds the lease, or ''. */
      holder: string
      /** The turn that was cancelled to make room, or ''. */
      interrupted: InteractionId | ''
      pool: string
      createdAt: number
    }
  | SubmitRefusal

/** Why a message was not stored. */
export type SubmitRefusal =
  | { word: 'gone' | 'full' }
  /** The session belongs to another pool than the message, or ('') neither names one. */
  | { word: 'other'; pool: string }
  /** The session has gone on since the turn that the message should follow. */
  | { word: 'moved' }

/** Sessions and the messages that come into them. */
export class Sessions {
  readonly #db: Database
  readonly #scripts: Scripts
  readonly #keys: Keys
  readonly #ttlMs: number

  constructor(db: Database, scripts: Scripts, keys: Keys, ttlMs: number) {
    this.#db = db
    this.#scripts = scripts
    this.#keys = keys
    this.#ttlMs = ttlMs
  }

  /** Creates the session unless it exists: a POST that is repeated with the same id changes nothing. */
  async create(session: {
    id: SessionId
    owner: string
    pool: string
    title: string
    metadata: Record<string, string>
    note?: string
    /** Where the ends of its turns are to be posted. */
    webhook?: string
    nowMs: number
  }): Promise<void> {
    const { id, owner, pool, title, metadata, note = '', webhook = '', nowMs } = session
    const key = this.#keys.session(id)
    const listing = this.#keys.ownerSessions(owner)
    const recent = this.#keys.recent(this.#keys.deadlineShard(id))
    // the listings first: a crash in between leaves lines that whoever reads them finds empty
    await this.#db.run((redis) =>
      Promise.all([
        redis.multi().zadd(listing, 'NX', nowMs, id).pexpire(listing, this.#ttlMs).exec(),
        redis
          .multi()
          .zadd(recent, 'NX', nowMs, id)
          .zremrangebyscore(recent, '-inf', nowMs - 2 * this.#ttlMs) // a turn may keep its session longer than the TTL
          .pexpire(recent, this.#ttlMs)
          .exec(),
      ]),
    )
    await this.#db.run((redis) =>
      redis
        .multi()
        .hsetnx(key, 'createdAt', nowMs)
        .hsetnx(key, 'updatedAt', nowMs)
        .hsetnx(key, 'owner', owner)
        .hsetnx(key, 'pool', pool)
        .hsetnx(key, 'title', title)
        .hsetnx(key, 'metadata', JSON.stringify(metadata))
        .hsetnx(key, 'note', note)
        .hsetnx(key, 'webhook', webhook)
        .pexpire(key, this.#ttlMs, 'NX')
        .exec(),
    )
  }

  async read(id: SessionId): Promise<StoredSession | undefined> {
    const hash = await this.#db.run((redis) => redis.hgetall(this.#keys.session(id)))
    return hash['owner'] === undefined ? undefined : toSession(id, hash)
  }

  /** Ids of an owner's sessions, newest first, after the one that `before` names as `<created, ms>.<id>`. */
  async list(owner: string, limit: number, before?: string): Promise<{ id: SessionId; createdAt: number }[]> {
    const page = await newestFirst<SessionId>(this.#db, this.#keys.ownerSessions(owner), limit, before)
    return page.map(({ id, at }) => ({ id, createdAt: at }))
  }

  /** Takes a session out of the listings: its owner's, and that of all. */
  async unlist(owner: string, id: SessionId): Promise<void> {
    const recent = this.#keys.recent(this.#keys.deadlineShard(id))
    await this.#db.run((redis) =>
      Promise.all([redis.zrem(this.#keys.ownerSessions(owner), id), redis.zrem(recent, id)]),
    )
  }

  async submit(message: {
    interaction: InteractionId
    session: SessionId
    input: string
    metadata: Record<string, string>
    /** `threaded`: not before the agent has a thread. */
    interrupt: '' | 'now' | 'threaded'
    queueLimit: number
    historyLimit: number
    /** Kept with it for the door it came through. */
    note?: string
    /** Nothing of it is kept after its end. */
    ephemeral?: boolean
    /** The pool it is meant for; a session that has none yet gets this one. */
    pool?: string
    /** The turn that it must follow directly. */
    follows?: InteractionId
    trail?: Trail
    /** Where its end is to be posted; default: as the session says. */
    webhook?: string
  }): Promise<SubmitAnswer> {
    const { requestId, traceparent, tracestate } = message.trail ?? NO_TRAIL
    const [word, position, holder, interrupted, pool, createdAt] = await this.#scripts.run('submit', message.session, [
      message.interaction,
      message.input,
      JSON.stringify(message.metadata),
      message.interrupt,
      message.queueLimit,
      message.historyLimit,
      message.note ?? '',
      message.ephemeral ? '1' : '0',
      message.pool ?? '',
      message.follows ?? '',
      message.webhook ?? '',
      requestId,
      traceparent,
      tracestate,
    ])
    if (word === 'gone' || word === 'full' || word === 'moved') return { word }
    if (word === 'other') return { word, pool: String(position) }
    return {
      word: word as 'ok' | 'known',
      position: Number(position),
      holder: String(holder),
      interrupted: interrupted as InteractionId | '',
      pool: String(pool),
      createdAt: Number(createdAt || 0),
    }
  }

  /**
   * A turn that the session's agent begins by itself. `position` 0: it runs; `yielded` is the turn that stepped back.
   */
  async begin(turn: {
    interaction: InteractionId
    session: SessionId
    input: string
    epoch: number
    historyLimit: number
    /** How the agent refers to it, or ''. */
    agentRef: string
    trace?: TraceContext
  }): Promise<
    | { word: 'ok' | 'known'; position: number; yielded: InteractionId | '' }
    | { word: 'superseded'; epoch: number }
    | { word: 'gone' }
  > {
    const { traceparent, tracestate } = turn.trace ?? NO_TRACE
    const [word, a, b] = await this.#scripts.run('begin', turn.session, [
      turn.interaction,
      turn.input,
      turn.epoch,
      turn.historyLimit,
      traceparent,
      tracestate,
      turn.agentRef,
    ])
    if (word === 'superseded') return { word, epoch: Number(a || 0) }
    if (word === 'gone') return { word }
    return { word: word as 'ok' | 'known', position: Number(a), yielded: b as InteractionId | '' }
  }

  async rename(id: SessionId, title: string): Promise<void> {
    await this.#scripts.run('rename', id, [title])
  }

  /** The interactions that wait for their turn, in order. */
  async queue(id: SessionId): Promise<InteractionId[]> {
    return (await this.#db.run((redis) => redis.lrange(this.#keys.queue(id), 0, -1))) as InteractionId[]
  }

  queueLength(id: SessionId): Promise<number> {
    return this.#db.run((redis) => redis.llen(this.#keys.queue(id)))
  }

  /** The interactions of a session in the order they were posted. */
  async interactions(id: SessionId): Promise<InteractionId[]> {
    return (await this.#db.run((redis) => redis.lrange(this.#keys.interactions(id), 0, -1))) as InteractionId[]
  }

  /**
   * What a stream of the session shows after event `n` of a turn, in the order in which turns begin; `null` asks for the
   * first. `none` there is nothing yet · `lost` the list does not have the turn (any more) · `gone` no such session.
   */
  async runAfter(session: SessionId, last: Run | null): Promise<Run | 'none' | 'lost' | 'gone'> {
    const runs = this.#keys.runs(session)
    for (;;) {
      const [exists, entered] = await this.#db.run((redis) =>
        Promise.all([
          redis.exists(this.#keys.session(session)),
          last && redis.hget(this.#keys.interaction(last.interaction), 'entered'),
        ]),
      )
      if (!exists) return 'gone'
      const entry = last && entryOf(last, entered ?? '')
      const at = entry === null ? -1 : await this.#db.run((redis) => redis.lpos(runs, entry))
      if (at === null) return 'lost'
      const found = await this.#db.run((redis) => redis.lrange(runs, Math.max(at, 0), at + 1))
      if (entry !== null && found[0] !== entry) continue // the oldest turn was dropped in between, and all places moved
      const next = found[entry === null ? 0 : 1]
      return next === undefined ? 'none' : toRun(next)
    }
  }

  /** What began last; undefined before the first turn. */
  async lastRun(session: SessionId): Promise<Run | undefined> {
    const entry = await this.#db.run((redis) => redis.lindex(this.#keys.runs(session), -1))
    return entry === null ? undefined : toRun(entry)
  }

  /** Tells whoever holds the session's agent to look. Gives how many replicas heard it: 0 when the one that did was killed. */
  async wake(id: SessionId): Promise<number> {
    return this.#db.run((redis) => redis.spublish(this.#keys.wake(id), '') as Promise<number>)
  }

  /** Replaces the metadata of a session; false when there is none. */
  async describe(id: SessionId, metadata: Record<string, string>): Promise<boolean> {
    const [word] = await this.#scripts.run('describe', id, [JSON.stringify(metadata)])
    return word === 'ok'
  }

  /** Forgets a session. Gives its agent and its interactions, or undefined when there was none. */
  async remove(id: SessionId): Promise<{ interactions: InteractionId[] } | undefined> {
    const [word, , ...interactions] = await this.#scripts.run('remove', id, [])
    return word === 'gone' ? undefined : { interactions: interactions as InteractionId[] }
  }
}

function toRun(entry: string): Run {
  const [interaction, n = '0'] = entry.split('/')
  return { interaction: interaction as InteractionId, n: Number(n) }
}

/** The entry of the turn's part to which event `n` belongs. */
function entryOf({ interaction, n }: Run, entered: string): string {
  const from = entered.split(',').findLast((tip) => Number(tip) < n) ?? '0'
  return Number(from) === 0 ? interaction : `${interaction}/${from}`
}

function toSession(id: SessionId, hash: Record<string, string>): StoredSession {
  return {
    id,
    owner: hash['owner']!,
    pool: hash['pool'] ?? '',
    title: hash['title'] ?? '',
    thread: hash['thread'] ?? '',
    metadata: JSON.parse(hash['metadata'] ?? '{}') as Record<string, string>,
    note: hash['note'] ?? '',
    createdAt: Number(hash['createdAt'] ?? 0),
    updatedAt: Number(hash['updatedAt'] ?? 0),
    turns: Number(hash['turns'] ?? 0),
    epoch: Number(hash['epoch'] ?? 0),
    agent: hash['agent'] ?? '',
    missedAt: Number(hash['missedAt'] ?? 0),
    waitingInteractionId: (hash['waitingInteractionId'] ?? '') as InteractionId | '',
    lastRequestId: hash['lastRequestId'] ?? '',
    requestStartedAt: Number(hash['requestStartedAt'] ?? 0),
  }
}
