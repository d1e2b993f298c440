import type { Response } from 'express'
import type { Count } from '../../protocol/count.js'
import { ThroughlineError } from '../../protocol/errors.js'
import type { Call } from './call.js'
import type { HttpParts } from './parts.js'
import type { Paced } from './quotas.js'

/** How a surface tells of counts beside the standard headers. */
export type TellCounts = (counts: ReadonlyMap<Paced, Count>) => Record<string, string>

/**
 * Counts a request against its owner's limit, once, and says in the headers what is left. Throws `rate_limit_exceeded`.
 */
export async function pace(
  parts: Pick<HttpParts, 'rates' | 'observe'>,
  call: Call,
  res: Response,
  what: Paced,
  { owner = call.owner, tell = () => ({}) }: { owner?: string; tell?: TellCounts | undefined } = {},
): Promise<void> {
  const count = parts.rates[what]
  if (!count || call.counts.has(what)) return // a request may be looked at by two surfaces
  const counted = await count(owner)
  call.counts.set(what, counted)
  res.set({ ...standardHeaders(call.counts), ...tell(call.counts) })
  if (!counted.exceeded) return
  parts.observe?.limited(what)
  throw new ThroughlineError('rate_limit_exceeded', {
    message: `At most ${counted.limit} ${what} in ${counted.windowMs / 1000} s.`,
    retryAfterS: secondsOf(counted.resetMs),
  })
}

/** `RateLimit` and `RateLimit-Policy` of the IETF (draft-ietf-httpapi-ratelimit-headers-10). */
function standardHeaders(counts: ReadonlyMap<Paced, Count>): Record<string, string> {
  const all = [...counts]
  return {
    'RateLimit-Policy': all
      .map(([name, { limit, windowMs }]) => `"${name}";q=${limit};w=${windowMs / 1000}`)
      .join(', '),
    RateLimit: all
      .map(([name, { remaining, resetMs }]) => `"${name}";r=${remaining};t=${secondsOf(resetMs)}`)
      .join(', '),
  }
}

const secondsOf = (ms: number): number => Math.max(Math.ceil(ms / 1000), 1)
