import { setTimeout as sleep } from 'node:timers/promises'
import { outputText, type Entry } from '../../../src/protocol/fold.js'
import type { InteractionId, SessionId } from '../../../src/protocol/ids.js'
import { api, watch, type Seen } from '../../support/client.js'
import { eventually } from '../../support/eventually.js'
import { startNetwork, type Network, type Replica } from '../../support/network.js'
import { Zed, type Delivery, type Run } from './agent.js'
import { behave } from './behaviours.js'
import { STORY } from './story.js'

/** A turn as a client reads it at the end. */
export interface Turn {
  id: InteractionId
  status: string
  origin: string
  input: string
  error: { code: string } | null
  stopReason: string | null
  output: Entry[]
  /** ms of the epoch. */
  startedAt: number
  endedAt: number
}

/** A turn, and what the agent knows of it. */
export interface Told {
  turn: Turn
  runs: Run[]
  deliveries: Delivery[]
  /** Ends in its log. */
  ends: number
  /** What a viewer that was there from the start, and reconnected, has read in the end; undefined: nobody looked. */
  viewed: string | undefined
  /** All that the session's agent has run. */
  conversation: Run[]
  /** What the replicas logged of the session while the turn ran. */
  logged: string[]
  /** The agent's connections while the turn ran, since its last prompt if any: from when to when, ms from the turn's start. */
  connections: [from: number, to: number][]
}

export interface Outcome {
  disturbances: number
  sessions: number
  branches: number
  told: Told[]
  /** What people typed: the agent's runs of it. */
  typed: Run[]
}

interface LogLine {
  time: string | number
  by: string
  event: string
  request?: string
}

/** The replicas' settings, ms. */
const QUIET_MS = 3000
const READY_MS = 500
/** After so long on one connection a prompt that the agent did not get has been sent again, ms; with some for the load. */
export const REACHED_MS = QUIET_MS + READY_MS + 1000
const PATIENT = { limitMs: 120_000, everyMs: 200 }
/** Longest pause between a replica's coming back and the next one's going; it differs. */
const PAUSE_MS = 2500

/**
 * Plays the story in `sessions` sessions, each with an agent of its own, over three replicas of which one after the other,
 * at random, is disturbed and comes back.
 */
export async function zedTrial(sessions: number, disturb: (victim: Replica) => Promise<unknown>): Promise<Outcome> {
  await using net = await startNetwork({
    replicas: 3,
    processes: true,
    env: {
      HELIX_QUIET_MS: String(QUIET_MS),
      HELIX_READY_MS: String(READY_MS),
      HELIX_BOUNCE_MS: '100',
      AGENT_SILENT_MS: '9000',
      TOOL_LIMIT_MS: '16000', // a tool call whose end was lost looks like one that runs
      MAX_ATTEMPTS: '5',
      AGENT_GRACE_MS: '8000',
      SWEEP_EVERY_MS: '500',
      LEASE_TTL_MS: '3000',
    },
  })
  const trial = new Trial(net)
  const ids: SessionId[] = []
  for (let i = 0; i < sessions; i++) ids.push(await trial.createSession(i))

  const over = new AbortController()
  let disturbances = 0
  const disturbing = (async () => {
    while (!over.signal.aborted) {
      await sleep(Math.random() * PAUSE_MS, undefined, { signal: over.signal }).catch(() => {})
      if (over.signal.aborted) return
      const victim = net.replicas[Math.floor(Math.random() * 3)]!
      await disturb(victim)
      disturbances++
      await victim.restart()
    }
  })()
  const agents = await Promise.all(ids.map((session, i) => trial.play(session, i)))
  over.abort()
  await disturbing
  const outcome = { ...(await trial.outcome(ids, agents)), disturbances, sessions }
  for (const agent of agents) agent.stop()
  return outcome
}

class Trial {
  readonly #net: Network
  readonly #viewers = new Map<InteractionId, Seen>()
  #asked = 0

  constructor(net: Network) {
    this.#net = net
  }

  url = (): string => this.#net.url(this.#asked++ % 3)

