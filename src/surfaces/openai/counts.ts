import type { TellCounts } from '../http/pace.js'

/** `x-ratelimit-…-requests`, as OpenAI names them, of the count that ends first. */
export const openAiCounts: TellCounts = (counts): Record<string, string> => {
  const [least] = [...counts.values()].sort((a, b) => a.remaining - b.remaining)
  if (!least) return {}
  return {
    'x-ratelimit-limit-requests': String(least.limit),
    'x-ratelimit-remaining-requests': String(least.remaining),
    'x-ratelimit-reset-requests': spoken(least.resetMs),
  }
}

/** As Go writes a duration, to the second: `6m0s`. */
function spoken(ms: number): string {
  const s = Math.max(Math.ceil(ms / 1000), 1)
  const [hours, minutes] = [Math.floor(s / 3600), Math.floor(s / 60) % 60]
  return `${hours ? `${hours}h` : ''}${s >= 60 ? `${minutes}m` : ''}${s % 60}s`
}
