import { asksUntil, hasOpenTool } from '../protocol/fold.js'
import { isTerminal, type Status } from '../protocol/interaction.js'
import { sessionOf, type InteractionId, type SessionId } from '../protocol/ids.js'
import { byNewest, cursorOf } from '../store/newest-first.js'
import { NAMED, type StoredAgent } from '../store/pools.js'
import type { StoredSession } from '../store/sessions.js'
import type { TurnSummary } from '../store/turns.js'
import { diagnose, isStuck, type Diagnosis } from './diagnose.js'
import type { Parts } from './parts.js'
import { policyOf } from './policy.js'
import { foldLog } from './seal.js'
import { knownPools } from './sessions.js'

/*
 * What operators see: everything over all owners, and never what was said. Lists are bounded: a page reads at most
 * LOOK_AT entries, so it may hold fewer than asked for and still have a `next`.
 */

/** Entries that one page looks at, at most, and how many at a time. */
const LOOK_AT = 10_000
const AT_A_TIME = 100

export interface Page<Row> {
  rows: Row[]
  /** Where the next page begins; null at the end. */
  next: string | null
}

export interface SessionRow extends Pick<
  StoredSession,
  'id' | 'owner' | 'pool' | 'title' | 'createdAt' | 'updatedAt' | 'turns'
> {
  /** That of its turn in flight, or `idle`. */
  status: Status | 'idle'
  current: InteractionId | null
  queued: number
  /** Who holds its lease. */
  agent: string | null
  replica: string | null
}

export interface SessionQuery {
  owner?: string
  pool?: string
  /** With a turn that runs or waits, or without. */
  active?: boolean
  limit: number
  before?: string
}

/** Sessions by their last activity; those of one owner by their age. */
export async function listAllSessions(parts: Parts, query: SessionQuery): Promise<Page<SessionRow>> {
  const { store } = parts
  const { owner, pool, active, limit } = query
  const page = (before: string | undefined) =>
    owner === undefined
      ? store.overview.sessions(AT_A_TIME, before)
      : store.sessions
          .list(owner, AT_A_TIME, before)
          .then((rows) => rows.map((it) => ({ id: it.id, at: it.createdAt })))
  const rows: SessionRow[] = []
  let before = query.before
  for (let looked = 0; looked < LOOK_AT; looked += AT_A_TIME) {
    const listed = await page(before)
    const found = await Promise.all(listed.map(({ id }) => store.sessions.read(id)))
    for (const [i, session] of found.entries()) {
      before = cursorOf(listed[i]!)
      if (!session) await store.overview.forget(listed[i]!.id)
      else if (pool === undefined || session.pool === pool) {
        const row = await sessionRow(parts, session)
        if (active === undefined || active === (row.current !== null || row.queued > 0)) rows.push(row)
      }
      const last = i + 1 === listed.length && listed.length < AT_A_TIME
      if (rows.length === limit) return { rows, next: last ? null : before }
    }
    if (listed.length < AT_A_TIME) return { rows, next: null }
  }
  return { rows, next: before ?? null }
}

async function sessionRow({ store }: Parts, session: StoredSession): Promise<SessionRow> {
  const { id, owner, pool, title, createdAt, updatedAt, turns, waitingInteractionId: current } = session
  const [lease, queued, turn] = await Promise.all([
    store.leases.read(id),
    store.sessions.queueLength(id),
    current ? store.turns.summary(current) : undefined,
  ])
  return {
    ...{ id, owner, pool, title, createdAt, updatedAt, turns, queued },
    status: turn?.status ?? 'idle',
    current: current || null,
    agent: lease?.agent ?? null,
    replica: lease?.replica ?? null,
  }
}

/** Turns listed of one session, the last ones. */
const LAST_TURNS = 20

/** A session as a whole: lease, turn in flight with where it hangs, queue, last turns. Undefined: there is none. */
export async function showSession(parts: Parts, id: SessionId) {
  const { store } = parts
  const session = await store.sessions.read(id)
  if (!session) return undefined
  const { thread, metadata, epoch, agent, lastRequestId, requestStartedAt } = session
  const [row, lease, queue, history] = await Promise.all([
    sessionRow(parts, session),
    store.leases.read(id),
    store.sessions.queue(id),
    store.sessions.interactions(id),
  ])
  const last = await Promise.all(history.slice(-LAST_TURNS).map((it) => store.turns.summary(it)))
  return {
    ...row,
    thread: thread || null,
    metadata,
    epoch,
    /** Who has its thread. */
    lastAgent: agent || null,
    lastRequest: lastRequestId || null,
    requestStartedAt: requestStartedAt || null,
    lease: lease ?? null,
    queue,
    inFlight: row.current ? ((await showTurn(parts, row.current)) ?? null) : null,
    lastTurns: last
      .filter((it) => it !== undefined)
      .map((it) => ({
        id: it.id,
        status: it.status,
        createdAt: it.createdAt,
        endedAt: it.endedAt,
        error: it.error?.code,
      })),
  }
}

