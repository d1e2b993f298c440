import type { Request } from 'express'
import type { Once } from '../../core/core.js'
import { ThroughlineError } from '../../protocol/errors.js'

/**
 * How this POST is recognised when it comes again. `aside` names the fields of the body that say how to answer, not
 * what was asked: the same message may be asked for as a stream the second time. `besides` is what else makes the
 * request what it is, such as a session named in a header.
 */
export function onceOf(req: Request, aside: readonly string[], besides: Record<string, unknown> = {}): Once {
  const key = idempotencyKey(req)
  const asked = Object.entries(req.body as object).filter(([field]) => !aside.includes(field))
  return {
    ...(key !== undefined && { key }),
    route: `${req.method} ${req.baseUrl}${req.path}`,
    body: canonical({ ...besides, body: Object.fromEntries(asked) }),
    retry: Number(req.get('x-stainless-retry-count') ?? 0) >= 1, // OpenAI's SDKs say so, and send no key
  }
}

/** The `Idempotency-Key` header without the quotes of the IETF draft. Throws `invalid_request`. */
function idempotencyKey(req: Request): string | undefined {
  const given = req.get('idempotency-key')
  if (given === undefined) return undefined
  const key = /^"(.*)"$/.exec(given)?.[1] ?? given
  if (/^[\x21-\x7e]{1,255}$/.test(key)) return key
  throw new ThroughlineError('invalid_request', {
    message: 'Idempotency-Key must be 1 to 255 visible ASCII characters without blanks.',
    param: 'Idempotency-Key',
  })
}

/** JSON with the keys of every object in order: equal values, equal texts. */
export const canonical = (value: unknown): string => JSON.stringify(value, (_key, part: unknown) => sorted(part))

const sorted = (part: unknown): unknown =>
  typeof part === 'object' && part !== null && !Array.isArray(part)
    ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
    : part
