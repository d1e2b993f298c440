/** What one check found. */
export interface Finding {
  /** Stable name: `redis.eviction`. */
  check: string
  /** `warn`: works, and will hurt some day. `fail`: does not work, or loses data. */
  status: 'ok' | 'warn' | 'fail'
  /** What is so, in a sentence without secrets. */
  found: string
  /** How to mend it; '' where nothing is to be mended. */
  cure: string
}

export const ok = (check: string, found: string): Finding => ({ check, status: 'ok', found, cure: '' })
export const warn = (check: string, found: string, cure: string): Finding => ({ check, status: 'warn', found, cure })
export const fail = (check: string, found: string, cure: string): Finding => ({ check, status: 'fail', found, cure })
