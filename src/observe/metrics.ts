import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'

const TURN_SECONDS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600]
const REQUEST_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

/** What a replica reports right now, read at each scrape. */
export interface Readings {
  agents(): number
  leases(): number
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
}

/** The replica's Prometheus registry. Labels take few values; ids belong into log lines. */
export function createMetrics() {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  return {
    registry,
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
    firstOutput: new Histogram({
      name: 'throughline_first_output_seconds',
      help: 'From a turn being dispatched to its first output in the log',
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
      name: 'throughline_http_request_seconds',
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
            for (const [pool, value] of pools) this.set({ pool }, value)
          },
        })
      perPool('throughline_pool_waiting', 'Sessions that wait for an agent of the pool', readings.waiting)
      perPool('throughline_pool_agents', 'Agents connected for the pool', readings.agentsOfPools)
    },
  }
}
export type Metrics = ReturnType<typeof createMetrics>
