import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import { TURN_ERRORS } from '../protocol/errors.js'
import { StopReason } from '../protocol/events.js'
import { boundedLabel } from './labels.js'

/** Pools and reasons beyond those that are known, which have a label value of their own. */
const MORE_POOLS = 100
const MORE_REASONS = 50
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']
/** How a turn ends that does not fail: reasons beside the codes of `TURN_ERRORS`. */
const STOPS = ['none', ...StopReason.options]

const TURN_SECONDS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600]
const COMMAND_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]
const REQUEST_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

/** What a replica reports right now, read at each scrape. */
export interface Readings {
  agents(): number
  leases(): number
  /** Turns in the hands of agents that are connected here. */
  running(): number
  viewers(): number
  channels(): number
  /** Seconds since the bus last heard its own probe. */
  busProbeAge(): number
  /** Seconds since any replica last swept, as this replica last saw it. */
  sweepAge(): number
  /** Whether `/readyz` says yes. */
  ready(): boolean
  /** Sessions in each pool's line; the same at every replica. Fails with Redis away. */
  waiting(): Promise<Map<string, number>>
  /** Agents connected for each pool, at whatever replica. Fails with Redis away. */
  agentsOfPools(): Promise<Map<string, number>>
  /** Turns of all sessions that have not ended, those that wait in the queues included. Fails with Redis away. */
  openTurns(): Promise<number>
  /** Jobs of each BullMQ queue, by state. Fails with Redis away. */
  jobs(): Promise<{ queue: string; state: string; count: number }[]>
  /** Redis connections by what they are for, and whether each is connected. */
  connections(): { role: string; connected: boolean }[]
}

/**
 * The replica's Prometheus registry. Labels take few values: `pools` are those that are configured, others have room up to
 * a limit and are `other` beyond it. Ids belong into log lines.
 */
