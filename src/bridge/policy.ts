import type { PermissionOption, RequestPermissionOutcome } from '@agentclientprotocol/sdk'
import type { PermissionOption as OurOption } from '../protocol/events.js'

/** What to do when the agent asks: say yes, say no, or ask the client. */
export type PermissionPolicy = 'allow' | 'deny' | 'ask'

/** More options than this cannot be shown. */
const MOST = 16

/**
 * The agent's options as ours, and back again. Ids of theirs that we cannot carry (too long, empty, or twice the same)
 * get one of ours.
 */
export function optionsOf(theirs: PermissionOption[]): { options: OurOption[]; theirs: Map<string, string> } {
  const back = new Map<string, string>()
  const options = theirs.slice(0, MOST).map(({ optionId, name, kind }, i) => {
    const fits = optionId !== '' && optionId.length <= 128 && !back.has(optionId)
    const id = fits ? optionId : `option-${i + 1}`
    back.set(id, optionId)
    return { id, name: name.slice(0, 512), kind }
  })
  return { options, theirs: back }
}

/** The option that says yes or no; once rather than for ever. Null when there is none: then only not answering is left. */
export function pick(options: OurOption[], say: 'allow' | 'reject'): string | null {
  const of = (kind: OurOption['kind']) => options.find((option) => option.kind === kind)?.id
  return of(`${say}_once`) ?? of(`${say}_always`) ?? null
}

/** The answer for the agent. */
export const outcome = (optionId: string | null | undefined): RequestPermissionOutcome =>
  optionId === null || optionId === undefined ? { outcome: 'cancelled' } : { outcome: 'selected', optionId }
