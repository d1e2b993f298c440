import { z } from 'zod'
import { PoolName } from './agent-wire.js'

const DAY_MS = 24 * 3600_000
const whole = (min: number, max: number) =>
  z
    .number('must be a number')
    .refine((n) => Number.isInteger(n) && n >= min && n <= max, `must be a whole number from ${min} to ${max}`)
const ms = (min = 1) => whole(min, 31 * DAY_MS)
const oneOf = <const T extends string>(...words: [T, ...T[]]) => z.enum(words, `must be ${words.join(' or ')}`)

/** How the turns of one pool are treated. Times in ms. The settings of the same names are the defaults. */
export const Policy = z.strictObject({
  /** An agent lost after its first output: fail the turn, or begin it anew. */
  onAgentLoss: oneOf('fail', 'retry'),
  /** Longest wait for a first agent; then `agent_unavailable`. */
  agentWaitMs: ms(),
  /** Longest time from the start of a turn to its first output; then `stale`. */
  staleAfterMs: ms(),
  /** Longest silence of an agent; then `agent_silent`. */
  agentSilentMs: ms(),
  /** A tool call in progress excuses silence for so long. */
  toolLimitMs: ms(),
  /** How often a turn is handed to agents; then `attempts_exhausted`. */
  maxAttempts: whole(1, 100),
  /** Messages that may wait in one session; one more is refused with `queue_full`. */
  queueLimit: whole(0, 100_000),
  /** How long a session waits for the agent that has its thread, while that one is here but busy. */
  stickyWaitMs: ms(0),
  /** Whom `agent.wanted` asks for: one more agent of the pool, or one for the session that waits. */
  agentPer: oneOf('pool', 'session'),
})
export type Policy = z.infer<typeof Policy>

/** Policies that differ from the defaults, by pool. */
export type PoolPolicies = Readonly<Record<string, Partial<Policy>>>

/**
 * Reads `{"<pool>": {"<field>": …}}`. Every problem names pool and field: `coder.agentWaitMs: must be …`.
 */
export function parsePoolPolicies(text: string): { policies: PoolPolicies; problems: string[] } {
  let given: unknown
  try {
    given = text === '' ? {} : JSON.parse(text)
  } catch {
    given = undefined
  }
  if (!isObject(given)) return { policies: {}, problems: ['must be JSON like {"coder": {"onAgentLoss": "retry"}}'] }
  const problems: string[] = []
  const policies: Record<string, Partial<Policy>> = Object.create(null) as Record<string, Partial<Policy>>
  for (const [pool, fields] of Object.entries(given)) {
    if (!PoolName.safeParse(pool).success) problems.push(`"${pool}": is not the name of a pool`)
    const parsed = Policy.partial().safeParse(fields)
    if (parsed.success) policies[pool] = parsed.data
    else problems.push(...parsed.error.issues.map((issue) => problem(pool, issue)))
  }
  return { policies, problems }
}

function problem(pool: string, issue: z.core.$ZodIssue): string {
  if (issue.code === 'unrecognized_keys')
    return `${issue.keys.map((key) => `${pool}.${key}`).join(', ')}: unknown; a pool has ${Object.keys(Policy.shape).join(', ')}`
  if (issue.path.length === 0) return `${pool}: must be an object of settings`
  return `${[pool, ...issue.path].join('.')}: ${issue.message}`
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
