import type { Namespace } from 'socket.io'
import type { AgentLink } from '../../core/link.js'
import type { Links } from '../../core/links.js'
import type { AgentToGateway, GatewayToAgent } from '../../protocol/agent-wire.js'

/** What replicas tell each other about agent connections. */
export interface FleetEvents {
  evict: (agent: string, pool: string | null, connection: string, since: number, realm: string) => void
}

/** What concerns the agent connections of all replicas together. Best effort: fencing does not depend on it. */
export class Fleet {
  readonly #agents: Namespace<AgentToGateway, GatewayToAgent, FleetEvents>
  readonly #links: Links

  constructor(agents: Namespace<AgentToGateway, GatewayToAgent, FleetEvents>, links: Links) {
    this.#agents = agents
    this.#links = links
    agents.on('evict', (agent, pool, connection, since, realm) =>
      this.#close({ agent, pool, connection, since, realm }),
    )
  }

  /** Closes older connections of an agent that has connected again, on whatever replica they are. */
  evict(link: AgentLink): void {
    const { agent, pool, connection, since, realm } = link
    this.#close(link)
    this.#agents.serverSideEmit('evict', agent, pool, connection, since, realm)
  }

  /** An eviction may arrive late, when the agent has moved on to this replica: only what is older goes. */
  #close(by: Pick<AgentLink, 'agent' | 'pool' | 'connection' | 'since' | 'realm'>): void {
    for (const { link } of this.#links.namesakes(by))
      if (link.connection !== by.connection && link.since <= by.since) link.close('superseded')
  }
}
