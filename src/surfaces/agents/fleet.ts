import type { Namespace } from 'socket.io'
import type { AgentLink } from '../../core/link.js'
import type { Links } from '../../core/links.js'
import type { AgentToGateway, GatewayToAgent } from '../../protocol/agent-wire.js'

/** What replicas tell each other about agent connections. */
export interface FleetEvents {
  evict: (agent: string, pool: string | null, connection: string) => void
}

/** What concerns the agent connections of all replicas together. Best effort: fencing does not depend on it. */
export class Fleet {
  readonly #agents: Namespace<AgentToGateway, GatewayToAgent, FleetEvents>
  readonly #links: Links

  constructor(agents: Namespace<AgentToGateway, GatewayToAgent, FleetEvents>, links: Links) {
    this.#agents = agents
    this.#links = links
    agents.on('evict', (agent, pool, connection) => this.#close(agent, pool, connection))
  }

  /** Closes older connections of an agent that has connected again, on whatever replica they are. */
  evict(link: AgentLink): void {
    this.#close(link.agent, link.pool, link.connection)
    this.#agents.serverSideEmit('evict', link.agent, link.pool, link.connection)
  }

  #close(agent: string, pool: string | null, but: string): void {
    for (const station of this.#links.ofAgent(agent, pool))
      if (station.link.connection !== but) station.link.close('superseded')
  }
}
