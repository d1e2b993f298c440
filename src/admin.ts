import { hostname, userInfo } from 'node:os'
import type { Config } from './config.js'
import { audited } from './core/audit.js'
import { SILENT } from './core/outbound.js'
import type { Parts } from './core/parts.js'
import { RedisClock } from './core/redis-clock.js'
import { Observe } from './observe/events.js'
import { createLogger } from './observe/logger.js'
import { createMetrics } from './observe/metrics.js'
import type { AuditAct, AuditEntry } from './protocol/audit.js'
import { connector } from './store/redis.js'
import { requireRedis } from './store/require-redis.js'
import { openStore } from './store/store.js'

export { RedisRequired } from './store/redis-where.js'
export type { AuditAct, AuditEntry } from './protocol/audit.js'

/** How long an operator waits for Redis, ms. */
const PATIENCE_MS = 5000

/** What an operator may do, on any machine that reaches the Redis of the replicas; they themselves may all be away. */
export interface Admin extends AsyncDisposable {
  parts: Parts
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
  return {
    parts,
    act: (act, target, work, detail = '') => audited(parts, { act, target, by, detail }, work),
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