export interface TurnRow extends Pick<
  TurnSummary,
  'id' | 'session' | 'owner' | 'pool' | 'status' | 'attempt' | 'createdAt' | 'startedAt' | 'lastActivityAt' | 'endedAt'
> {
  agent: string | null
  replica: string | null
  stuck: boolean
  /** Where it hangs, or how it ended. */
  why: string
}

export interface TurnQuery {
  owner?: string
  pool?: string
  /** Default: all that are in flight, that is not ended, or ended and not sealed. */
  status?: Status
  /** Only those past their deadline. */
  stuck?: boolean
  limit: number
  before?: string
}

/** Turns in flight, the newest first; or, with the status of an end, those that ended last. */
export function listTurns(parts: Parts, query: TurnQuery): Promise<Page<TurnRow>> {
  return query.status && isTerminal(query.status) && !query.stuck ? ended(parts, query) : inFlight(parts, query)
}

const fits = (turn: TurnSummary, { owner, pool, status }: TurnQuery): boolean =>
  (owner === undefined || turn.owner === owner) &&
  (pool === undefined || turn.pool === pool) &&
  (status === undefined || turn.status === status)

async function inFlight(parts: Parts, query: TurnQuery): Promise<Page<TurnRow>> {
  const { store, settings, clock } = parts
  const { turns } = await store.overview.inFlight()
  const rows: { id: InteractionId; at: number; turn: TurnSummary }[] = []
  for (let from = 0; from < turns.length; from += AT_A_TIME) {
    const some = turns.slice(from, from + AT_A_TIME)
    const found = await Promise.all(some.map(({ id }) => store.turns.summary(id)))
    for (const [i, turn] of found.entries()) {
      if (!turn || turn.sealed || !fits(turn, query)) continue
      const policy = policyOf(settings, turn.pool)
      const now = clock.now()
      if (query.stuck && !isStuck(turn, some[i]!.lookAt, { now, policy, sweepEveryMs: settings.sweepEveryMs })) continue
      rows.push({ id: turn.id, at: turn.createdAt, turn })
    }
  }
  rows.sort(byNewest)
  const [score = '', id = ''] = query.before?.split('.') ?? []
  const after = query.before === undefined ? rows : rows.filter((it) => byNewest(it, { id, at: Number(score) }) > 0)
  const page = after.slice(0, query.limit)
  return {
    rows: await Promise.all(page.map(({ turn }) => turnRow(parts, turn))),
    next: after.length > page.length ? cursorOf(page.at(-1)!) : null,
  }
}

async function ended(parts: Parts, query: TurnQuery): Promise<Page<TurnRow>> {
  const { store } = parts
  const rows: TurnRow[] = []
  let before = query.before
  for (let looked = 0; looked < LOOK_AT; looked += AT_A_TIME) {
    const listed = await store.overview.ended(AT_A_TIME, before)
    const found = await Promise.all(listed.map(({ id }) => store.turns.summary(id)))
    for (const [i, turn] of found.entries()) {
      before = cursorOf(listed[i]!)
      if (!turn) await store.overview.forget(listed[i]!.id)
      else if (fits(turn, query)) rows.push(await turnRow(parts, turn))
      const last = i + 1 === listed.length && listed.length < AT_A_TIME
      if (rows.length === query.limit) return { rows, next: last ? null : before }
    }
    if (listed.length < AT_A_TIME) return { rows, next: null }
  }
  return { rows, next: before ?? null }
}

async function turnRow(parts: Parts, turn: TurnSummary): Promise<TurnRow> {
  const { id, session, owner, pool, status, attempt, createdAt, startedAt, lastActivityAt, endedAt } = turn
  const { lease, diagnosis } = await examine(parts, turn)
  return {
    ...{ id, session, owner, pool, status, attempt, createdAt, startedAt, lastActivityAt, endedAt },
    agent: lease?.agent ?? null,
    replica: lease?.replica ?? null,
    stuck: diagnosis.stuck,
    why: diagnosis.why,
  }
}

