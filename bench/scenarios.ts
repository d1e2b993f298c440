import type { Load } from './load.js'

export interface Scenario {
  title: string
  /** What it is for, in a sentence of the report. */
  why: string
  load: Load
}

const PACED = { viewersPerSession: 1, inFlight: 0, burst: 1, seconds: 4 }
const FLAT_OUT = { viewersPerSession: 1, ratePerSecond: null, seconds: 4 }

/** Before anything is written down: code is compiled, connections are open. */
export const WARM_UP: Load = { ...FLAT_OUT, sessions: 50, inFlight: 2000, burst: 1, seconds: 3 }

export const SCENARIOS: Scenario[] = [
  {
    title: 'A little: 20 sessions, 200 events/s',
    why: 'Nothing queues and nothing is batched: the latency of the way itself.',
    load: { ...PACED, sessions: 20, ratePerSecond: 200 },
  },
  {
    title: 'Moderate: 50 sessions, 2,000 events/s',
    why: 'Fifty answers at 40 tokens a second.',
    load: { ...PACED, sessions: 50, ratePerSecond: 2000 },
  },
  {
    title: 'Busy: 50 sessions, 5,000 events/s',
    why: 'Fifty answers at 100 tokens a second.',
    load: { ...PACED, sessions: 50, ratePerSecond: 5000 },
  },
  {
    title: 'Saturation: 50 sessions, an event a message',
    why: 'As fast as it goes with 2,000 events on the way; agents say a token at a time.',
    load: { ...FLAT_OUT, sessions: 50, inFlight: 2000, burst: 1 },
  },
  {
    title: 'Saturation: 50 sessions, bursts of 16',
    why: 'As fast as it goes with 8,000 events on the way; agents say 16 events in one tick, which our SDK sends together.',
    load: { ...FLAT_OUT, sessions: 50, inFlight: 8000, burst: 16 },
  },
  {
    title: 'Fan-out: 1 session, 100 viewers, 40 events/s',
    why: 'One answer that a hundred people watch: 4,000 deliveries a second.',
    load: { ...PACED, sessions: 1, viewersPerSession: 100, ratePerSecond: 40 },
  },
  {
    title: 'Fan-out at saturation: 1 session, 100 viewers',
    why: 'As fast as it goes with 200 events (20,000 deliveries) on the way.',
    load: { ...FLAT_OUT, sessions: 1, viewersPerSession: 100, inFlight: 200, burst: 1 },
  },
]
