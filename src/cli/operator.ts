import { openAdmin, RedisRequired, type Admin, type AuditEntry } from '../admin.js'
import { ConfigError, readConfig } from '../config.js'
import { ThroughlineError } from '../protocol/errors.js'
import { EXIT_CONFIG } from './exit-codes.js'
import { version } from './version.js'

/** It was refused, or what it names is not there, or Redis cannot be reached. */
export const EXIT_REFUSED = 1

/**
 * Runs one command of an operator on the Redis that the environment names, as a replica would open it. Gives the exit
 * code: that of `work`; 1 when Redis cannot be reached, 78 when the environment is not usable. `as` is the operator's name
 * in the audit trail.
 */
export async function operate({ as }: { as?: string }, work: (admin: Admin) => Promise<number>): Promise<number> {
  try {
    await using admin = await openAdmin(readConfig(), version, as)
    return await work(admin)
  } catch (err) {
    if (err instanceof ConfigError) {
      console.error(err.message)
      return EXIT_CONFIG
    }
    if (err instanceof RedisRequired) console.error(`${err.message} Nothing was done.`)
    else if (err instanceof ThroughlineError && err.code === 'store_unavailable')
      console.error(
        'Redis went away in the middle: what was asked for may have been done or not. Look at it again with `show` or `list`.',
      )
    else throw err
    return EXIT_REFUSED
  }
}

/** Shows what was written into the audit trail, as one line of JSON on stderr. Gives the exit code. */
export function done(entry: AuditEntry): number {
  console.error(JSON.stringify({ audit: entry }))
  return entry.outcome === 'done' ? 0 : EXIT_REFUSED
}
