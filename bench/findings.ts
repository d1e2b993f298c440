import type { Result } from './measure.js'
import type { Stored } from './memory.js'
import type { MemoryFigures } from './redis-memory.js'
import type { RigName } from './rig.js'
import type { Scenario } from './scenarios.js'

/** All that a run found out. */
export interface Findings {
  date: string
  machine: string[]
  results: { scenario: Scenario; byRig: Record<RigName, Result> }[]
  /** CPU time of each process of Throughline while nothing happens, µs per second. */
  idle: Result['cpu']
  rss: Record<'before' | 'after', Record<'replica A' | 'replica B', number | undefined>>
  stored: Stored
  redisMemory: MemoryFigures
}
