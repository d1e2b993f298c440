import type { AuditAct, AuditEntry } from '../protocol/audit.js'
import type { Keys } from './keys.js'
import type { Connection, Database } from './redis.js'

/** Entries kept, about, and how long after the last one, ms. */
const MOST = 10_000
const TTL_MS = 90 * 24 * 3600_000
/** Entries told at a time. */
const AT_A_TIME = 100
/** A replica that has not told an entry by then has died over it; another one tells it, ms. */
const UNTOLD_MS = 60_000
/** All replicas are one reader of the stream: each entry goes to one of them. */
const GROUP = 'log'

type Row = [id: string, fields: string[]]

/** What operators did. A capped stream, the newest 10,000 acts. */
export class AuditTrail {
  readonly #db: Database
  readonly #keys: Keys

  constructor(db: Database, keys: Keys) {
    this.#db = db
    this.#keys = keys
  }

  /** Writes an entry and nudges the replicas, one of which will log it. */
  async add(entry: Omit<AuditEntry, 'id' | 'at'>): Promise<AuditEntry> {
    const key = this.#keys.audit
    const fields = Object.entries(entry).flat()
    const replies = await this.#db.run((redis) =>
      redis
        .multi()
        .xadd(key, 'MAXLEN', '~', MOST, '*', ...fields)
        .xgroup('CREATE', key, GROUP, '0') // refused, rightly, after the first time
        .pexpire(key, TTL_MS)
        .spublish(this.#keys.auditWake, '')
        .exec(),
    )
    const [err, id] = replies![0]!
    if (err) throw err
    return toEntry([String(id), fields])
  }

  /** Newest first; `before` is the id of the last entry of the page before. */
  async list(limit: number, before?: string): Promise<AuditEntry[]> {
    const rows = await this.#db.run((redis) =>
      redis.xrevrange(this.#keys.audit, before === undefined ? '+' : `(${before}`, '-', 'COUNT', limit),
    )
    return (rows as Row[]).map(toEntry)
  }

  /** Entries that no replica has told yet. Whoever gets them here tells them, then says so with `told`. */
  async untold(): Promise<AuditEntry[]> {
    const key = this.#keys.audit
    return this.#db.run(async (redis) => {
      if (!(await redis.exists(key))) return []
      const abandoned = (await redis.xautoclaim(key, GROUP, GROUP, UNTOLD_MS, '0', 'COUNT', AT_A_TIME)) as [
        string,
        Row[],
      ]
      return [...abandoned[1], ...(await fresh(redis, key))].map(toEntry)
    })
  }

  async told(entries: AuditEntry[]): Promise<void> {
    await this.#db.run((redis) => redis.xack(this.#keys.audit, GROUP, ...entries.map(({ id }) => id)))
  }
}

async function fresh(redis: Connection, key: string): Promise<Row[]> {
  const read = await redis.xreadgroup('GROUP', GROUP, GROUP, 'COUNT', AT_A_TIME, 'STREAMS', key, '>')
  return (read as [string, Row[]][] | null)?.[0]?.[1] ?? []
}

function toEntry([id, flat]: Row): AuditEntry {
  const fields: Record<string, string> = {}
  for (let i = 0; i + 1 < flat.length; i += 2) fields[flat[i]!] = flat[i + 1]!
  return {
    id,
    at: Number.parseInt(id, 10),
    act: fields['act'] as AuditAct,
    target: fields['target'] ?? '',
    by: fields['by'] ?? '',
    outcome: fields['outcome'] ?? '',
    detail: fields['detail'] ?? '',
  }
}
