import type { Result } from './measure.js'

/** CPU time of both replicas. */
export const replicas = ({ cpu }: Result): number | undefined =>
  cpu['replica A'] === undefined ? undefined : cpu['replica A'] + cpu['replica B']!

/** CPU time of every process on the way. */
export const total = (cpu: Result['cpu']): number | undefined => {
  const all = Object.values(cpu)
  return all.length === 0 ? undefined : all.reduce((sum, each) => sum + each, 0)
}

/** A ratio. */
export const times = (ours: number | undefined, theirs: number | undefined): string =>
  ours === undefined || !theirs ? 'n/a' : `${figure(ours / theirs)}×`

export const whole = (value: number): string => Math.round(value).toLocaleString('en')
export const millis = (us: number): string => figure(us / 1000)

/** Two digits that count, no more are true. */
export function figure(value: number | undefined, none = 'n/a'): string {
  if (value === undefined || Number.isNaN(value)) return none
  return value >= 100 ? whole(value) : String(Number(value.toPrecision(2)))
}
