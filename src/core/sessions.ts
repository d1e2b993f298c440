import { ThroughlineError } from '../protocol/errors.js'
import type { InteractionId, SessionId } from '../protocol/ids.js'
import type { StoredSession } from '../store/sessions.js'
import type { Session, SessionsQuery } from './core.js'
import type { Parts } from './parts.js'
import { seal } from './seal.js'

/** A session of this owner; a stranger's does not exist. Throws `not_found`. */
export async function ownedSession(
  { store }: Pick<Parts, 'store'>,
  owner: string,
  id: SessionId,
): Promise<StoredSession> {
  const session = await store.sessions.read(id)
  if (!session || session.owner !== owner) throw new ThroughlineError('not_found')
  return session
}

/** Creates a session unless it exists. Throws `model_not_found` for a pool that nobody knows. */
export async function createSession(
  parts: Parts,
  owner: string,
  given: {
    id: SessionId
    pool: string
    title: string
    metadata: Record<string, string>
    note?: string
    webhook?: string
  },
): Promise<void> {
  if (given.pool !== '') await requirePool(parts, given.pool)
  // Redis' own clock, not this replica's guess of it: the listing is in order over all replicas
  await parts.store.sessions.create({ ...given, owner, nowMs: await parts.store.replicas.now() })
}

/** Throws `model_not_found` for a pool that nobody knows. */
export async function requirePool(parts: Pick<Parts, 'store' | 'settings'>, name: string): Promise<void> {
  const pools = await knownPools(parts)
  if (!pools.some((pool) => pool.name === name)) throw new ThroughlineError('model_not_found', { param: 'pool' })
}

/** Pools that were configured, or that an agent has joined within a day. */
export async function knownPools({ store, settings }: Pick<Parts, 'store' | 'settings'>) {
  const pools = await store.pools.known()
  for (const name of settings.pools) if (!pools.some((pool) => pool.name === name)) pools.push({ name, createdAt: 0 })
  return pools.sort((a, b) => a.name.localeCompare(b.name))
}

export async function viewSession({ store }: Pick<Parts, 'store'>, stored: StoredSession): Promise<Session> {
  const [queued, holder] = await Promise.all([store.sessions.queueLength(stored.id), store.leases.holder(stored.id)])
  return {
    id: stored.id,
    pool: stored.pool,
    title: stored.title,
    thread: stored.thread || null,
    metadata: stored.metadata,
    createdAt: stored.createdAt,
    updatedAt: stored.updatedAt,
    turns: stored.turns,
    current: stored.waitingInteractionId || null,
    queued,
    agent: holder && { id: holder.agent, connected: holder.connected },
  }
}

/** Sessions looked at in one call at most, and how many of them at a time. */
const LOOK_AT = 1000
const AT_A_TIME = 100

export async function listSessions(
  parts: Parts,
  owner: string,
  { limit, before, ...filter }: SessionsQuery & { limit: number; before?: string },
): Promise<{ sessions: Session[]; next: string | null }> {
  const { store } = parts
  const filtered = Object.keys(filter).length > 0
  const atATime = filtered ? AT_A_TIME : limit
  const sessions: Session[] = []
  let from = before
  for (let looked = 0; looked < LOOK_AT; looked += atATime) {
    const rows = await store.sessions.list(owner, atATime, from)
    const found = await Promise.all(rows.map(({ id }) => store.sessions.read(id)))
    for (const [i, { id, createdAt }] of rows.entries()) {
      const stored = found[i]
      if (!stored) await store.sessions.unlist(owner, id)
      else if (!filtered || (await fits(parts, stored, filter))) sessions.push(await viewSession(parts, stored))
      from = `${createdAt}.${id}`
      if (sessions.length === limit)
        return { sessions, next: i + 1 < rows.length || rows.length === atATime ? from : null }
    }
    if (rows.length < atATime) return { sessions, next: null }
  }
  return { sessions, next: from ?? null }
}

async function fits(
  { store }: Parts,
  stored: StoredSession,
  { pool, active, metadata }: SessionsQuery,
): Promise<boolean> {
  if (pool !== undefined && stored.pool !== pool) return false
  if (metadata && stored.metadata[metadata[0]] !== metadata[1]) return false
  if (active === undefined) return true
  const busy = stored.waitingInteractionId !== '' || (await store.sessions.queueLength(stored.id)) > 0
  return busy === active
}

export async function deleteSession(parts: Parts, owner: string, id: SessionId): Promise<void> {
  await removeSession(parts, await ownedSession(parts, owner, id), (interaction) => seal(parts, interaction))
}

/** Cancels what runs or waits and forgets the session; `settle` is called for each of its turns. */
export async function removeSession(
  { store }: Pick<Parts, 'store'>,
  { id, owner, pool, agent, thread }: StoredSession,
  settle: (interaction: InteractionId) => Promise<void>,
): Promise<void> {
  await store.sessions.unlist(owner, id)
  const removed = await store.sessions.remove(id)
  await store.pools.withdraw(pool, id, agent)
  if (thread) await store.threads.clear(pool, thread, id)
  for (const interaction of removed?.interactions ?? []) await settle(interaction)
}
