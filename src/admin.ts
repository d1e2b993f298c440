import { hostname, userInfo } from 'node:os'
import type { Config } from './config.js'
import { audited } from './core/audit.js'
import { listAgents, listAllSessions, listTurns, showAgent, showSession, showTurn } from './core/inspect.js'
import type { Page, SessionQuery, SessionRow, TurnQuery, TurnRow } from './core/inspect.js'
import { cancelTurn, deleteAnySession, drainReplica, orderAgent } from './core/operate.js'
import { SILENT } from './core/outbound.js'
import type { Parts } from './core/parts.js'
import { RedisClock } from './core/redis-clock.js'
import { Observe } from './observe/events.js'
import { createLogger } from './observe/logger.js'
import { createMetrics } from './observe/metrics.js'
import type { AuditAct, AuditEntry } from './protocol/audit.js'
import type { InteractionId, SessionId } from './protocol/ids.js'
import type { StoredAgent } from './store/pools.js'
import { connector } from './store/redis.js'
import type { StoredReplica } from './store/replicas.js'
import { requireRedis } from './store/require-redis.js'
import { openStore } from './store/store.js'

export { span } from './core/diagnose.js'
export type { Page } from './core/inspect.js'
export { RedisRequired } from './store/redis-where.js'
export type { AuditAct, AuditEntry } from './protocol/audit.js'

/** How long an operator waits for Redis, ms. */
const PATIENCE_MS = 5000

/** What an operator may do, on any machine that reaches the Redis of the replicas; they themselves may all be away. */
export interface Admin extends AsyncDisposable {
  /** As a replica's, for what is not offered here. */
  parts: Parts
  sessions: {
    list(query: SessionQuery): Promise<Page<SessionRow>>
    show(id: SessionId): Promise<object | undefined>
    delete(id: SessionId): Promise<AuditEntry>
  }
  interactions: {
    list(query: TurnQuery): Promise<Page<TurnRow>>
    show(id: InteractionId): Promise<object | undefined>
    /** `reason` is told to those who follow the turn. */
    cancel(id: InteractionId, reason: string): Promise<AuditEntry>
  }
  agents: {
    list(pool?: string): Promise<StoredAgent[]>
    show(pool: string, id: string): Promise<object | undefined>
    disconnect(pool: string, id: string): Promise<AuditEntry>
    drain(pool: string, id: string): Promise<AuditEntry>
  }
  replicas: {
    list(): Promise<StoredReplica[]>
    show(id: string): Promise<object | undefined>
    drain(id: string): Promise<AuditEntry>
  }
  /** Redis' clock, ms. */
  now(): number
  /**
   * Does an administrative act and writes it into the audit trail, whatever its outcome: `done`, `asked` or a word why
   * not. `detail` must hold no secret. Throws `store_unavailable`: then the act may have been done or not.
   */
  act(act: AuditAct, target: string, work: () => Promise<string>, detail?: string): Promise<AuditEntry>
  /** What operators did, newest first; `before` is the id of the last entry of the page before. */
  trail(limit: number, before?: string): Promise<AuditEntry[]>
}

/**
 * Opens the Redis that `config` names, as a replica does, for one operator (`by`: name for the audit trail). Throws
 * RedisRequired when it cannot be reached within 5 s or is too old.
 */
export async function openAdmin(config: Config, version: string, by = whoAmI()): Promise<Admin> {
  const log = createLogger({ level: 'silent', replica: config.replica, version })
  const open = connector(config.redis, config.replica, log)
  const commands = open('commands')
  try {
    await requireRedis(commands, config.redis, log, PATIENCE_MS)
  } catch (err) {
    commands.disconnect()
    throw err
  }
  const subscriber = open('subscriber')
  const store = openStore({ commands, subscriber }, config.store, config.replica, log)
  const clock = new RedisClock(store.replicas)
  await clock.correct()
  const parts: Parts = {
    store,
    clock,
    observe: new Observe(log, createMetrics()),
    outbound: SILENT, // ends of turns are told by the replica that seals them
    settings: { ...config.core, replica: config.replica, version },
  }
  const act: Admin['act'] = (act, target, work, detail = '') => audited(parts, { act, target, by, detail }, work)
  return {
    parts,
    act,
    now: () => clock.now(),
    sessions: {
      list: (query) => listAllSessions(parts, query),
      show: (id) => showSession(parts, id),
      delete: (id) => act('session.deleted', id, () => deleteAnySession(parts, id)),
    },
    interactions: {
      list: (query) => listTurns(parts, query),
      show: (id) => showTurn(parts, id),
      cancel: (id, reason) => act('interaction.cancelled', id, () => cancelTurn(parts, id, reason), reason),
    },
    agents: {
      list: (pool) => listAgents(parts, pool),
      show: (pool, id) => showAgent(parts, pool, id),
      disconnect: (pool, id) =>
        act('agent.disconnected', `${pool}/${id}`, () => orderAgent(parts, pool, id, 'disconnect')),
      drain: (pool, id) => act('agent.drained', `${pool}/${id}`, () => orderAgent(parts, pool, id, 'drain')),
    },
    replicas: {
      list: () => store.replicas.list(clock.now()),
      async show(id) {
        const replica = await store.replicas.read(id)
        return replica && { ...replica, connected: (await listAgents(parts)).filter((it) => it.replica === id) }
      },
      drain: (id) => act('replica.drained', id, () => drainReplica(parts, id)),
    },
    trail: (limit, before) => store.audit.list(limit, before),
    async [Symbol.asyncDispose]() {
      store.bus.close()
      subscriber.disconnect()
      commands.disconnect()
    },
  }
}

/** `user@host` as this system knows it; a container's user often has no name. */
function whoAmI(): string {
  let user = `uid-${process.getuid?.() ?? 'unknown'}`
  try {
    user = userInfo().username
  } catch {
    // it has no name
  }
  return `${user}@${hostname()}`
}
