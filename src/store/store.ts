import { ApiKeys } from './api-keys.js'
import { AuditTrail } from './audit.js'
import { Bus, type BusLog } from './bus.js'
import { DeadlineIndex } from './deadlines.js'
import { keysOf, type Keys } from './keys.js'
import { Leases } from './leases.js'
import { Log } from './log.js'
import { OnceIndex } from './once.js'
import { Overheard } from './overheard.js'
import { Overview } from './overview.js'
import { Pools } from './pools.js'
import { Database, type Connection } from './redis.js'
import { Replicas } from './replicas.js'
import { Scripts } from './scripts.js'
import { Sessions } from './sessions.js'
import { Threads } from './threads.js'
import { Turns } from './turns.js'

/** Settings of what is kept, and for how long (ms). */
export interface StoreSettings {
  prefix: string
  sessionTtlMs: number
  resumeWindowMs: number
  leaseTtlMs: number
  agentGraceMs: number
  maxLogEvents: number
  maxLogBytes: number
  /** How long a call may wait for Redis before it throws `store_unavailable`. */
  redisDeadlineMs: number
  replicaTtlMs: number
  probeEveryMs: number
}

/** All that the gateway knows; every part is a view of the same Redis. */
export interface Store {
  db: Database
  keys: Keys
  sessions: Sessions
  turns: Turns
  leases: Leases
  log: Log
  pools: Pools
  deadlines: DeadlineIndex
  overview: Overview
  threads: Threads
  overheard: Overheard
  replicas: Replicas
  once: OnceIndex
  apiKeys: ApiKeys
  audit: AuditTrail
  bus: Bus
}

export function openStore(
  connections: { commands: Connection; subscriber: Connection },
  settings: StoreSettings,
  replica: string,
  log: BusLog,
): Store {
  const { commands, subscriber } = connections
  const keys = keysOf(settings.prefix)
  const db = new Database(commands, settings.redisDeadlineMs)
  const scripts = new Scripts(commands, db, keys, settings)
  const bus = new Bus(
    subscriber,
    commands,
    { channel: keys.probe(replica), everyMs: settings.probeEveryMs },
    settings.redisDeadlineMs,
    log,
  )
  return {
    db,
    keys,
    sessions: new Sessions(db, scripts, keys, settings.sessionTtlMs),
    turns: new Turns(db, scripts, keys),
    leases: new Leases(db, scripts, keys, settings.leaseTtlMs, settings.agentGraceMs),
    log: new Log(db, scripts, keys, { maxEvents: settings.maxLogEvents, maxBytes: settings.maxLogBytes }),
    pools: new Pools(db, scripts, keys, settings.sessionTtlMs, settings.leaseTtlMs * 2),
    deadlines: new DeadlineIndex(db, keys, settings.sessionTtlMs),
    overview: new Overview(db, keys),
    threads: new Threads(db, keys, settings.sessionTtlMs),
    overheard: new Overheard(db, keys, settings.sessionTtlMs),
    replicas: new Replicas(db, keys, settings.replicaTtlMs),
    once: new OnceIndex(db, keys),
    apiKeys: new ApiKeys(db, scripts, keys, bus),
    audit: new AuditTrail(db, keys),
    bus,
  }
}
