// @ts-expect-error: it has no types
import calculateSlot from 'cluster-key-slot'
import type { Cluster } from 'ioredis'
import { setTimeout as sleep } from 'node:timers/promises'
import { interactionOf, sessionOf, type InteractionId, type RequestId, type SessionId } from '../protocol/ids.js'
import { isTerminal, type Status } from '../protocol/interaction.js'
import { ThroughlineError } from '../protocol/errors.js'
import type { Keys } from './keys.js'
import { isCluster, isOutage, isUnavailable, within, type Connection } from './redis.js'

/** How a server is asked whether what it has would survive it: by so many replicas, or by its append-only file. */
export type Confirmation = { by: 'replicas'; replicas: number } | { by: 'file' }

/** Waits for confirmations on connections of its own: WAIT blocks the one that it is sent on. */
export interface Waiting {
  connection: Connection
  confirmation: Confirmation
  /** Told of each wait, in seconds, and whether it was confirmed within the limit. */
  waited: (seconds: number, confirmed: boolean) => void
}

/** Something that is about to be acknowledged: where it is, and how the server is asked for it. */
interface Kept {
  key: string
  ask?: [command: string, ...args: (string | number)[]]
  holds?: (answer: unknown) => boolean
}

/** How long one WAIT may block its connection, ms; who waits longer waits in the next one. */
const ROUND_MS = 500
const AGAIN_MS = 50
/** How long the key that a round writes is there, ms. */
const WRITTEN_MS = 10_000
/** Most that one round asks for. */
const ROUND_SIZE = 512

/**
 * Waits until what is about to be acknowledged would survive the loss of the server that has it. See
 * docs/decisions/0016: on the connection that waits, the server is asked for the thing itself, a key is written, and then
 * WAIT is sent; a replica that has the later write has the earlier ones. All who wait at one server share a round.
 * Without `waiting` (DURABILITY=fast) every call returns at once.
 * Each call throws `not_durable` when there is no confirmation within the limit; what was written stays written.
 */
export class Durability {
  readonly #keys: Keys
  readonly #limitMs: number
  readonly #waiting: Waiting | undefined
  readonly #rounds = new Map<string, Round>()

  constructor(keys: Keys, limitMs: number, waiting: Waiting | undefined) {
    this.#keys = keys
    this.#limitMs = limitMs
    this.#waiting = waiting
  }

  /** Whether anything is waited for. */
  get waits(): boolean {
    return this.#waiting !== undefined
  }

  /** A new session: its hash, and its line in the owner's list. */
  session(owner: string, id: SessionId): Promise<void> {
    return this.#settled(this.#sessionOf(id), this.#listingOf(owner, id))
  }

  /**
   * A message: the turn (and with it its session), its line in the deadline index, and what was reserved for the POST in
   * the owner's slot. A deadline line that is missing is written again: it goes when the turn has ended.
   */
  message(
    owner: string,
    id: InteractionId,
    also: { lookAtMs: number; newSession: boolean; reserved: string | undefined },
  ): Promise<void> {
    const [turn, due] = [this.#keys.interaction(id), this.#keys.deadlines(this.#keys.deadlineShard(sessionOf(id)))]
    const once = also.reserved === undefined ? undefined : this.#keys.once(owner, also.reserved)
    return this.#settled(
      { key: turn, ask: ['EXISTS', turn], holds: isOne },
      { key: due, ask: ['ZADD', due, 'NX', also.lookAtMs, id] },
      ...(also.newSession ? [this.#listingOf(owner, sessionOf(id))] : []),
      ...(once === undefined ? [] : [{ key: once, ask: ['EXISTS', once], holds: isOne } satisfies Kept]),
    )
  }

  /** What the agent said of a request, up to its event `after`. */
  events(request: RequestId, after: number): Promise<void> {
    const key = this.#keys.interaction(interactionOf(request))
    return this.#settled({
      key,
      ask: ['HMGET', key, 'request', 'agentTip'],
      holds: (answer) => {
        const [current, tip] = answer as (string | null)[]
        return current === request && Number(tip ?? 0) >= after
      },
    })
  }

