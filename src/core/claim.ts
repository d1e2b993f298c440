import { coalesced } from './coalesce.js'
import { hold } from './deliver.js'
import { claimantOf } from './link.js'
import type { Links, Station } from './links.js'
import { newName } from './mint.js'
import { nudge } from './nudge.js'
import type { SessionId } from '../protocol/ids.js'
import type { Parts } from './parts.js'

/**
 * Lets a station fill its free places from its pool's line, now and whenever the pool is woken. Every replica with a
 * free agent races to one script; who pops a session has it.
 */
export function pullsFor(parts: Parts, station: Station): () => void {
  return coalesced(
    'claim',
    () => claim(parts, station),
    parts.observe,
    () => station.free === 0,
  )
}

async function claim(parts: Parts, station: Station): Promise<void> {
  const { store } = parts
  const { link } = station
  if (link.pool === null || station.free === 0) return
  const sessions = await store.pools.claim(link.pool, link.agent, link.connection, station.free)
  if (sessions.length === 0) return
  await Promise.all(sessions.map((session) => take(session)))
  station.pull()

  async function take(session: SessionId): Promise<void> {
    if (station.holds.has(session)) return
    const answer = await store.leases.attach(session, claimantOf(link, parts), { incarnation: newName('i').slice(2) })
    if (answer.word === 'superseded') return // in the agent's set, where its newer connection has it from
    if (answer.word !== 'ok') return store.pools.gaveUp(link.pool!, link.agent, session) // somebody has it already
    if (!station.closed) return void (await hold(parts, station, session, { epoch: answer.epoch, pool: answer.pool }))
    await store.leases.release(session, answer.epoch, 'left')
    await store.pools.gaveUp(link.pool!, link.agent, session)
    await nudge(parts, session)
  }
}

/** Listens for a pool's wake as long as this replica has agents of it. */
export class PoolWatch {
  readonly #parts: Parts
  readonly #links: Links
  readonly #pools = new Map<string, { agents: number; stop: Promise<Disposable> }>()

  constructor(parts: Parts, links: Links) {
    this.#parts = parts
    this.#links = links
  }

  async add(pool: string): Promise<void> {
    const known = this.#pools.get(pool)
    if (known) {
      known.agents++
      await known.stop
      return
    }
    const pull = () => this.#links.ofPool(pool).forEach((station) => station.pull())
    const stop = this.#parts.store.bus.listen(this.#parts.store.keys.poolWake(pool), { message: pull, look: pull })
    this.#pools.set(pool, { agents: 1, stop })
    await stop
  }

  remove(pool: string): void {
    const known = this.#pools.get(pool)
    if (!known || --known.agents > 0) return
    this.#pools.delete(pool)
    known.stop.then((stop) => stop[Symbol.dispose]()).catch(() => {}) // it never stood
  }
}
