import type { LogEvent } from '../protocol/events.js'
import { isTerminal } from '../protocol/interaction.js'
import type { InteractionId } from '../protocol/ids.js'
import type { Policy } from '../protocol/policy.js'
import type { StoredLease } from '../store/leases.js'
import type { TurnSummary } from '../store/turns.js'

/** So many periods of the sweep late, and nobody looks any more. */
const LATE_PERIODS = 3

/** What is known of a turn in flight. Times in ms of Redis time. */
export interface Facts {
  now: number
  turn: TurnSummary
  /** The turn that has its session's one place. */
  current: InteractionId | ''
  /** How many wait in the session, and this one's place among them, from 1. */
  queued: number
  queuePlace: number
  lease: StoredLease | undefined
  /** Whether the lease's replica beats. */
  replicaLives: boolean
  /** The agent whose lease ran out although nobody gave it up, and until when it may come back. */
  missed: { agent: string; until: number } | undefined
  place: { line: 'own' | 'pool'; position: number; waiting: number } | undefined
  /** Agents of its pool that are here, and their free places. */
  agents: number
  free: number
  lookAt: number | undefined
  last: LogEvent | undefined
  /** What excuses the agent's silence: a tool call in progress, or a question to the client. */
  excuse: 'tool' | 'permission' | undefined
  policy: Policy
  sweepEveryMs: number
}

export interface Diagnosis {
  /** Past its deadline, or past the time at which somebody should have looked at it. */
  stuck: boolean
  /** Where it hangs, in a sentence; with what to do, where something can be done. */
  why: string
  /** When it will be ended if nothing happens, and with which code. */
  deadline: { at: number; code: string } | null
}

/** When a turn is ended by the sweep if nothing happens to it; null for one that is queued or has ended. */
export function deadlineOf(
  turn: Pick<TurnSummary, 'status' | 'attempt' | 'startedAt' | 'lastActivityAt'>,
  policy: Policy,
): { at: number; code: string } | null {
  if (turn.status === 'streaming')
    return { at: Math.max(turn.lastActivityAt, turn.startedAt) + policy.agentSilentMs, code: 'agent_silent' }
  if (turn.status !== 'waiting') return null
  const stale = { at: turn.startedAt + policy.staleAfterMs, code: 'stale' }
  const unavailable = { at: turn.startedAt + policy.agentWaitMs, code: 'agent_unavailable' }
  return turn.attempt === 0 && unavailable.at < stale.at ? unavailable : stale
}

/** Whether a turn is past its deadline, or nobody has looked at it in time. */
export function isStuck(
  turn: TurnSummary,
  lookAt: number | undefined,
  { now, policy, sweepEveryMs }: Pick<Facts, 'now' | 'policy' | 'sweepEveryMs'>,
): boolean {
  const late = now - LATE_PERIODS * sweepEveryMs
  const deadline = deadlineOf(turn, policy)
  return (lookAt !== undefined && lookAt < late) || (deadline !== null && deadline.at < late)
}

/** Where a turn hangs, and why it was not delivered. */
export function diagnose(facts: Facts): Diagnosis {
  const { turn, policy } = facts
  return { stuck: isStuck(turn, facts.lookAt, facts), why: why(facts), deadline: deadlineOf(turn, policy) }
}

function why(facts: Facts): string {
  const { now, turn, current, queued, queuePlace, lease, missed, lookAt, last, sweepEveryMs } = facts
  const unwatched = lookAt !== undefined && lookAt < now - LATE_PERIODS * sweepEveryMs
  const sweep = unwatched ? ` No sweep has looked at it for ${span(now - lookAt)}: see \`throughline doctor\`.` : ''
  if (isTerminal(turn.status)) {
    const error = turn.error ? `: ${turn.error.code}, ${turn.error.message}` : ''
    return `It has ended, ${turn.status}${error}${turn.sealed ? '.' : '; its result is not kept yet.'}${turn.sealed ? '' : sweep}`
  }
  if (turn.status === 'queued')
    return `It is ${queuePlace || '?'} of ${queued} that wait behind the turn in flight of its session, ${current || 'none'}.${sweep}`
  if (!lease && missed && now < missed.until)
    return `The lease of agent ${missed.agent} ran out: its replica hangs, or is gone with its machine. The agent has ${span(missed.until - now)} more to come back to another.${sweep}`
  if (!lease) return `${withoutAgent(facts)}${sweep}`
  const holder = `agent ${lease.agent}`
  if (!lease.connected)
    return `The connection of ${holder} is lost; it has ${span(lease.ttlMs)} more to come back.${sweep}`
  const at = `${holder} at replica ${lease.replica}`
  if (!facts.replicaLives)
    return `It is with ${at}, and that replica does not beat any more; the lease ends in ${span(lease.ttlMs)}, then another agent can have the session.${sweep}`
  if (turn.request === '') return `${at} has the session, and has not been given the turn yet.${sweep}`
  const heard = `${span(now - turn.lastActivityAt)} ago${last ? ` (${last.type})` : ''}`
  if (facts.excuse)
    return `With ${at}, attempt ${turn.attempt}, last heard ${heard}; ${
      facts.excuse === 'tool' ? 'a tool call in progress' : 'a question to the client that is not answered'
    } excuses its silence.${sweep}`
  if (turn.status === 'waiting')
    return `Given to ${at} ${span(now - turn.dispatchedAt)} ago, attempt ${turn.attempt}, and it has not begun to answer.${sweep}`
  return `With ${at}, attempt ${turn.attempt}, last heard ${heard}.${sweep}`
}

function withoutAgent({ turn, place, agents, free }: Facts): string {
  const stands = place
    ? `It is ${place.position} of ${place.waiting} in the line of ${place.line === 'own' ? 'the agent that has its thread' : `pool ${turn.pool}`}`
    : 'No agent has it and it stands in no line (the next look puts it there)'
  const again = turn.attempt > 0 ? `; its agent was lost, ${turn.attempt} attempt(s) so far` : ''
  if (agents === 0) return `${stands}${again}; no agent of the pool is connected: start one.`
  if (free === 0) return `${stands}${again}; all ${agents} agent(s) are full: more of them, or more capacity.`
  return `${stands}${again}; ${free} place(s) are free at ${agents} agent(s), so it should be taken at once: look at their logs.`
}

/** A length of time for people: `850 ms`, `12 s`, `3 min`, `5 h`, `2 d`. */
export function span(ms: number): string {
  if (ms < 1000) return `${Math.max(Math.round(ms), 0)} ms`
  if (ms < 120_000) return `${Math.round(ms / 1000)} s`
  if (ms < 2 * 3600_000) return `${Math.round(ms / 60_000)} min`
  if (ms < 48 * 3600_000) return `${Math.round(ms / 3600_000)} h`
  return `${Math.round(ms / (24 * 3600_000))} d`
}
