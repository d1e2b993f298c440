import type { InteractionId, RequestId, SessionId } from '../protocol/ids.js'
import type { Status } from '../protocol/interaction.js'
import type { Keys } from './keys.js'
import type { Database } from './redis.js'
import type { Scripts } from './scripts.js'

/** Which connection asks for a lease. */
export interface Claimant {
  agent: string
  connection: string
  replica: string
  transport: string
  /** When the connection began, ms: of one agent's connections the newest has its sessions. */
  since: number
}

export type AttachAnswer =
  | {
      word: 'ok'
      epoch: number
      interaction: InteractionId | ''
      request: RequestId | ''
      status: Status | ''
      /** The agent's last event in the log. */
      after: number
      /** The session's pool. */
      pool: string
    }
  | { word: 'taken'; agent: string }
  /** A newer connection of this agent has it. */
  | { word: 'superseded' }
  | { word: 'gone' }

export type RenewAnswer =
  | { word: 'ok'; interaction: InteractionId | ''; request: RequestId | '' }
  | { word: 'superseded'; epoch: number }
  | { word: 'gone' }

/** The right of one agent connection to write to one session. */
export class Leases {
  readonly #db: Database
  readonly #scripts: Scripts
  readonly #keys: Keys
  readonly #ttlMs: number
  readonly #graceMs: number

  /** `ttlMs`: life of a lease without renewal. `graceMs`: how long a lost agent may take to come back. */
  constructor(db: Database, scripts: Scripts, keys: Keys, ttlMs: number, graceMs: number) {
    this.#db = db
    this.#scripts = scripts
    this.#keys = keys
    this.#ttlMs = ttlMs
    this.#graceMs = graceMs
  }

  /** `holding`: the turn the agent says it has in hand, and the last event it knows to be acknowledged. */
  async attach(
    session: SessionId,
    by: Claimant,
    given: { holding?: { request: RequestId; acked: number }; epochAbove?: number; incarnation: string },
  ): Promise<AttachAnswer> {
    const [word, ...rest] = await this.#scripts.run('attach', session, [
      by.agent,
      by.connection,
      by.replica,
      by.transport,
      this.#ttlMs,
      given.holding?.request ?? '',
      given.holding?.acked ?? 0,
      given.epochAbove ?? 0,
      given.incarnation,
      by.since,
    ])
    if (word === 'taken') return { word, agent: String(rest[0]) }
    if (word === 'superseded' || word === 'gone') return { word }
    return {
      word: 'ok',
      epoch: Number(rest[0]),
      interaction: rest[1] as InteractionId | '',
      request: rest[2] as RequestId | '',
      status: rest[3] as Status | '',
      after: Number(rest[4]),
      pool: String(rest[5]),
    }
  }

  async renew(session: SessionId, epoch: number, by: Claimant): Promise<RenewAnswer> {
    const [word, a, b] = await this.#scripts.run('renew', session, [
      epoch,
      this.#ttlMs,
      by.agent,
      by.connection,
      by.replica,
      by.transport,
      by.since,
    ])
    if (word === 'superseded') return { word, epoch: Number(a || 0) }
    if (word === 'gone') return { word }
    return { word: 'ok', interaction: a as InteractionId | '', request: b as RequestId | '' }
  }

  /** Gives the interaction that the session still has in flight, '' for none. */
  async release(
    session: SessionId,
    epoch: number,
    how: 'done' | 'lost' | 'left',
  ): Promise<{ word: 'ok' | 'busy' | 'superseded'; interaction: InteractionId | '' }> {
    const [word, interaction] = await this.#scripts.run('release', session, [epoch, how, this.#graceMs])
    return { word: word as 'ok' | 'busy' | 'superseded', interaction: (interaction ?? '') as InteractionId | '' }
  }

  /** Who holds a session. */
  async holder(session: SessionId): Promise<{ agent: string; connected: boolean } | null> {
    const [agent, state] = await this.#db.run((redis) => redis.hmget(this.#keys.lease(session), 'agent', 'state'))
    return agent ? { agent, connected: state === 'active' } : null
  }
}
