import { jwtVerify, SignJWT } from 'jose'
import { isSessionId, type SessionId } from '../protocol/ids.js'

/** What a token opens, of one session: `agent` its agent's connection, `stream` reading its event streams. */
export type TokenUse = 'agent' | 'stream'

/** Signed, expiring tokens for one session each. */
export interface Tokens {
  /** A token that is good for `ttlMs`, and up to a second more; compact JWT, URL-safe. */
  mint(use: TokenUse, session: SessionId, ttlMs: number): Promise<string>
  /** The session that the token opens for this use; undefined for one that is forged, expired or meant for another use. */
  verify(use: TokenUse, token: string): Promise<SessionId | undefined>
  /** As `verify`, with the end of its life in ms since 1970. */
  open(use: TokenUse, token: string): Promise<{ session: SessionId; expiresAt: number } | undefined>
}

const ISSUER = 'throughline'

/** Tokens signed with `secret` (HS256, RFC 7519). The first secret signs, all verify, so that secrets can be rotated. */
export function tokens(secrets: readonly string[]): Tokens | undefined {
  const keys = secrets.map((secret) => new TextEncoder().encode(secret))
  const signing = keys[0]
  if (!signing) return undefined
  const open: Tokens['open'] = async (use, token) => {
    for (const key of keys) {
      const found = await jwtVerify(token, key, { issuer: ISSUER, audience: use, algorithms: ['HS256'] }).catch(
        () => undefined,
      )
      const { sub: session, exp = 0 } = found?.payload ?? {}
      if (session !== undefined && isSessionId(session)) return { session, expiresAt: exp * 1000 }
    }
    return undefined
  }
  return {
    open,
    verify: async (use, token) => (await open(use, token))?.session,
    mint: (use, session, ttlMs) =>
      new SignJWT()
        .setProtectedHeader({ alg: 'HS256' })
        .setIssuer(ISSUER)
        .setAudience(use)
        .setSubject(session)
        .setIssuedAt()
        .setExpirationTime(Math.ceil((Date.now() + ttlMs) / 1000)) // whole seconds: never sooner than asked
        .sign(signing),
  }
}
