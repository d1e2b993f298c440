import { cpus } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Heard } from './listener.js'
import { micros, type Load, type Run } from './load.js'
import type { Part, Rig } from './rig.js'
import { cpuMicros, machineCpuMicros } from './usage.js'

/** What one rig did under one load. */
export interface Result extends Heard {
  /** Events that should have arrived at viewers. */
  expected: number
  /** CPU time per event that arrived, µs, of each process on the way. Empty where it cannot be read. */
  cpu: Partial<Record<Part, number>>
  /** Share of the machine's CPU time, 0 to 1, that went to processes that are not the bench's. */
  elsewhere: number | undefined
}

/** After opening: until what that set in motion has come to rest. */
const SETTLE_MS = 300

let runs = 0

/** Opens the sessions and their viewers, speaks, listens, and takes the CPU time of exactly that. */
export async function measure({ speaker, listener, pids }: Rig, load: Load): Promise<Result> {
  const run: Run = { number: ++runs, load }
  await Promise.all([speaker.ask('open', run), listener.ask('open', run)])
  await sleep(SETTLE_MS)
  listener.onProgress = (events) => speaker.tell('arrived', events)
  const used = meter(pids)
  const expected = (await speaker.ask<number>('speak')) * load.viewersPerSession
  const heard = await listener.ask<Heard>('hear', expected)
  const { cpu, elsewhere } = used()
  await Promise.all([speaker.ask('close'), listener.ask('close')])
  const perEvent = Object.entries(cpu).map(([part, spent]) => [part, spent / heard.events])
  return { ...heard, expected, cpu: Object.fromEntries(perEvent) as Result['cpu'], elsewhere }
}

/** CPU time that a rig takes when nothing happens, µs per second of each process. */
export async function measureIdle({ pids }: Rig, seconds: number): Promise<Result['cpu']> {
  const used = meter(pids)
  await sleep(seconds * 1000)
  const perSecond = Object.entries(used().cpu).map(([part, spent]) => [part, spent / seconds])
  return Object.fromEntries(perSecond) as Result['cpu']
}

/** Starts counting; the given function tells the CPU time since then. */
function meter(pids: Rig['pids']): () => Pick<Result, 'cpu' | 'elsewhere'> {
  const parts = Object.entries(pids) as [Part, number][]
  const look = () => ({
    at: micros(),
    cpu: parts.map(([, pid]) => cpuMicros(pid)),
    bench: cpuMicros(process.pid),
    machine: machineCpuMicros(),
  })
  const before = look()
  return () => {
    const after = look()
    const cpu: Result['cpu'] = {}
    if (after.machine === undefined) return { cpu, elsewhere: undefined }
    parts.forEach(([part], i) => (cpu[part] = after.cpu[i]! - before.cpu[i]!))
    const ours = Object.values(cpu).reduce((sum, spent) => sum + spent, after.bench! - before.bench!)
    const available = (after.at - before.at) * cpus().length
    return { cpu, elsewhere: Math.max(after.machine - before.machine! - ours, 0) / available }
  }
}