/** One turn: times, lease, place in the line, deadline, last event, and where it hangs. Undefined: there is none. */
export async function showTurn(parts: Parts, id: InteractionId) {
  const turn = await parts.store.turns.summary(id)
  if (!turn) return undefined
  const { lease, last, lookAt, place, agents, free, diagnosis } = await examine(parts, turn)
  return {
    ...turn,
    request: turn.request || null,
    /** Whoever has the session, which another turn of it may have in hand. */
    lease: lease ?? null,
    lastEvent: last ? { n: last.n, at: last.at, type: last.type } : null,
    place: place ?? null,
    poolAgents: agents,
    poolFree: free,
    /** When the sweep looks at it next. */
    lookAt: lookAt ?? null,
    ...diagnosis,
  }
}

async function examine(parts: Parts, turn: TurnSummary) {
  const { store, settings, clock } = parts
  const session = sessionOf(turn.id)
  const over = isTerminal(turn.status)
  const [stored, lease, lookAt, last, queue] = await Promise.all([
    store.sessions.read(session),
    over ? undefined : store.leases.read(session),
    store.overview.lookAt(turn.id),
    store.log.last(turn.id),
    over ? ([] as InteractionId[]) : store.sessions.queue(session),
  ])
  const waits = turn.status === 'waiting' && !lease
  const [replica, place, agents] = await Promise.all([
    lease ? store.replicas.read(lease.replica) : undefined,
    waits ? store.pools.place(turn.pool, session, stored?.agent ?? '') : undefined,
    waits ? store.pools.agents(turn.pool, clock.now()) : [],
  ])
  const policy = policyOf(settings, turn.pool)
  const free = agents.reduce((sum, it) => sum + Math.max(it.capacity - it.busy, 0), 0)
  const diagnosis: Diagnosis = diagnose({
    ...{ now: clock.now(), turn, lease, place, lookAt, last, policy, free },
    current: stored?.waitingInteractionId ?? '',
    queued: queue.length,
    queuePlace: queue.indexOf(turn.id) + 1,
    replicaLives: replica !== undefined,
    missed: stored?.missedAt ? { agent: stored.agent, until: stored.missedAt + settings.agentGraceMs } : undefined,
    agents: agents.length,
    excuse: await excuseOf(parts, turn, policy.toolLimitMs, policy.agentSilentMs),
    sweepEveryMs: settings.sweepEveryMs,
  })
  return { lease, last, lookAt, place, agents: agents.length, free, diagnosis }
}

/** What excuses the silence of an agent; looked for only where there is a silence. */
async function excuseOf({ store, clock }: Parts, turn: TurnSummary, toolLimitMs: number, silentMs: number) {
  if (isTerminal(turn.status) || clock.now() - turn.lastActivityAt < silentMs / 4) return undefined
  const folded = await foldLog(store.log, turn.id)
  if (asksUntil(folded, toolLimitMs) > clock.now()) return 'permission'
  return hasOpenTool(folded) && clock.now() - turn.lastActivityAt < toolLimitMs ? 'tool' : undefined
}

/** Agents that are connected, by pool and name; those that serve named sessions only under the pool `-`. */
export async function listAgents(parts: Parts, pool?: string): Promise<StoredAgent[]> {
  const pools = pool === undefined ? [...(await knownPools(parts)).map(({ name }) => name), NAMED] : [pool]
  const found = await Promise.all(pools.map((name) => parts.store.pools.agents(name, parts.clock.now())))
  return found.flat().sort((a, b) => a.pool.localeCompare(b.pool) || a.id.localeCompare(b.id))
}

/** An agent, and the sessions that it has had. Undefined: it is not connected. */
export async function showAgent({ store }: Parts, pool: string, id: string) {
  const agent = await store.pools.agent(pool, id)
  if (!agent) return undefined
  const [replica, sessions] = await Promise.all([
    store.replicas.read(agent.replica),
    store.pools.sessionsOf(pool === NAMED ? '' : pool, id),
  ])
  const has = await Promise.all(
    sessions.slice(0, AT_A_TIME).map(async (session) => {
      const [lease, stored] = await Promise.all([store.leases.read(session), store.sessions.read(session)])
      return lease?.agent === id ? { session, inFlight: stored?.waitingInteractionId || null } : undefined
    }),
  )
  return { ...agent, replicaLives: replica !== undefined, sessions: has.filter((it) => it !== undefined) }
}
