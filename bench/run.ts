/**
 * `npm run bench`: Throughline beside two ways that keep nothing, on one machine in one run, at most three minutes long.
 * Prints what it finds and writes it to bench/RESULTS.md.
 */
import { writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Findings } from './findings.js'
import { machine } from './machine.js'
import { measure, measureIdle, type Result } from './measure.js'
import { stored } from './memory.js'
import { startPubSub } from './pubsub/rig.js'
import { startRelay } from './relay/rig.js'
import { measureMemory } from './redis-memory.js'
import { report } from './report.js'
import type { Rig } from './rig.js'
import { SCENARIOS, WARM_UP } from './scenarios.js'
import { startThroughline } from './throughline/rig.js'
import { rssBytes } from './usage.js'

/** Nothing here takes so long; should it all the same, everything ends. */
const LIMIT_MS = 175_000

/** Long enough to see a sweep or two. */
const IDLE_SECONDS = 6

const tooLong = setTimeout(() => {
  console.error(`The bench did not end within ${LIMIT_MS / 1000} s.`)
  process.exit(1) // the helpers see their channel close, and go
}, LIMIT_MS)

const rigs: Rig[] = []
try {
  for (const start of [startThroughline, startPubSub, startRelay]) rigs.push(await start())
  const text = report(await findings(rigs))
  console.log(text)
  await writeFile(new URL('./RESULTS.md', import.meta.url), text)
} finally {
  for (const rig of rigs.reverse()) await rig.stop()
  clearTimeout(tooLong)
}

/** Each load on one rig after the other, so that a noisy minute of the machine is one for all. */
async function findings(all: Rig[]): Promise<Findings> {
  const date = new Date().toISOString()
  const throughline = all[0]!
  const before = rssOf(throughline)
  const idle = await measureIdle(throughline, IDLE_SECONDS)
  for (const rig of all) await measure(rig, WARM_UP)
  const results: Findings['results'] = []
  for (const scenario of SCENARIOS) {
    console.error(scenario.title)
    const byRig = {} as Record<Rig['name'], Result>
    for (const rig of all) byRig[rig.name] = await measure(rig, scenario.load)
    results.push({ scenario, byRig })
  }
  await sleep(1000) // the last turns are being sealed
  return {
    date,
    machine: await machine(),
    results,
    rss: { before, after: rssOf(throughline) },
    idle,
    stored: await stored(throughline.redisUrl),
    redisMemory: await measureMemory(),
  }
}

function rssOf({ pids }: Rig): Findings['rss']['before'] {
  return { 'replica A': rssBytes(pids['replica A']!), 'replica B': rssBytes(pids['replica B']!) }
}
