import { NAMED, type AgentOrder } from '../store/pools.js'
import type { Station } from './links.js'
import type { Parts } from './parts.js'

/** Says in Redis that the agent is here, and does what an operator asks of it. Repeated with every renewal. */
export async function announce(parts: Parts, station: Station, how: 'arrives' | 'stays'): Promise<void> {
  const { store, settings, clock } = parts
  const { link } = station
  if (station.leaving || station.closed) return
  const order = await store.pools.present(
    link.pool ?? NAMED,
    { agent: link.agent, connection: link.connection, since: link.since, how },
    {
      replica: settings.replica,
      transport: link.transport,
      capacity: station.draining ? 0 : station.capacity, // nobody waits for it
      busy: station.holds.size,
      draining: station.draining ? 1 : 0,
    },
    clock.now(),
  )
  if (order) await obey(parts, station, order)
}

async function obey(parts: Parts, station: Station, order: AgentOrder): Promise<void> {
  if (order === 'disconnect') return station.link.close('operator')
  if (station.draining) return
  station.draining = true
  const { agent, pool } = station.link
  parts.observe.log.info({ event: 'agent_draining', agent, pool }, 'agent takes nothing new')
  await announce(parts, station, 'stays')
  if (pool !== null) await parts.store.pools.giveBack(pool, agent)
  for (const it of station.holds.values()) it.deliver()
  moveOn(station)
}

/** An agent that is drained moves once it has nothing in hand. */
export function moveOn(station: Station): void {
  if (station.draining && station.idle) station.link.move()
}

/** An agent takes nothing new from here on: who waits for it waits for any of its pool. What it has in hand goes on. */
export async function leave(parts: Parts, station: Station): Promise<void> {
  station.leaving = station.goodbye = true
  await goAbsent(parts, station, 'left')
  for (const it of station.holds.values()) it.deliver()
}

export async function goAbsent(
  { store }: Pick<Parts, 'store'>,
  { link }: Station,
  how: 'lost' | 'left',
): Promise<void> {
  const was = await store.pools.absent(link.pool ?? NAMED, link.agent, link.connection)
  if (was && link.pool !== null && how === 'left') await store.pools.giveBack(link.pool, link.agent)
}
