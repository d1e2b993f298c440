import { readFileSync } from 'node:fs'

/** Linux counts CPU time in hundredths of a second. */
const TICK_MICROS = 10_000

/** CPU time of a process so far, user and system, µs. Undefined where there is no /proc. */
export function cpuMicros(pid: number): number | undefined {
  const fields = read(`/proc/${pid}/stat`)
    ?.replace(/^.*\) /s, '')
    .split(' ')
  return fields && (Number(fields[11]) + Number(fields[12])) * TICK_MICROS
}

/** Memory of a process that is in use and present, bytes. */
export function rssBytes(pid: number): number | undefined {
  const kilobytes = /^VmRSS:\s+(\d+) kB/m.exec(read(`/proc/${pid}/status`) ?? '')?.[1]
  return kilobytes === undefined ? undefined : Number(kilobytes) * 1024
}

/** CPU time of the whole machine so far, µs: everything but idle and waiting for a disk. */
export function machineCpuMicros(): number | undefined {
  const fields = /^cpu +(.*)$/m
    .exec(read('/proc/stat') ?? '')?.[1]
    ?.split(' ')
    .map(Number)
  if (!fields) return undefined
  const [user, nice, system, , , irq, softirq, steal] = fields as [number, ...number[]]
  return (user! + nice! + system! + irq! + softirq! + steal!) * TICK_MICROS
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}
