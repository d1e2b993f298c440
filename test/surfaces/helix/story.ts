import type { InteractionId, SessionId } from '../../../src/protocol/ids.js'
import type { Status } from '../../../src/protocol/interaction.js'
import { api, post } from '../../support/client.js'
import { eventually } from '../../support/eventually.js'
import { startHelixAgent, type HelixAgent } from '../../support/helix-agent.js'
import { startNetwork, type Network, type NetworkOptions } from '../../support/network.js'

/** Short times, so that what is waited for comes soon. */
const ENV = {
  HELIX_READY_MS: '300',
  HELIX_QUIET_MS: '300',
  HELIX_BOUNCE_MS: '50',
  SWEEP_EVERY_MS: '200',
  AGENT_GRACE_MS: '3000',
}

export interface Shown {
  id: InteractionId
  status: Status
  text: string
  origin: 'client' | 'agent'
  input: string
  attempt: number
  output: { id: string; kind: string; text: string; name?: string; status?: string }[]
  stopReason: string | null
  error: { code: string; message: string } | null
}

/** A session, and what the tests of Helix agents do with it. */
export interface Story extends AsyncDisposable {
  net: Network
  session: SessionId
  /** Connects the session's agent at a replica; without `ready: false` it says at once that it is ready. */
  connect(replica?: number, options?: { ready?: boolean; session?: string }): Promise<HelixAgent>
  /** Posts a message to the session. */
  post(text: string, more?: Record<string, unknown>, replica?: number): Promise<InteractionId>
  shown(id: InteractionId): Promise<Shown>
  /** The turn, once it has this status. */
  become(id: InteractionId, status: Status): Promise<Shown>
  turns(session?: SessionId): Promise<Shown[]>
  thread(): Promise<string | null>
  sessions(): Promise<{ id: SessionId; title: string; thread: string | null }[]>
}

export async function tell(options: NetworkOptions = {}): Promise<Story> {
  const net = await startNetwork({ ...options, env: { ...ENV, ...options.env } })
  let alive = 0
  /** Any replica that answers: some are killed. */
  async function ask<T>(path: string, body?: unknown): Promise<T> {
    return eventually(async () => {
      const answer = await api<T>(net.url(alive++ % net.replicas.length), path, body)
      if (answer.status >= 500) throw new Error(`${path}: ${answer.status}`)
      return answer.body
    }) as Promise<T>
  }
  const { id: session } = await ask<{ id: SessionId }>('/sessions', { pool: 'coder' })
  const agents: HelixAgent[] = []
  const it: Story = {
    net,
    session,
    async connect(replica = 0, { ready = true, session: named = session } = {}) {
      const agent = await startHelixAgent({ url: net.url(replica), session: named })
      agents.push(agent)
      if (ready) agent.say('agent_ready', { agent_name: 'zed-connection', thread_id: null })
      return agent
    },
    post: async (text, more = {}, replica = 0) => (await post(net.url(replica), { session }, text, more)).interaction,
    shown: (id) => ask(`/interactions/${id}`),
    become: (id, status) =>
      eventually(
        async () => {
          const turn = await it.shown(id)
          if (turn.status !== status) throw new Error(`${turn.status}, not ${status}: ${JSON.stringify(turn.error)}`)
          return turn
        },
        { limitMs: 15_000 },
      ) as Promise<Shown>,
    turns: async (of = session) => (await ask<{ interactions: Shown[] }>(`/sessions/${of}/interactions`)).interactions,
    thread: async () => (await ask<{ thread: string | null }>(`/sessions/${session}`)).thread,
    sessions: async () =>
      (await ask<{ sessions: { id: SessionId; title: string; thread: string | null }[] }>('/sessions')).sessions,
    async [Symbol.asyncDispose]() {
      for (const agent of agents) await agent[Symbol.asyncDispose]()
      await net[Symbol.asyncDispose]()
    },
  }
  return it
}
