import { Queue, Worker, type ConnectionOptions } from 'bullmq'
import type { Observe } from '../../observe/events.js'

/** Upserting again brings the schedule back after Redis lost it (FLUSHALL ends it without an error). */
const UPSERT_EVERY_MS = 60_000

/**
 * The sweep's rhythm: a BullMQ job scheduler with one run per tick over all replicas. Only the rhythm: correctness is in
 * the verdicts, and when ticks stop every replica's heartbeat notices and sweeps.
 */
export async function startSweeper(
  connections: { queue: ConnectionOptions; worker: ConnectionOptions },
  settings: { prefix: string; everyMs: number },
  sweep: () => Promise<number | undefined>,
  observe: Observe,
): Promise<{ counts: () => Promise<Record<string, number>>; stop: () => Promise<void> }> {
  const { prefix, everyMs } = settings
  const queue = new Queue('sweep', { connection: connections.queue, prefix })
  const worker = new Worker(
    'sweep',
    async () => {
      const judged = await sweep()
      if (judged !== undefined) observe.metrics.sweeps.inc({ by: 'clock' })
    },
    { connection: connections.worker, prefix, concurrency: 1, lockDuration: 10_000, stalledInterval: 5000 },
  )
  queue.on('error', (err) => observe.log.debug({ err }, 'sweep queue')) // the connection's own listener tells of it
  worker.on('error', (err) => observe.log.debug({ err }, 'sweep worker'))
  worker.on('failed', (_job, err) => observe.outage('sweep', err))

  const upsert = () =>
    queue
      .upsertJobScheduler(
        'sweep',
        { every: everyMs },
        { name: 'sweep', opts: { removeOnComplete: true, removeOnFail: 20, attempts: 1 } },
      )
      .then(() => {})
      .catch((err: unknown) => observe.log.debug({ err }, 'sweep schedule'))
  await upsert()
  const timer = setInterval(() => void upsert(), UPSERT_EVERY_MS * (0.8 + Math.random() * 0.4))
  return {
    counts: () => queue.getJobCounts('waiting', 'delayed', 'active', 'failed'),
    async stop() {
      clearInterval(timer)
      await worker.close(true) // a sweep under way may be lost: the next one does the same
      await queue.close()
    },
  }
}
