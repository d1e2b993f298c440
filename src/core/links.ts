import type { RequestId, SessionId } from '../protocol/ids.js'
import type { AgentLink } from './link.js'
import type { Writer } from './writer.js'

/** What one agent connection has of one session: the lease, and the turn in hand. */
export interface Hold {
  readonly session: SessionId
  /** The session's pool; an agent of named sessions may serve several. */
  readonly pool: string
  epoch: number
  /** The request the agent has in hand, '' between turns. */
  request: RequestId | ''
  /** The last request that `dispatch` gave in this epoch, '' before the first. */
  heard: RequestId | ''
  writer: Writer | null
  accepted: boolean
  /** A request that the agent ended without an answer: not to be delivered again before then (ms since 1970). */
  givenBack: { request: RequestId; until: number } | null
  /** The turn is over for us but the agent has not said that its handler returned: its place is still taken. */
  settling: boolean
  /** The request that was in hand here when another connection took the session: there it goes on. */
  overtaken: RequestId | ''
  /** The agent has begun a turn over this connection that is not named yet: only here what it says of it is heard. */
  begun: boolean
  /** Look at the session and do what is due. */
  deliver: () => void
  /** Ends the wake subscription. */
  stop: () => void
}

/** An agent connection on this replica, with its places. */
export class Station {
  readonly link: AgentLink
  readonly capacity: number
  readonly holds = new Map<SessionId, Hold>()
  /** No new sessions: the agent is leaving, or this replica is. */
  leaving = false
  closed = false
  /** The agent said goodbye: it ends the turns that it has in hand, and what follows them is for others. */
  goodbye = false
  /** An operator asked it to take nothing new, and to move when what it has in hand is done. */
  draining = false
  /** Its pool's wake reaches it. */
  watching = false
  /** Fill free places from the pool. */
  pull: () => void = () => {}

  constructor(link: AgentLink, capacity: number) {
    this.link = link
    this.capacity = capacity
  }

  /** Whether it has no turn in hand. */
  get idle(): boolean {
    return [...this.holds.values()].every((it) => it.request === '' && !it.settling && !it.begun)
  }

  get free(): number {
    return this.leaving || this.draining || this.closed || this.link.pool === null
      ? 0
      : Math.max(this.capacity - this.holds.size, 0)
  }
}

/** The agent connections of this replica. */
export class Links {
  readonly #stations = new Set<Station>()

  add(station: Station): void {
    this.#stations.add(station)
  }

  remove(station: Station): void {
    this.#stations.delete(station)
  }

  get all(): Station[] {
    return [...this.#stations]
  }

  ofPool(pool: string): Station[] {
    return this.all.filter((station) => station.link.pool === pool)
  }

  ofAgent(agent: string, pool: string | null): Station[] {
    return this.all.filter((station) => station.link.agent === agent && station.link.pool === pool)
  }

  /** Turns in the hands of agents. */
  get running(): number {
    let running = 0
    for (const { holds } of this.#stations) for (const { request } of holds.values()) if (request !== '') running++
    return running
  }

  /** Stations of the same agent by what it may do, such as an older connection of it. */
  namesakes({ agent, pool, realm }: Pick<AgentLink, 'agent' | 'pool' | 'realm'>): Station[] {
    return this.ofAgent(agent, pool).filter((station) => station.link.realm === realm)
  }

  get leases(): number {
    return this.all.reduce((sum, station) => sum + station.holds.size, 0)
  }
}
