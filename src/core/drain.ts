import { pause } from './coalesce.js'
import type { Links } from './links.js'
import type { Parts } from './parts.js'
import type { ReplicaState } from './replica.js'

/** How long an agent may take to connect elsewhere, ms. */
const MOVE_MS = 10_000

/** What a drain needs of the doors. */
export interface Doors {
  /** Readiness goes red; new agents are refused. Resolves when those that were being welcomed are in. */
  close(): Promise<void>
  /** Resumable streams are asked to come back elsewhere. */
  moveViewers(): void
  /** HTTP requests still open. */
  open(): number
  /** Ends what is left, hard: a clean end in mid-stream would look like success. */
  destroy(): void
}

/**
 * Leaving, in order and within `limitMs`: not ready any more; agents are told to move, spread over a while, and go on
 * elsewhere before their old connection closes; resumable streams move; plain streams run to their end, or are destroyed
 * at the limit.
 */
export async function drain(
  parts: Parts,
  links: Links,
  state: ReplicaState,
  doors: Doors,
  limitMs: number,
): Promise<void> {
  const { observe } = parts
  const end = Date.now() + limitMs
  state.draining = true
  for (const station of links.all) station.leaving = true
  let welcomed = false
  void doors.close().then(() => (welcomed = true))
  await until(() => welcomed, Math.min(MOVE_MS, limitMs / 3))
  observe.log.info({ event: 'drain_started', agents: links.all.length, streams: doors.open() }, 'draining')

  const agents = shuffled(links.all)
  const spreadMs = Math.min(agents.length * 20, 5000, limitMs / 3)
  for (const station of agents) {
    station.leaving = true
    station.link.move()
    await pause(spreadMs / agents.length)
  }
  doors.moveViewers()
  await until(() => links.all.length === 0, Math.min(MOVE_MS, limitMs / 3))
  for (const station of links.all) station.link.close('drain') // it does not know how to move; it will connect again
  await until(() => doors.open() === 0, end - Date.now())
  observe.log.info({ event: 'drain_ended', cut: doors.open() }, 'drained')
  doors.destroy()
}

async function until(done: () => boolean, limitMs: number): Promise<void> {
  for (const end = Date.now() + limitMs; !done() && Date.now() < end;) await pause(20)
}

function shuffled<T>(items: T[]): T[] {
  return items
    .map((item) => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item)
}
