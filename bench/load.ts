/** How one measurement loads a rig. The same for every rig. */
export interface Load {
  sessions: number
  viewersPerSession: number
  /** Events a second over all sessions; null: as fast as they arrive, with at most `inFlight` of them on the way. */
  ratePerSecond: number | null
  inFlight: number
  /** Saturation only: how many events a session says in one tick. With 1, every event is a message of its own. */
  burst: number
  seconds: number
}

/** Whatever the machine can do, a measurement ends after so many events. */
export const MAX_EVENTS = 400_000

/** One measurement: its load, and a number that tells its sessions from those of the others. */
export interface Run {
  number: number
  load: Load
}

/** Length of what an agent says at a time, about a token with a word more; the time it was said stands in front. */
const TEXT_UNITS = 50

/** µs on the clock that all processes of a machine share. */
export const micros = (): number => Number(process.hrtime.bigint() / 1000n)

export const textOf = (saidAt: number): string => `${saidAt} `.padEnd(TEXT_UNITS, 'a fox ')
export const saidAt = (text: string): number => Number.parseInt(text, 10)

/** What travels in the baselines for one event: just what Throughline's agent puts into its log. */
export const eventOf = (text: string) => ({ type: 'entry.append', entry: 'text-1', text, kind: 'text' })
