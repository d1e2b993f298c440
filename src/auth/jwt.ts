import { createLocalJWKSet, createRemoteJWKSet, errors, jwtVerify, type JWTPayload, type JWTVerifyGetKey } from 'jose'
import { isOwner, MAX_OWNER } from '../protocol/api-key.js'
import { ThroughlineError } from '../protocol/errors.js'

/** Whose tokens are accepted. */
export interface JwtSettings {
  /** Where the issuer publishes its public keys (JWKS, RFC 7517). */
  jwksUrl: string
  issuer: string
  /** Any of these must be in `aud`. */
  audience: string[]
  /** The claim that names the owner. */
  ownerClaim: string
}

export interface JwtLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}

/** The owner that a token names, and when it expires (ms since 1970); undefined for what no key of the issuer signed. */
export type VerifyJwt = (token: string) => Promise<{ owner: string; expiresAt: number } | undefined>

/** Only what is signed with a private key: a public key must never do as a secret. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519']
/** How far clocks may be apart, s. */
const CLOCK_TOLERANCE_S = 30
/** How the issuer's keys are read; all in ms. */
export interface JwksPace {
  /** Longest wait for an answer. */
  timeout: number
  /** They are read anew after so long. */
  maxAge: number
  /** For a `kid` that is not among them, at most so often. */
  cooldown: number
  /** After a failure not before. */
  retry: number
  /** Keys that were read are used so long although they cannot be read anew. */
  lately: number
}
const PACE: JwksPace = { timeout: 3000, maxAge: 600_000, cooldown: 10_000, retry: 5000, lately: 3600_000 }

/**
 * Verifies JWTs of one issuer. The given function throws `unauthorized` with the reason for a token that the issuer signed
 * and that is not good here, and `issuer_unavailable` when its keys cannot be had: such a token is neither accepted nor
 * called wrong. Begins to read the keys at once, so that a wrong address is told at start.
 */
export function jwtAuth(settings: JwtSettings, log: JwtLog, pace = PACE): VerifyJwt {
  const { issuer, audience, ownerClaim } = settings
  const keyFor = issuerKeys(settings.jwksUrl, log, pace)
  return async (token) => {
    let payload: JWTPayload
    try {
      const verified = await jwtVerify(token, keyFor, {
        issuer,
        audience,
        algorithms: ALGORITHMS,
        clockTolerance: CLOCK_TOLERANCE_S,
        requiredClaims: ['exp', ownerClaim],
      })
      payload = verified.payload
    } catch (err) {
      if (err instanceof errors.JWTExpired || err instanceof errors.JWTClaimValidationFailed)
        throw new NotGoodHere('unauthorized', { message: reasonOf(err, settings) })
      if (err instanceof errors.JOSEError) return undefined
      if (err instanceof ThroughlineError) throw err
      log.warn({ event: 'issuer_unavailable', err }, 'a key of JWT_ISSUER cannot be used; its JWTs are answered 503')
      throw new ThroughlineError('issuer_unavailable', { cause: err })
    }
    const owner = payload[ownerClaim]
    if (typeof owner !== 'string' || !isOwner(owner))
      throw new NotGoodHere('unauthorized', {
        message: `The claim "${ownerClaim}" of the token is not a text of 1 to ${MAX_OWNER} printable characters.`,
      })
    return { owner, expiresAt: (payload.exp! + CLOCK_TOLERANCE_S) * 1000 }
  }
}

/** What the issuer has signed is of no use here: it has expired, or is for others. Nobody guesses such a thing. */
export class NotGoodHere extends ThroughlineError {}

/** Signed by the issuer, so its bearer may know what is wrong. */
function reasonOf(err: errors.JWTExpired | errors.JWTClaimValidationFailed, { ownerClaim }: JwtSettings): string {
  if (err instanceof errors.JWTExpired) return 'The token has expired. Get a new one.'
  switch (err.claim) {
    case 'iss':
      return 'The token is of another issuer ("iss") than this gateway accepts.'
    case 'aud':
      return 'The token is not meant for this gateway: its audience ("aud") is another.'
    case 'nbf':
      return 'The token is not valid yet ("nbf").'
    default:
      return err.claim === ownerClaim || err.claim === 'exp'
        ? `The token has no claim "${err.claim}".`
        : `The claim "${err.claim}" of the token is not as it must be.`
  }
}

/** The issuer's key for a token. Throws `issuer_unavailable`; what jose throws means that there is no such key. */
function issuerKeys(url: string, log: JwtLog, pace: JwksPace): JWTVerifyGetKey {
  const remote = createRemoteJWKSet(new URL(url), {
    timeoutDuration: pace.timeout,
    cooldownDuration: pace.cooldown,
    cacheMaxAge: pace.maxAge,
  })
  let freshAt = 0
  let failedAt = 0
  let known: JWTVerifyGetKey | undefined

  function failed(err: unknown): void {
    if (Date.now() - failedAt < pace.retry) return // said by another who waited for the same answer
    failedAt = Date.now()
    const jwks = remote.jwks()
    known = jwks && createLocalJWKSet(jwks)
    const minutes = Math.round((freshAt + pace.lately - failedAt) / 60_000)
    const meanwhile =
      minutes > 0
        ? `tokens by keys that are known are accepted for ${minutes} more minutes, others are answered 503`
        : 'every JWT is answered 503'
    log.warn(
      { event: 'issuer_unavailable', url, err },
      `the keys of JWT_ISSUER cannot be read; ${meanwhile}: check JWT_JWKS_URL, DNS, outbound rules, its certificate, the issuer`,
    )
  }

  remote.reload().then(() => {
    freshAt = Date.now()
    log.info({ event: 'issuer_keys', url, keys: remote.jwks()?.keys.length }, 'keys of JWT_ISSUER read')
  }, failed)

  return async (header, token) => {
    if (Date.now() - failedAt >= pace.retry) {
      try {
        const key = await remote(header, token)
        freshAt = Date.now()
        return key
      } catch (err) {
        if (isNoKey(err)) throw err
        failed(err)
      }
    }
    try {
      if (known && Date.now() - freshAt < pace.lately) return await known(header, token)
    } catch (err) {
      if (!isNoKey(err)) throw err // else it may be a new one
    }
    throw new ThroughlineError('issuer_unavailable')
  }
}

const isNoKey = (err: unknown): boolean =>
  err instanceof errors.JWKSNoMatchingKey ||
  err instanceof errors.JWKSMultipleMatchingKeys ||
  err instanceof errors.JOSENotSupported
