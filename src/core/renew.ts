import { overtaken } from './deliver.js'
import { announce } from './join.js'
import { claimantOf } from './link.js'
import type { Hold, Links, Station } from './links.js'
import type { Parts } from './parts.js'

/** Renewals under way at a time. */
const AT_ONCE = 64

/**
 * Keeps the leases of this replica alive and looks at every session while at it: a wake that got lost costs at most one
 * period of this.
 */
export async function renewAll(parts: Parts, links: Links): Promise<void> {
  const due: [Station, Hold][] = []
  for (const station of links.all) {
    await announce(parts, station, 'stays')
    for (const it of station.holds.values()) due.push([station, it])
    station.pull()
  }
  for (let from = 0; from < due.length; from += AT_ONCE)
    await Promise.all(due.slice(from, from + AT_ONCE).map(([station, it]) => renew(parts, station, it)))
}

async function renew(parts: Parts, station: Station, it: Hold): Promise<void> {
  const { store, observe } = parts
  const { link } = station
  const answer = await store.leases.renew(it.session, it.epoch, claimantOf(link, parts))
  if (station.closed || station.holds.get(it.session) !== it) return
  if (answer.word === 'ok') {
    if (answer.interaction === '' ? !it.settling : answer.request !== it.request || it.request === '') it.deliver()
    return
  }
  if (answer.word === 'superseded' && answer.epoch < it.epoch) return it.deliver() // which attaches again
  observe.leaseLost({ session: it.session, request: it.request, agent: link.agent, why: answer.word })
  overtaken(station, it, answer.word)
}