  createSession = async (i: number): Promise<SessionId> =>
    (await this.#ask<{ id: SessionId }>('/sessions', { pool: 'coder' }, `session-${i}`)).id

  /** One session from its first message to its last; gives its agent. */
  async play(session: SessionId, i: number): Promise<Zed> {
    const traits = { unready: i % 4 === 3, trap: i % 4 === 1, bouncesWhileTyped: i % 2 === 0 }
    const boots = i % 3 === 0 // the first two messages are there before the agent is
    let agent = boots ? undefined : new Zed(session, this.url, behave, traits)
    for (const [n, { kind }] of STORY.entries()) {
      const interaction = await this.#post(session, `${kind} <${n}.${i}>`, `${session}-${n}`, {
        helix: n % 2 === 1,
        interrupt: boots && kind === 'correction',
      })
      this.#viewers.set(interaction, watch([this.url(), this.url(), this.url()], interaction))
      if (n === 1) agent ??= new Zed(session, this.url, behave, traits)
      if (kind === 'cancel') {
        await eventually(async () => (await this.#turn(interaction)).status !== 'queued', PATIENT)
        await this.#ask(`/interactions/${interaction}/cancel`, {})
      }
      if (n % 3 === 2) await this.#settled(session)
      if (n % 8 === 5) await agent!.type(`typed <${n}.${i}t>`)
      if (n === 9) await agent!.branch(`branch <${n}.${i}b>`)
    }
    await this.#settled(session)
    return agent!
  }

  async outcome(ids: SessionId[], agents: Zed[]): Promise<Omit<Outcome, 'disturbances' | 'sessions'>> {
    const { sessions } = await this.#ask<{ sessions: { id: SessionId }[] }>('/sessions?limit=100')
    const branches = sessions.map(({ id }) => id).filter((id) => !ids.includes(id))
    // a conversation that was opened at an agent goes on from a client
    for (const branch of branches) await this.#post(branch, 'branched <>', `${branch}-1`, {})
    for (const branch of branches) await this.#settled(branch)
    const told: Told[] = []
    for (const session of [...ids, ...branches])
      for (const turn of await this.#turnsOf(session)) {
        const own = (it: Run): boolean => {
          if (turn.origin !== 'agent') return it.interaction === turn.id
          if (it.interaction !== '' || turn.input !== '') return it.interaction === '' && it.prompt === turn.input
          // what was typed was lost on its way, and the answer was heard
          return it.inDoubt.has('user') && turn.output.some(({ text }) => text.includes(it.prompt))
        }
        const agent = agents.find((it) => it.runs.some(own)) ?? agents[ids.indexOf(session)]
        const deliveries = agent?.deliveries.filter((it) => it.interaction === turn.id) ?? []
        const since = deliveries.at(-1)?.at ?? turn.startedAt
        const connections = (agent?.connections ?? [])
          .filter(({ from, to }) => from < turn.endedAt && to > since)
          .map(({ from, to }): [number, number] => [
            Math.max(from, since) - turn.startedAt,
            Math.min(to, turn.endedAt) - turn.startedAt,
          ])
        told.push({
          turn,
          runs: agent?.runs.filter(own) ?? [],
          deliveries,
          conversation: agent?.runs ?? [],
          connections,
          logged: this.#logged(session, turn),
          ends: await this.#ends(turn.id),
          viewed: await this.#viewed(turn.id),
        })
      }
    return {
      told,
      branches: branches.length,
      typed: agents.flatMap((it) => it.runs).filter((run) => run.interaction === ''),
    }
  }

  /** Asks whichever replica answers. */
  #ask<T>(path: string, body?: unknown, key?: string): Promise<T> {
    return eventually(
      async () => {
        const answer = await api<T>(this.url(), path, body, { headers: key ? { 'idempotency-key': key } : {} })
        if (answer.status >= 500) throw new Error(String(answer.status))
        return answer.body
      },
      { limitMs: 30_000 },
    ) as Promise<T>
  }

  async #post(
    session: SessionId,
    text: string,
    key: string,
    { helix = false, interrupt = false }: { helix?: boolean; interrupt?: boolean },
  ): Promise<InteractionId> {
    const path = `/sessions/${session}/messages`
    if (!helix) return (await this.#ask<{ interaction: InteractionId }>(path, { text }, key)).interaction
    return (await this.#ask<{ prompt_id: InteractionId }>(path, { content: text, interrupt }, key)).prompt_id
  }

  #logged(session: SessionId, { startedAt, endedAt }: Turn): string[] {
    const lines = this.#net.replicas.flatMap(({ id, logs }) => logs.map((line) => ({ ...line, by: id }) as LogLine))
    return lines
      .map((line) => ({ line, at: new Date(line.time).getTime() }))
      .filter(({ line, at }) => at >= startedAt && at <= endedAt && JSON.stringify(line).includes(session.slice(4)))
      .toSorted((a, b) => a.at - b.at)
      .map(({ line, at }) => `${at - startedAt} ${line.by} ${line.event} ${line.request?.slice(-4) ?? ''}`)
  }

  #turn = (id: InteractionId): Promise<Turn> => this.#ask<Turn>(`/interactions/${id}`)

  #turnsOf = async (session: SessionId): Promise<Turn[]> =>
    (await this.#ask<{ interactions: Turn[] }>(`/sessions/${session}/interactions?limit=100`)).interactions

  #settled = (session: SessionId): Promise<true> =>
    eventually(async () => (await this.#turnsOf(session)).every(ended), PATIENT)

  async #ends(id: InteractionId): Promise<number> {
    const text = await (await fetch(`${this.url()}/api/v1/interactions/${id}/events`)).text()
    return [...text.matchAll(/^event: (completed|failed|cancelled)$/gm)].length
  }

  async #viewed(id: InteractionId): Promise<string | undefined> {
    const viewer = this.#viewers.get(id)
    await viewer?.done
    return viewer && outputText(viewer.turn)
  }
}

const ended = (turn: Turn): boolean => ['completed', 'failed', 'cancelled'].includes(turn.status)
