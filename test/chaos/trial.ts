import { setMaxListeners } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { AgentEvent } from '../../src/protocol/events.js'
import { outputText } from '../../src/protocol/fold.js'
import { post, watch, type Seen } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'
import { startRedisServer } from '../support/redis-server.js'
import { TrialAgent } from './trial-agent.js'

export interface TrialOptions {
  sessions: number
  events: number
  viewersPerSession: number
  agents: number
  connectionKills: number
  redisKills: number
  /** Agents that move in mid-turn while their old replica is frozen, and keep talking on the old connection. */
  ghosts: number
  /** Another build of the gateway, to show that the trial can fail. */
  main?: string
  limitMs: number
}

export interface TrialResult {
  logs: number
  exactLogs: number
  viewers: number
  exactViewers: number
  ended: number
  fenced: number
  moves: number
}

/** Events of each turn that are kept for the very end. */
const LAST_WORDS = 3

/**
 * Many turns at once while connections are killed, Redis dies by kill -9, agents move in mid-turn and viewers join at
 * random; then counts which logs and which viewers have exactly what the agents said.
 */
export async function runTrial(options: TrialOptions): Promise<TrialResult> {
  await using redis = await startRedisServer()
  await using net = await startNetwork({
    replicas: 3,
    processes: true,
    redisUrl: redis.url,
    env: { SWEEP_EVERY_MS: '500', AGENT_GRACE_MS: '8000', LEASE_TTL_MS: '6000', PROBE_MS: '1000', LOG_LEVEL: 'info' },
    ...(options.main !== undefined && { main: options.main }),
  })
  const urls = net.replicas.map((replica) => replica.url)
  const said = (turn: { input: string }): AgentEvent[] => [
    ...Array.from({ length: options.events - 1 }, (_, i) => text(`${turn.input}.${i} `)),
    completed,
  ]
  const answer = (input: string) =>
    said({ input })
      .map((event) => (event.type === 'entry.append' ? event.text : ''))
      .join('')

  const agents = Array.from(
    { length: options.agents },
    (_, i) => new TrialAgent(`trial-${i}`, urls, Math.ceil(options.sessions / options.agents), said),
  )
  net.onDispose(() => agents.forEach((agent) => agent.close()))
  await Promise.all(agents.map((agent) => agent.connect()))

  const posted = await Promise.all(
    Array.from({ length: options.sessions }, (_, i) => post(urls[i % 3]!, { pool: 'coder' }, `s${i}`)),
  )
  const stop = new AbortController()
  setMaxListeners(0, stop.signal)
  net.onDispose(() => stop.abort())
  const viewers: { input: string; seen: Seen }[] = []
  function join(): void {
    const i = Math.floor(viewers.length % options.sessions)
    const first = Math.floor(Math.random() * 3)
    const order = [urls[first]!, urls[(first + 1) % 3]!, urls[(first + 2) % 3]!]
    viewers.push({
      input: `s${i}`,
      seen: watch(order, posted[i]!.interaction, { signal: stop.signal, giveUpMs: 60_000 }),
    })
  }

  const deadline = Date.now() + options.limitMs
  const wanted = options.sessions * options.viewersPerSession
  const total = options.sessions * (options.events - LAST_WORDS)
  const sent = () =>
    agents.reduce((sum, agent) => sum + [...agent.scripts.values()].reduce((n, it) => n + it.acked, 0), 0)
  const plan = shuffled([
    ...Array<'connection'>(options.connectionKills).fill('connection'),
    ...Array<'redis'>(options.redisKills).fill('redis'),
    ...Array<'ghost'>(options.ghosts).fill('ghost'),
  ])
  const acts = plan.length
  for (let done = 0; Date.now() < deadline;) {
    const progress = sent() / total
    while (viewers.length < wanted * Math.min(1, progress * 1.1 + 0.1)) join()
    if (plan.length > 0 && progress > (acts - plan.length + 0.5) / (acts + 1)) {
      const act = plan.pop()!
      if (act === 'connection') {
        await net.redis.call('CLIENT', 'KILL', 'TYPE', Math.random() < 0.5 ? 'pubsub' : 'normal', 'SKIPME', 'yes')
      } else if (act === 'redis') {
        await redis.kill9()
        agents.forEach((agent) => agent.speak(5, LAST_WORDS))
        await redis.restart()
      } else {
        await ghost(agents[done++ % agents.length]!, net.replicas.length)
      }
    }
    agents.forEach((agent) => agent.speak(1 + Math.floor(Math.random() * 8), LAST_WORDS))
    if (progress >= 1 && viewers.length >= wanted) break
    await sleep(2)
  }
  // when all is well again, the last words of every turn are said while the subscribers are cut off
  for (const replica of net.replicas) await eventually(() => replica.well(), { limitMs: 10_000 })
  await net.redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
  agents.forEach((agent) => agent.speak(LAST_WORDS, 0))
  const late = new AbortController()
  await Promise.race([
    Promise.all(viewers.map(({ seen }) => seen.done.catch(() => {}))),
    sleep(Math.max(deadline - Date.now(), 1), undefined, { signal: late.signal }).catch(() => {}),
  ])
  late.abort()
  stop.abort()

  let exactLogs = 0
  let ended = 0
  for (const [i, { interaction, session }] of posted.entries()) {
    const base = `${net.prefix}{${session}}`
    const rows = await eventually(() => net.redis.xrange(`${base}:log:${interaction}`, '-', '+'), { limitMs: 10_000 })
    const events = rows.map(([, fields]) => JSON.parse(fields[1]!) as AgentEvent)
    const ends = events.filter(
      (e) => e.type === 'completed' || e.type === 'failed' || (e.type as string) === 'cancelled',
    )
    if (ends.length === 1) ended++
    const written = events.map((e) => (e.type === 'entry.append' ? e.text : '')).join('')
    if (written === answer(`s${i}`) && ends.length === 1 && ends[0]!.type === 'completed') exactLogs++
  }
  return {
    logs: posted.length,
    exactLogs,
    ended,
    viewers: viewers.length,
    exactViewers: viewers.filter(
      ({ input, seen }) => outputText(seen.turn) === answer(input) && seen.turn.status === 'completed' && inOrder(seen),
    ).length,
    fenced: net.logged('late_event_fenced').length,
    moves: agents.reduce((sum, agent) => sum + agent.moves, 0),
  }

  /** Moves an agent off a frozen replica; on thawing, that replica finds what the agent went on saying there. */
  async function ghost(agent: TrialAgent, replicas: number): Promise<void> {
    const from = agent.replica
    const frozen = net.replicas[from]!
    frozen.freeze()
    try {
      const old = await agent.move((from + 1) % replicas)
      if (!old) return
      for (const it of agent.scripts.values()) {
        if (it.sent >= it.events.length) continue
        const known = it.events.slice(0, it.sent)
        old.send(it.turn.request, 1, ...known, ...Array.from({ length: 60 }, () => text('GHOST ')))
      }
      await sleep(20)
    } finally {
      frozen.thaw()
    }
  }
}

const inOrder = (seen: Seen): boolean =>
  seen.snapshots > 0 || seen.events.every((event, i) => event.n === seen.events[0]!.n + i)

function shuffled<T>(items: T[]): T[] {
  return items
    .map((item) => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item)
}
