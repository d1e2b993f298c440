import type { IncomingHttpHeaders } from 'node:http'
import cors from 'cors'
import type { RequestHandler } from 'express'
import { ThroughlineError } from '../../protocol/errors.js'

/** Which web pages may talk to the gateway. */
export interface OriginPolicy {
  /** Origins that are let in (`https://app.example.com`), or `*` alone for all. Empty: none but our own pages. */
  origins: readonly string[]
  /** Where no keys are configured: only this machine may call, whatever name it was called by. */
  loopbackOnly: boolean
}

/** What a page may read of an answer beside its body. */
const EXPOSED = [
  'x-request-id',
  'throughline-session-id',
  'throughline-interaction-id',
  'X-Interaction-ID',
  'Idempotent-Replayed',
  'Location',
  'Content-Disposition',
  'Retry-After',
  'RateLimit',
  'RateLimit-Policy',
  'x-ratelimit-limit-requests',
  'x-ratelimit-remaining-requests',
  'x-ratelimit-reset-requests',
  'x-should-retry',
]

/** For so long a browser need not ask again, in seconds; Chromium's limit. */
const PREFLIGHT_S = 7200

const lists = ({ origins }: OriginPolicy, origin: string): boolean => origins.includes('*') || origins.includes(origin)

/**
 * Answers preflights of the pages that are let in, and lets them read answers. Never with credentials: keys come in
 * headers that a page sets itself, so nothing here rides on what a browser adds by itself.
 */
export function crossOrigin({ origins }: OriginPolicy): RequestHandler {
  const answer = cors({
    origin: origins.includes('*') ? '*' : [...origins],
    methods: ['GET', 'HEAD', 'POST', 'DELETE'],
    exposedHeaders: EXPOSED,
    maxAge: PREFLIGHT_S,
  })
  return (req, res, next) => {
    const plainOptions = req.method === 'OPTIONS' && req.headers['access-control-request-method'] === undefined
    if (plainOptions)
      next() // the route tells its methods
    else answer(req, res, next)
  }
}

/**
 * Without keys, whoever reaches the port may do anything. So a name that merely resolves to this machine (DNS rebinding)
 * and a page from elsewhere (its `Origin`) are refused. Doors beside Express (WebSocket) ask `refusesSocket`.
 */
export const refuseForeign =
  (policy: OriginPolicy): RequestHandler =>
  (req, _res, next) => {
    const { host, origin } = req.headers
    if (isLoopback(host) && (origin === undefined || isLoopback(hostOf(origin)) || lists(policy, origin))) return next()
    throw new ThroughlineError('invalid_request', {
      message: 'Without configured keys this gateway answers local callers only: use localhost or 127.0.0.1.',
      param: isLoopback(host) ? 'Origin' : 'Host',
    })
  }

/**
 * Why a WebSocket is refused, as a sentence; undefined when it is not. A browser asks nobody before it opens one to any
 * host, but always names the page's origin; programs name none. Pages served under the gateway's own name are let in.
 */
export function refusesSocket(
  policy: OriginPolicy,
  { host, origin }: Pick<IncomingHttpHeaders, 'host' | 'origin'>,
): string | undefined {
  if (policy.loopbackOnly && !isLoopback(host))
    return 'Without configured keys this gateway takes callers of this machine only.'
  if (origin === undefined || lists(policy, origin) || hostOf(origin) === host) return undefined
  return 'Pages of this origin may not connect; CORS_ORIGINS says which may.'
}

/** Whether a `Host` header (or the host of an origin) names this machine itself. */
function isLoopback(host: string | undefined): boolean {
  return host !== undefined && /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?$/i.test(host)
}

const hostOf = (origin: string): string => origin.replace(/^https?:\/\//i, '')
