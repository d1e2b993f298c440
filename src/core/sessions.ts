import { ThroughlineError } from '../protocol/errors.js'
import type { SessionId } from '../protocol/ids.js'
import type { StoredSession } from '../store/sessions.js'
import type { Session } from './core.js'
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

export async function listSessions(
  parts: Parts,
  owner: string,
  page: { limit: number; before?: string },
): Promise<{ sessions: Session[]; next: string | null }> {
  const sessions: Session[] = []
  let before = page.before
  for (;;) {
    const rows = await parts.store.sessions.list(owner, page.limit, before)
    for (const { id } of rows) {
      const stored = await parts.store.sessions.read(id)
      if (stored) sessions.push(await viewSession(parts, stored))
      else await parts.store.sessions.unlist(owner, id)
      if (sessions.length === page.limit) break
    }
    const last = rows.at(-1)
    if (!last || rows.length < page.limit) return { sessions, next: null }
    if (sessions.length === page.limit) {
      const { id, createdAt } = sessions.at(-1)!
      return { sessions, next: `${createdAt}.${id}` }
    }
    before = `${last.createdAt}.${last.id}`
  }
}

export async function deleteSession(parts: Parts, owner: string, id: SessionId): Promise<void> {
  const session = await ownedSession(parts, owner, id)
  await parts.store.sessions.unlist(owner, id)
  const removed = await parts.store.sessions.remove(id)
  await parts.store.pools.withdraw(session.pool, id, session.agent)
  if (session.thread) await parts.store.threads.clear(session.pool, session.thread)
  for (const interaction of removed?.interactions ?? []) await seal(parts, interaction)
}
