import { randomUUID } from 'node:crypto'
import { Queue, UnrecoverableError, Worker, type ConnectionOptions, type Job } from 'bullmq'
import type { Outbound } from '../../core/outbound.js'
import type { Observe } from '../../observe/events.js'
import { ThroughlineError } from '../../protocol/errors.js'
import type { InteractionId, SessionId } from '../../protocol/ids.js'
import { post, TargetRefused } from './post.js'
import { signed } from './signature.js'
import { hostOf, refusal } from './targets.js'

export interface WebhookSettings {
  /** BullMQ's prefix. */
  prefix: string
  /** Keys that sign what an owner asked for; those without an owner are everybody else's. All of an owner's sign. */
  keys: { owner: string | null; key: Buffer }[]
  /** Hosts that clients may name although they are not public. */
  open: string[]
  timeoutMs: number
  attempts: number
  /** Pause after the first failure; it doubles with each, half of it at random. */
  retryMs: number
  maxAgeMs: number
  /** Where to ask for agents; null: nowhere. */
  wanted: { url: string; keys: Buffer[]; everyMs: number; tokenTtlMs: number } | null
  /** How long Redis may take to note a delivery. */
  redisDeadlineMs: number
}

/** A delivery, as it waits in Redis. `owner` null: to the operator's own address. */
interface Delivery {
  id: string
  type: string
  owner: string | null
  url: string
  createdAt: number
  data: Record<string, unknown>
}

/** Deliveries under way on one replica. */
const AT_ONCE = 32
/** A delivery that is done is remembered for so long, s, so that the same end, told again, is not posted again. */
const REMEMBERED = { age: 3600, count: 10_000 }
/** An agent that nobody started after so many attempts is asked for anew when its session is next looked at. */
const WANTED_ATTEMPTS = 3
const WANTED_RETRY_MS = 1000

/**
 * The outgoing door: what happened is posted to whom it concerns, signed as Standard Webhooks say, again with growing
 * pauses until it is answered with 2xx. Deliveries are BullMQ jobs: any replica makes them, and they outlive it.
 */
export function startWebhooks(
  connections: { queue: ConnectionOptions; worker: ConnectionOptions },
  settings: WebhookSettings,
  mintAgentToken: ((session: SessionId, ttlMs: number) => Promise<string>) | undefined,
  observe: Observe,
): { outbound: Outbound; counts: () => Promise<Record<string, number>>; stop: () => Promise<void> } {
  const { prefix, wanted, attempts, retryMs } = settings
  const queue = new Queue<Delivery>('webhooks', { connection: connections.queue, prefix })
  const worker = new Worker<Delivery>('webhooks', deliver, {
    connection: connections.worker,
    prefix,
    concurrency: AT_ONCE,
    lockDuration: settings.timeoutMs + 10_000,
    stalledInterval: 10_000,
    maxStalledCount: 100, // replicas may be killed in mid-delivery; what bounds a delivery is its age
  })
  queue.on('error', (err) => observe.log.debug({ err }, 'webhook queue')) // the connection's own listener tells of it
  worker.on('error', (err) => observe.log.debug({ err }, 'webhook worker'))
  worker.on('completed', (job) => observe.webhookDelivered(about(job)))
  worker.on('failed', (job, err) => {
    if (!job) return
    const fields = { ...about(job), reason: err.message }
    if (job.finishedOn) observe.webhookFailed(fields)
    else observe.webhookRetried(fields)
  })

  const keysOf = (owner: string): Buffer[] => {
    const own = settings.keys.filter((it) => it.owner === owner)
    return (own.length > 0 ? own : settings.keys.filter((it) => it.owner === null)).map((it) => it.key)
  }

  async function deliver(job: Job<Delivery>): Promise<void> {
    const { id, type, owner, url, createdAt, data } = job.data
    if (Date.now() - createdAt > settings.maxAgeMs) throw new UnrecoverableError('it has grown too old')
    const keys = owner === null ? (wanted?.keys ?? []) : keysOf(owner)
    if (keys.length === 0) throw new UnrecoverableError('there is no secret to sign it with any more')
    const agentToken =
      owner === null && mintAgentToken && (await mintAgentToken(data['session'] as SessionId, wanted!.tokenTtlMs))
    const event = { ...data, ...(agentToken && { agentToken }) } // never stored
    const created = Math.floor(createdAt / 1000)
    const body = JSON.stringify({ id, object: 'event', type, created_at: created, data: event })
    const headers = signed(id, Math.floor(Date.now() / 1000), body, keys)
    const open = owner === null ? [new URL(url).host] : settings.open
    const status = await post(url, body, headers, { timeoutMs: settings.timeoutMs, open }).catch((err: unknown) => {
      throw err instanceof TargetRefused ? new UnrecoverableError(err.message) : err
    })
    if (status >= 200 && status < 300) return
    if (status === 410) throw new UnrecoverableError('answered 410: its receiver wants no more')
    throw new Error(`answered ${status}`)
  }

  const outbound: Outbound = {
    refusal(owner, url) {
      if (keysOf(owner).length === 0) return 'webhooks are not configured for you; the operator sets WEBHOOK_SECRET'
      return refusal(url, settings.open)
    },

    async turnEnded(turn) {
      const { id, session, owner, status, error } = turn
      const delivery: Delivery = {
        id: `evt_${id.slice('int_'.length)}`,
        type: `turn.${status}`,
        owner,
        url: turn.webhook,
        createdAt: turn.endedAt,
        data: { session, interaction: id, status, ...(error && { error }) },
      }
      const backoff = { type: 'exponential', delay: retryMs, jitter: 0.5 }
      const options = { jobId: delivery.id, attempts, backoff, removeOnComplete: REMEMBERED, removeOnFail: REMEMBERED }
      await noted(queue.add(delivery.type, delivery, options))
    },

    agentWanted(want) {
      if (!wanted) return
      const { pool, session, interaction, waiting } = want
      const delivery: Delivery = {
        id: `evt_${randomUUID()}`,
        type: 'agent.wanted',
        owner: null,
        url: wanted.url,
        createdAt: Date.now(),
        data: { pool, session, interaction, waiting },
      }
      const options = {
        attempts: WANTED_ATTEMPTS,
        backoff: { type: 'exponential', delay: WANTED_RETRY_MS, jitter: 0.5 },
        deduplication: { id: want.per === 'session' ? session : `pool-${pool}`, ttl: wanted.everyMs },
        removeOnComplete: true,
        removeOnFail: true,
      }
      queue.add(delivery.type, delivery, options).catch((err: unknown) => observe.log.debug({ err }, 'agent wanted')) // the next look at the session asks again
    },
  }

  /** While Redis is away BullMQ waits for as long as it takes; whoever told us of an end does not. */
  async function noted(work: Promise<unknown>): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const limit = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new ThroughlineError('store_unavailable')), settings.redisDeadlineMs)
    })
    await Promise.race([work, limit]).finally(() => clearTimeout(timer))
    work.catch(() => {}) // when the limit won: its failure has been told already
  }

  return {
    outbound,
    counts: () => queue.getJobCounts('waiting', 'delayed', 'active', 'failed'),
    async stop() {
      await worker.close(true) // a delivery under way is made again: its id tells
      await queue.close()
    },
  }
}

const about = ({ data, attemptsMade }: Job<Delivery>) => ({
  webhook: data.id,
  type: data.type,
  host: hostOf(new URL(data.url)),
  session: String(data.data['session']),
  interaction: String(data.data['interaction']) as InteractionId,
  attempt: attemptsMade,
})
