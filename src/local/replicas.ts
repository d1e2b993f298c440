import { supervise, type Command, type Supervised } from './supervise.js'

export interface ReplicasOptions {
  count: number
  /** How to start the replica of this index (from 0); the same each time it is started again. */
  command: (index: number) => Command
  log: (line: string) => void
  /** What a replica is called in the output; default `replica-1` … */
  name?: (index: number) => string
}

export interface Replicas {
  all: readonly Supervised[]
  /** Resolves when one of them says that its settings are wrong (exit 78). */
  misconfigured: Promise<void>
  /** All at the same time: SIGTERM, after `limitMs` (default 10 s) SIGKILL. Resolves when none is left. */
  stop(limitMs?: number): Promise<void>
  /** SIGKILL to all. */
  kill(): void
}

/** Runs `count` processes side by side and keeps each of them up (`supervise`). */
export function startReplicas({ count, command, log, name = (i) => `replica-${i + 1}` }: ReplicasOptions): Replicas {
  const all = Array.from({ length: count }, (_, i) => supervise({ name: name(i), command: command(i), log }))
  return {
    all,
    misconfigured: Promise.race(all.map((replica) => replica.misconfigured)),
    stop: async (limitMs) => {
      await Promise.all(all.map((replica) => replica.stop(limitMs)))
    },
    kill: () => {
      for (const replica of all) replica.kill()
    },
  }
}
