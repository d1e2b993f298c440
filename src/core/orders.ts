import { NAMED } from '../store/pools.js'
import { isUnavailable } from '../store/redis.js'
import type { Links } from './links.js'
import type { Parts } from './parts.js'
import { announce } from './presence.js'

/**
 * Listens to what operators ask of this replica, and of agents that are connected here. What they ask stands in Redis and
 * is found with the next heartbeat or renewal in any case; this only makes it soon.
 */
export async function hearOrders(parts: Parts, links: Links, beat: () => Promise<void>): Promise<void> {
  const { store, settings, observe } = parts
  async function look(text: string): Promise<void> {
    if (text === '') return beat()
    const { pool, agent } = JSON.parse(text) as { pool: string; agent: string }
    for (const station of links.ofAgent(agent, pool === NAMED ? null : pool)) await announce(parts, station, 'stays')
  }
  await store.bus.listen(store.keys.replicaWake(settings.replica), {
    message: ({ text }) =>
      void look(text).catch((err: unknown) =>
        isUnavailable(err) ? observe.outage('orders', err) : observe.bug('orders', err),
      ),
    look: () => {},
  })
}