  /** The end of a turn; also true of one that is not there any more, which was removed after its end. */
  end(id: InteractionId): Promise<void> {
    const key = this.#keys.interaction(id)
    return this.#settled({
      key,
      ask: ['HGET', key, 'status'],
      holds: (status) => status === null || isTerminal(status as Status),
    })
  }

  /** A client's answer to a permission; also true when the agent has settled it. */
  answer(id: InteractionId, permission: string): Promise<void> {
    const key = this.#keys.interaction(id)
    return this.#settled({
      key,
      ask: ['HGET', key, 'permissions'],
      holds: (text) => {
        const asked = JSON.parse((text as string | null) ?? '{}') as Record<string, { answer?: string }>
        return asked[permission] === undefined || asked[permission].answer !== undefined
      },
    })
  }

  #sessionOf(id: SessionId): Kept {
    const key = this.#keys.session(id)
    return { key, ask: ['EXISTS', key], holds: isOne }
  }

  #listingOf(owner: string, id: SessionId): Kept {
    const key = this.#keys.ownerSessions(owner)
    return { key, ask: ['ZSCORE', key, id], holds: (score) => score !== null }
  }

  async #settled(...all: Kept[]): Promise<void> {
    if (!this.#waiting) return
    const { connection, waited } = this.#waiting
    const started = Date.now()
    const giveUpAt = started + this.#limitMs
    const settle = async (kept: Kept): Promise<void> => {
      while (Date.now() < giveUpAt) {
        if (await this.#roundOf(connection, kept).join(kept, giveUpAt)) return
        await sleep(AGAIN_MS)
      }
      throw new ThroughlineError('not_durable')
    }
    try {
      await within(this.#limitMs, Promise.all(all.map(settle)))
      waited((Date.now() - started) / 1000, true)
    } catch (err) {
      if (!isUnavailable(err)) throw err
      waited((Date.now() - started) / 1000, false)
      throw new ThroughlineError('not_durable', { cause: err })
    }
  }

  /** The rounds of the server that has a key. */
  #roundOf(connection: Connection, { key }: Kept): Round {
    const server = isCluster(connection) ? serverOf(connection, key) : ''
    let round = this.#rounds.get(server)
    if (!round) {
      round = new Round(connection, this.#keys, this.#waiting!.confirmation, () => this.#rounds.delete(server))
      this.#rounds.set(server, round)
    }
    return round
  }
}

const isOne = (answer: unknown): boolean => answer === 1

/** Which master has the key, as ioredis knows it; a wrong answer costs another round. */
const serverOf = ({ slots }: Cluster, key: string): string =>
  String(slots[(calculateSlot as (key: string) => number)(key)]?.[0])

interface Waiter extends Kept {
  giveUpAt: number
  resolve: (confirmed: boolean) => void
  reject: (err: unknown) => void
}

/** What waits at one server: one WAIT is on its way, and who comes meanwhile shares the next. */
class Round {
  readonly #connection: Connection
  readonly #keys: Keys
  readonly #confirmation: Confirmation
  readonly #idle: () => void
  #waiters: Waiter[] = []
  #running = false

  constructor(connection: Connection, keys: Keys, confirmation: Confirmation, idle: () => void) {
    this.#connection = connection
    this.#keys = keys
    this.#confirmation = confirmation
    this.#idle = idle
  }

  /** Whether the server has it and has been confirmed to. False may be true a moment later. */
  join(kept: Kept, giveUpAt: number): Promise<boolean> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ ...kept, giveUpAt, resolve, reject })
      if (!this.#running) void this.#run()
    })
  }

  async #run(): Promise<void> {
    this.#running = true
    while (this.#waiters.length > 0) {
      const waiters = this.#waiters.splice(0, ROUND_SIZE).filter((it) => it.giveUpAt > Date.now() || it.resolve(false))
      if (waiters.length === 0) continue
      try {
        const confirmed = await this.#ask(waiters)
        waiters.forEach((it, i) => it.resolve(confirmed[i]!))
      } catch (err) {
        for (const it of waiters) {
          if (isOutage(err) || isMoved(err)) it.resolve(false)
          else it.reject(err)
        }
      }
    }
    this.#running = false
    this.#idle()
  }

  /** Asks for each thing, writes a key, waits for the confirmation of that. */
  async #ask(waiters: Waiter[]): Promise<boolean[]> {
    if (this.#connection.status !== 'ready') return waiters.map(() => false)
    const pipeline = this.#connection.pipeline()
    for (const { key, ask } of waiters) pipeline.call(...(ask ?? ['EXISTS', key]))
    const written = this.#keys.waited(isCluster(this.#connection) ? waiters[0]!.key : '')
    pipeline.set(written, '', 'PX', WRITTEN_MS)
    if (this.#confirmation.by === 'replicas') pipeline.call('WAIT', this.#confirmation.replicas, ROUND_MS)
    else pipeline.call('WAITAOF', 1, 0, ROUND_MS)
    const answers = (await pipeline.exec())!.map(([err, answer]) => {
      if (err) throw err
      return answer
    })
    const last = answers.at(-1)
    const confirmed =
      this.#confirmation.by === 'replicas'
        ? Number(last) >= this.#confirmation.replicas
        : Number((last as number[])[0]) >= 1
    return waiters.map(({ holds }, i) => confirmed && (holds?.(answers[i]) ?? true))
  }
}

/** The Cluster has changed under a round. */
const isMoved = (err: unknown): boolean =>
  err instanceof Error && /^(MOVED|ASK) |same slots allocation group|non local key/.test(err.message)
