import type { AuditEntry } from '../protocol/audit.js'
import type { Logger } from './logger.js'
import type { Metrics } from './metrics.js'

interface Ids {
  session: string
  interaction?: string
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
 * The replica's id is on every line.
 */
export class Observe {
  readonly log: Logger
  readonly metrics: Metrics
  #unconfirmedSaidAt = 0

  constructor(log: Logger, metrics: Metrics) {
    this.log = log
    this.metrics = metrics
  }

  messageAccepted(ids: Ids & { pool: string; queued: number }): void {
    this.metrics.turnsStarted.inc({ pool: ids.pool })
    this.log.info({ event: 'message_accepted', ...ids }, 'message accepted')
  }

  /** With DURABILITY=safe: an acknowledgement has waited for Redis' replicas or its file. */
  durabilityWaited(seconds: number, confirmed: boolean): void {
    this.metrics.durabilitySeconds.observe({ confirmed: confirmed ? 'yes' : 'no' }, seconds)
    if (confirmed || Date.now() - this.#unconfirmedSaidAt < 10_000) return
    this.#unconfirmedSaidAt = Date.now()
    this.log.warn({ event: 'not_durable' }, 'Redis did not confirm a write in time: a replica is away or slow')
  }

  /** The session's waitingInteractionId, lastRequestId and requestStartedAt are in Redis: any replica can go on. */
  mappingsPersisted(ids: Ids & { pool: string; agent: string; attempt: number }): void {
    this.metrics.deliveries.inc({ pool: ids.pool, kind: ids.attempt > 1 ? 'redelivered' : 'first' })
    this.log.info({ event: 'mappings_persisted', ...ids }, 'turn dispatched')
    if (ids.attempt > 1) this.log.warn({ event: 'turn_redelivered', ...ids }, 'turn delivered again')
  }

  /** An agent came back and its turn in flight was found in Redis. */
  mappingsRestored(ids: Ids & { agent: string; after: number }): void {
    this.log.info({ event: 'mappings_restored', ...ids }, 'turn in flight restored')
  }

  turnRepeated(ids: Ids & { pool: string; agent: string; sends: number }): void {
    this.metrics.deliveries.inc({ pool: ids.pool, kind: 'repeated' })
    this.log.warn({ event: 'turn_repeated', ...ids }, 'turn not accepted in time, sent again')
  }

  /** A turn is final; the three waiting fields of its session are cleared. */
  turnEnded(ids: Ids & { pool: string; status: string; reason: string }): void {
    this.metrics.turnsEnded.inc({ pool: ids.pool, status: ids.status, reason: ids.reason })
    this.log.info({ event: 'mappings_cleared', ...ids }, 'turn ended')
  }

  turnBegunByAgent(ids: Ids & { yielded: string; queued: number }): void {
    this.log.info({ event: 'turn_begun_by_agent', ...ids }, 'a person wrote to the agent directly')
  }

  staleTurnDetected(ids: Ids & { reason: string }): void {
    this.log.warn({ event: 'stale_turn_detected', ...ids }, 'stuck turn ended by the sweep')
  }

  lateEventFenced(ids: Ids & { reason: string; events: number; agent: string }): void {
    this.metrics.fenced.inc({ reason: ids.reason }, ids.events)
    this.log.warn({ event: 'late_event_fenced', ...ids }, 'late output dropped')
  }

  threadForgotten(ids: Ids & { thread: string; again: boolean }): void {
    this.log.warn({ event: 'thread_mapping_cleared', ...ids }, 'thread cannot be loaded, mapping cleared')
  }

  logRewound(ids: Ids & { tip: number; after: number }): void {
    this.log.warn({ event: 'log_rewound', ...ids }, 'Redis lost the tail of a log, the agent sends it again')
  }

  agentJoined(fields: {
    agent: string
    connection: string
    pool: string | null
    capacity: number
    resumed: number
  }): void {
    this.log.info({ event: 'agent_joined', ...fields }, 'agent connected')
  }

  agentLeft(fields: { agent: string; connection: string; why: string; holding: number }): void {
    this.log.info({ event: 'agent_left', ...fields }, 'agent disconnected')
  }

  /** An agent says that what answers behind it is lost; what becomes of the turn is as if it had been lost itself. */
  agentLost(ids: Ids & { why: string }): void {
    this.log.warn({ event: 'agent_lost', ...ids }, 'the agent lost the turn')
  }

  leaseLost(ids: Ids & { agent: string; why: string }): void {
    this.log.warn({ event: 'lease_lost', ...ids }, 'session is no longer held here')
  }

  badMessage(fields: { agent: string; code: string; detail: string }): void {
    this.metrics.badMessages.inc({ code: fields.code })
    this.log.warn({ event: 'agent_message_dropped', ...fields }, 'agent message not understood')
  }

  webhookDelivered(fields: WebhookFields): void {
    this.metrics.webhooks.inc({ type: fields.type, outcome: 'delivered' })
    this.log.debug({ event: 'webhook_delivered', ...fields }, 'webhook delivered')
  }

  webhookRetried(fields: WebhookFields & { reason: string }): void {
    this.metrics.webhooks.inc({ type: fields.type, outcome: 'retried' })
    this.log.debug({ event: 'webhook_retried', ...fields }, 'webhook not taken, to be sent again')
  }

  /** Nobody will hear of it any more. */
  webhookFailed(fields: WebhookFields & { reason: string }): void {
    this.metrics.webhooks.inc({ type: fields.type, outcome: 'failed' })
    this.log.warn({ event: 'webhook_failed', ...fields }, 'webhook given up')
  }

  /** An operator did something, from whatever machine. Told by one replica. */
  administered({ at, ...entry }: AuditEntry): void {
    this.log.info({ event: 'audit', ...entry, at: new Date(at).toISOString() }, 'audit')
  }

  outage(what: string, err: unknown): void {
    this.log.warn({ event: 'store_unavailable', what, err }, 'Redis unavailable, trying again')
  }

  bug(what: string, err: unknown): void {
    this.log.error({ event: 'bug', what, err }, 'unexpected error')
  }
}
