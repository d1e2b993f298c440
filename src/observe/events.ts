import type { AuditEntry } from '../protocol/audit.js'
import type { InteractionId } from '../protocol/ids.js'
import { traceIdOf } from '../protocol/trail.js'
import type { Logger } from './logger.js'
import type { Metrics } from './metrics.js'
import { Trails } from './trails.js'
import type { Tracing } from './tracing.js'

interface Ids {
  session: string
  interaction?: InteractionId
  request?: string
}

interface WebhookFields extends Ids {
  webhook: string
  type: string
  host: string
  attempt: number
}

/**
 * What can happen, said once: each function writes one log line with a stable `event` name and moves the counters.
 * The replica's id is on every line; on one about a turn, the id of the request that began it and the turn's trace.
 */
export class Observe {
  readonly log: Logger
  readonly metrics: Metrics
  /** Null where it is not switched on. */
  readonly tracing: Tracing | null
  readonly trails = new Trails()
  #unconfirmedSaidAt = 0

  constructor(log: Logger, metrics: Metrics, tracing: Tracing | null = null) {
    this.log = log
    this.metrics = metrics
    this.tracing = tracing
  }

  /** What a line says of a turn. */
  #about<T extends Ids>(ids: T): T & { requestId?: string; trace_id?: string } {
    if (!ids.interaction) return ids
    const trail = this.trails.of(ids.interaction)
    return {
      ...ids,
      ...(trail.requestId !== '' && { requestId: trail.requestId }),
      ...(trail.traceparent !== '' && { trace_id: traceIdOf(trail) }),
    }
  }

  messageAccepted(ids: Ids & { pool: string; queued: number }): void {
    this.metrics.turnsStarted.inc({ pool: this.metrics.ofPool(ids.pool) })
    this.log.info({ event: 'message_accepted', ...this.#about(ids) }, 'message accepted')
  }

  /** With DURABILITY=safe: an acknowledgement has waited for Redis' replicas or its file. */
  durabilityWaited(seconds: number, confirmed: boolean): void {
    this.metrics.durabilitySeconds.observe({ confirmed: confirmed ? 'yes' : 'no' }, seconds)
    if (confirmed || Date.now() - this.#unconfirmedSaidAt < 10_000) return
    this.#unconfirmedSaidAt = Date.now()
    this.log.warn({ event: 'not_durable' }, 'Redis did not confirm a write in time: a replica is away or slow')
  }

  /** The session's waitingInteractionId, lastRequestId and requestStartedAt are in Redis: any replica can go on. */
  mappingsPersisted({
    waitedMs,
    ...ids
  }: Ids & { pool: string; agent: string; attempt: number; waitedMs: number }): void {
    const pool = this.metrics.ofPool(ids.pool)
    this.metrics.deliveries.inc({ pool, kind: ids.attempt > 1 ? 'redelivered' : 'first' })
    if (ids.attempt === 1) this.metrics.waitSeconds.observe({ pool }, Math.max(waitedMs, 0) / 1000)
    this.log.info({ event: 'mappings_persisted', ...this.#about(ids) }, 'turn dispatched')
    if (ids.attempt > 1) this.log.warn({ event: 'turn_redelivered', ...this.#about(ids) }, 'turn delivered again')
  }

  /** An agent came back and its turn in flight was found in Redis. */
  mappingsRestored(ids: Ids & { agent: string; after: number }): void {
    this.log.info({ event: 'mappings_restored', ...this.#about(ids) }, 'turn in flight restored')
  }

  turnRepeated(ids: Ids & { pool: string; agent: string; sends: number }): void {
    this.metrics.deliveries.inc({ pool: this.metrics.ofPool(ids.pool), kind: 'repeated' })
    this.log.warn({ event: 'turn_repeated', ...this.#about(ids) }, 'turn not accepted in time, sent again')
  }

  /** A turn is final; the three waiting fields of its session are cleared. */
  turnEnded({ tookMs, ...ids }: Ids & { pool: string; status: string; reason: string; tookMs: number }): void {
    const { status } = ids
    const pool = this.metrics.ofPool(ids.pool)
    this.metrics.turnsEnded.inc({ pool, status, reason: this.metrics.ofReason(ids.reason) })
    this.metrics.turnSeconds.observe({ pool, status }, Math.max(tookMs, 0) / 1000)
    this.log.info({ event: 'mappings_cleared', ...this.#about(ids) }, 'turn ended')
  }

  turnBegunByAgent(ids: Ids & { yielded: string; queued: number }): void {
    this.log.info({ event: 'turn_begun_by_agent', ...this.#about(ids) }, 'a person wrote to the agent directly')
  }

  staleTurnDetected(ids: Ids & { reason: string }): void {
    this.log.warn({ event: 'stale_turn_detected', ...this.#about(ids) }, 'stuck turn ended by the sweep')
  }

  lateEventFenced(ids: Ids & { reason: string; events: number; agent: string }): void {
    this.metrics.fenced.inc({ reason: ids.reason }, ids.events)
    this.log.warn({ event: 'late_event_fenced', ...this.#about(ids) }, 'late output dropped')
  }

  threadForgotten(ids: Ids & { thread: string; again: boolean }): void {
    this.log.warn({ event: 'thread_mapping_cleared', ...this.#about(ids) }, 'thread cannot be loaded, mapping cleared')
  }

  logRewound(ids: Ids & { tip: number; after: number }): void {
    this.log.warn(
      { event: 'log_rewound', ...this.#about(ids) },
      'Redis lost the tail of a log, the agent sends it again',
    )
  }

  agentJoined(fields: {
    agent: string
    connection: string
    pool: string | null
    capacity: number
    resumed: number
    keyId?: string
  }): void {
    this.log.info({ event: 'agent_joined', ...fields }, 'agent connected')
  }

  /** An agent was not let in. `keyId`: the stored key that it claims to have. */
  agentRefused(fields: { transport: string; code: string; message: string; keyId?: string }): void {
    this.log.info({ event: 'agent_refused', ...fields }, 'agent not let in')
  }

  agentLeft(fields: { agent: string; connection: string; why: string; holding: number }): void {
    this.log.info({ event: 'agent_left', ...fields }, 'agent disconnected')
  }

  /** What an agent had said over a connection that is gone is in no log, and it will not say it again. */
  agentWordsLost(fields: {
    agent: string
    connection: string
    why: 'store_unavailable' | 'superseded'
    sessions: string[]
    bytes: number
  }): void {
    this.log.error({ event: 'agent_words_lost', ...fields }, 'words of an agent are lost')
  }

  /** An agent says that what answers behind it is lost; what becomes of the turn is as if it had been lost itself. */
  agentLost(ids: Ids & { why: string }): void {
    this.log.warn({ event: 'agent_lost', ...this.#about(ids) }, 'the agent lost the turn')
  }

  leaseLost(ids: Ids & { agent: string; why: string }): void {
    this.log.warn({ event: 'lease_lost', ...this.#about(ids) }, 'session is no longer held here')
  }

  badMessage(fields: { agent: string; code: string; detail: string }): void {
    this.metrics.badMessages.inc({ code: fields.code })
    this.log.warn({ event: 'agent_message_dropped', ...fields }, 'agent message not understood')
  }

  webhookDelivered(fields: WebhookFields): void {
    this.metrics.webhooks.inc({ type: fields.type, outcome: 'delivered' })
    this.log.debug({ event: 'webhook_delivered', ...this.#about(fields) }, 'webhook delivered')
  }

  webhookRetried(fields: WebhookFields & { reason: string }): void {
    this.metrics.webhooks.inc({ type: fields.type, outcome: 'retried' })
    this.log.debug({ event: 'webhook_retried', ...this.#about(fields) }, 'webhook not taken, to be sent again')
  }

  /** Nobody will hear of it any more. */
  webhookFailed(fields: WebhookFields & { reason: string }): void {
    this.metrics.webhooks.inc({ type: fields.type, outcome: 'failed' })
    this.log.warn({ event: 'webhook_failed', ...this.#about(fields) }, 'webhook given up')
  }

  /** An operator did something, from whatever machine. Told by one replica. */
  administered({ at, ...entry }: AuditEntry): void {
    this.log.info({ event: 'audit', ...entry, at: new Date(at).toISOString() }, 'audit')
  }

  /** An owner or an address met a limit. */
  limited(limit: 'requests' | 'messages' | 'streams' | 'failures'): void {
    this.metrics.limited.inc({ limit })
  }

  /** Somebody at this address tries out keys, or has a wrong one. */
  addressBlocked(fields: { address: string; forMs: number }): void {
    this.log.warn({ event: 'address_blocked', ...fields }, 'too many failed authentications from one address')
  }

  outage(what: string, err: unknown): void {
    this.log.warn({ event: 'store_unavailable', what, err }, 'Redis unavailable, trying again')
  }

  bug(what: string, err: unknown): void {
    this.log.error({ event: 'bug', what, err }, 'unexpected error')
  }
}