export function createMetrics({ version = '', pools = [] }: { version?: string; pools?: string[] } = {}) {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  new Gauge({
    name: 'throughline_build_info',
    help: 'Always 1; which version runs here',
    labelNames: ['version'],
    registers,
  }).set({ version }, 1)
  const ofPool = boundedLabel(pools, MORE_POOLS)
  return {
    registry,
    ofPool,
    ofReason: boundedLabel([...STOPS, 'agent_error', ...Object.keys(TURN_ERRORS)], MORE_REASONS),
    ofMethod: boundedLabel(METHODS, 0),
    turnsStarted: new Counter({
      name: 'throughline_messages_total',
      help: 'Messages accepted',
      labelNames: ['pool'],
      registers,
    }),
    turnsEnded: new Counter({
      name: 'throughline_turns_ended_total',
      help: 'Turns that ended here, by status and reason',
      labelNames: ['pool', 'status', 'reason'],
      registers,
    }),
    deliveries: new Counter({
      name: 'throughline_deliveries_total',
      help: 'Turns handed to an agent: first, redelivered (a new attempt), repeated (not accepted in time)',
      labelNames: ['pool', 'kind'],
      registers,
    }),
    turnSeconds: new Histogram({
      name: 'throughline_turn_duration_seconds',
      help: 'From a message being accepted to the end of its turn, by status',
      labelNames: ['pool', 'status'],
      buckets: TURN_SECONDS,
      registers,
    }),
    waitSeconds: new Histogram({
      name: 'throughline_turn_wait_seconds',
      help: 'From a message being accepted to its turn being given to an agent for the first time',
      labelNames: ['pool'],
      buckets: TURN_SECONDS,
      registers,
    }),
    firstOutput: new Histogram({
      name: 'throughline_first_output_seconds',
      help: 'From a turn being given to an agent to its first output in the log',
      labelNames: ['pool'],
      buckets: TURN_SECONDS,
      registers,
    }),
    events: new Counter({ name: 'throughline_events_appended_total', help: 'Events written to logs', registers }),
    appends: new Counter({
      name: 'throughline_appends_total',
      help: 'Append calls, by answer',
      labelNames: ['answer'],
      registers,
    }),
    appendSeconds: new Histogram({
      name: 'throughline_append_seconds',
      help: 'One append in Redis',
      buckets: REQUEST_SECONDS,
      registers,
    }),
    eventLatency: new Histogram({
      name: 'throughline_event_latency_seconds',
      help: 'From the gateway having an event of an agent to the socket of a viewer having taken it, at whatever replica; on the clock of Redis, exact to some ms',
      buckets: REQUEST_SECONDS,
      registers,
    }),
    redisSeconds: new Histogram({
      name: 'throughline_redis_command_duration_seconds',
      help: 'Calls of Redis as the replica sees them, by script; other commands and transactions are `command`',
      labelNames: ['operation'],
      buckets: COMMAND_SECONDS,
      registers,
    }),
    redisUnavailable: new Counter({
      name: 'throughline_redis_unavailable_total',
      help: 'Calls that Redis did not answer in time, or not at all',
      registers,
    }),
    redisReconnects: new Counter({
      name: 'throughline_redis_reconnects_total',
      help: 'Redis connections that came back after they had been lost, by what they are for',
      labelNames: ['role'],
      registers,
    }),
    durabilitySeconds: new Histogram({
      name: 'throughline_durability_seconds',
      help: 'With DURABILITY=safe: waits for replicas or the append-only file of Redis; not confirmed is answered 503',
      labelNames: ['confirmed'],
      buckets: REQUEST_SECONDS,
      registers,
    }),
    fenced: new Counter({
      name: 'throughline_fenced_events_total',
      help: 'Late events that were dropped',
      labelNames: ['reason'],
      registers,
    }),
    verdicts: new Counter({
      name: 'throughline_sweep_verdicts_total',
      help: 'What the sweep decided',
      labelNames: ['verdict'],
      registers,
    }),
    sweeps: new Counter({
      name: 'throughline_sweeps_total',
      help: 'Sweeps run by this replica, by who asked: the clock or the watchdog',
      labelNames: ['by'],
      registers,
    }),
    requests: new Histogram({
      name: 'throughline_http_request_duration_seconds',
      help: 'HTTP requests by route; a stream counts until it closes',
      labelNames: ['route', 'method', 'status'],
      buckets: REQUEST_SECONDS,
      registers,
    }),
    streams: new Gauge({
      name: 'throughline_streams_open',
      help: 'HTTP streams open',
      labelNames: ['surface'],
      registers,
    }),
    streamsBehind: new Gauge({
      name: 'throughline_streams_behind',
      help: 'HTTP streams whose reader does not keep up: its socket is full, and nothing is read for it',
      labelNames: ['surface'],
      registers,
    }),
    streamsClosed: new Counter({
      name: 'throughline_streams_closed_total',
      help: 'HTTP streams closed, by how',
      labelNames: ['surface', 'how'],
      registers,
    }),
    badMessages: new Counter({
      name: 'throughline_agent_bad_messages_total',
      help: 'Messages of agents that were not understood',
      labelNames: ['code'],
      registers,
    }),
    webhooks: new Counter({
      name: 'throughline_webhooks_total',
      help: 'Webhook posts made here, by outcome: delivered, retried (not taken, to be sent again), failed (given up)',
      labelNames: ['type', 'outcome'],
      registers,
    }),
    limited: new Counter({
      name: 'throughline_limited_total',
      help: 'What was refused or put off for a limit: requests, messages, streams of an owner; failures of an address',
      labelNames: ['limit'],
      registers,
    }),
    adapterDropped: new Counter({
      name: 'throughline_adapter_dropped_total',
      help: 'Fleet messages not sent because Redis was away',
      registers,
    }),
    /** Registers the gauges that read the replica's state. */
    watch(readings: Readings) {
      const gauge = (name: string, help: string, read: () => number) =>
        new Gauge({
          name,
          help,
          registers,
          collect() {
            this.set(read())
          },
        })
      gauge('throughline_agents_connected', 'Agents connected to this replica', readings.agents)
      gauge('throughline_leases_held', 'Sessions whose agent is connected to this replica', readings.leases)
      gauge('throughline_turns_running', 'Turns in the hands of agents connected to this replica', readings.running)
      gauge('throughline_viewers', 'Followers of logs on this replica', readings.viewers)
      gauge('throughline_bus_channels', 'Channels subscribed', readings.channels)
      gauge('throughline_bus_probe_age_seconds', 'Since the bus last delivered', readings.busProbeAge)
      gauge('throughline_sweep_age_seconds', 'Since any replica last swept', readings.sweepAge)
      gauge('throughline_ready', 'Whether this replica may get traffic: 1 or 0', () => Number(readings.ready()))

      const perPool = (name: string, help: string, read: () => Promise<Map<string, number>>) =>
        new Gauge({
          name,
          help: `${help}; the same at every replica, absent while Redis is away`,
          labelNames: ['pool'],
          registers,
          async collect() {
            const pools = await read().catch(() => new Map<string, number>()) // a scrape must answer when Redis does not
            this.reset()
            for (const [pool, value] of pools) this.inc({ pool: ofPool(pool) }, value)
          },
        })
      perPool('throughline_pool_waiting', 'Sessions that wait for an agent of the pool', readings.waiting)
      perPool('throughline_pool_agents', 'Agents connected for the pool', readings.agentsOfPools)
      new Gauge({
        name: 'throughline_turns_open',
        help: 'Turns that have not ended: running, waiting for an agent, or queued in their session; the same at every replica, absent while Redis is away',
        registers,
        async collect() {
          const open = await readings.openTurns().catch(() => undefined)
          if (open === undefined) this.remove()
          else this.set(open)
        },
      })
      new Gauge({
        name: 'throughline_jobs',
        help: 'Jobs of the BullMQ queues, by state; the same at every replica, absent while Redis is away',
        labelNames: ['queue', 'state'],
        registers,
        async collect() {
          const jobs = await readings.jobs().catch(() => [])
          this.reset()
          for (const { queue, state, count } of jobs) this.set({ queue, state }, count)
        },
      })
      new Gauge({
        name: 'throughline_redis_connected',
        help: 'Whether each Redis connection is up: 1 or 0',
        labelNames: ['role'],
        registers,
        collect() {
          this.reset()
          for (const { role, connected } of readings.connections()) this.set({ role }, Number(connected))
        },
      })
    },
  }
}
export type Metrics = ReturnType<typeof createMetrics>
