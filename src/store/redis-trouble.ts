import { Redis } from 'ioredis'
import type { Where } from './redis-where.js'

/** Why Redis cannot be used, and what to do: a sentence or two. */
export interface Trouble {
  what: string
  /** It will not pass by waiting. */
  lasting: boolean
}

type Side = 'redis' | 'sentinel'

/** How long one server may take to answer, ms. */
const PROBE_MS = 2000

/** What a failed connection means. The first that fits. */
const MEANINGS: [RegExp, (side: Side, secure: boolean) => string, lasting?: 'lasting'][] = [
  [
    /SELF_SIGNED|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER|DEPTH_ZERO/,
    () =>
      'its certificate was signed by nobody who is known here. Set REDIS_CA_FILE to the certificate of who signed it',
    'lasting',
  ],
  [/CERT_HAS_EXPIRED|CERT_NOT_YET/, () => 'its certificate is not valid today. Renew it, or set the clock', 'lasting'],
  [
    /ALTNAME/,
    () =>
      'its certificate is for other names. Name it in REDIS_URL (a Sentinel, Cluster or replica: in what it announces) as the certificate does, or give it one for this name',
    'lasting',
  ],
  [
    /CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE|UNKNOWN_CA|BAD_CERTIFICATE/i,
    () => 'it does not let us in without a certificate that it knows. Set REDIS_CERT_FILE and REDIS_KEY_FILE',
    'lasting',
  ],
  [
    /WRONG_VERSION|wrong version number|packet length too long|EPROTO/i,
    () => 'it does not speak TLS at this port. Name the port that does; redis:// without the second s is not encrypted',
    'lasting',
  ],
  [
    /WRONGPASS/,
    (side) =>
      `user or password is wrong, or the user is off. Correct ${side === 'redis' ? 'them in REDIS_URL, percent-encoded' : 'REDIS_SENTINEL_USERNAME and REDIS_SENTINEL_PASSWORD'}`,
    'lasting',
  ],
  [
    /NOAUTH/,
    (side) =>
      `it asks for a password. ${side === 'redis' ? 'Put it into REDIS_URL: redis://user:password@…, percent-encoded' : 'Set REDIS_SENTINEL_PASSWORD'}`,
    'lasting',
  ],
  [/NOPERM/, () => 'the user has too few rights. Give it those that docs/operations.md lists', 'lasting'],
  [
    /No such master/,
    () => 'it knows no master by this name. End REDIS_URL with the name in its line "sentinel monitor"',
    'lasting',
  ],
  [
    /cluster support disabled/,
    () => 'it is no Cluster. Begin REDIS_URL with redis:// (rediss:// for TLS), without +cluster',
    'lasting',
  ],
  [/DB index is out of range/, () => 'it has no database of this number. Correct the end of REDIS_URL', 'lasting'],
  [/unknown command .?sentinel/i, () => 'it is no Sentinel. Name the Sentinels in REDIS_URL, not Redis', 'lasting'],
  [/ECONNREFUSED/, () => 'nothing listens there. Start it, or set REDIS_URL to one that runs'],
  [/ENOTFOUND|EAI_AGAIN/, () => 'there is no such host. Correct REDIS_URL, or the name service'],
  [
    /ETIMEDOUT|no answer/,
    (_, secure) =>
      `it does not answer within ${PROBE_MS} ms. Is the address right, and open to us${secure ? ', and does it speak TLS' : ''}?`,
  ],
  [
    /ECONNRESET|Connection is closed|EPIPE|socket disconnected/,
    (_, secure) =>
      secure
        ? 'it closed the connection. Does it speak TLS at this port, and does it ask for a certificate (REDIS_CERT_FILE)?'
        : 'it closed the connection, as a port for TLS does. If it is one, begin REDIS_URL with rediss',
  ],
]

/** What an error of a connection to Redis or to a Sentinel means to who set it up. */
export function meaningOf(err: Error, side: Side, secure: boolean): Trouble {
  const text = `${(err as NodeJS.ErrnoException).code ?? ''} ${err.message}`
  const found = MEANINGS.find(([pattern]) => pattern.test(text))
  const detail = err.message.trim().split('\n')[0]!
  if (!found) return { what: `it says: ${detail}`, lasting: false }
  return { what: `${found[1](side, secure)} (${detail})`, lasting: found[2] !== undefined }
}

/** Asks the servers of REDIS_URL directly, one after the other, what is wrong; undefined when all answer as they should. */
export async function troubleAt(where: Where): Promise<Trouble | undefined> {
  const { kind, nodes, db, master } = where
  let passing: Trouble | undefined
  for (const node of nodes) {
    const found = await (kind === 'sentinel' ? viaSentinel(node) : askOnce(where, 'redis', node, askRedis))
    if (!('trouble' in found)) continue
    if (found.trouble.lasting) return found.trouble
    passing ??= found.trouble
  }
  return passing

  async function viaSentinel(node: Where['nodes'][0]) {
    const found = await askOnce(where, 'sentinel', node, async (sentinel) => {
      const address = (await sentinel.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', master)) as [string, string] | null
      if (!address) throw new Error('ERR No such master with that name')
      return { host: address[0], port: Number(address[1]) }
    })
    return 'trouble' in found ? found : askOnce(where, 'redis', found.answer, askRedis)
  }

  async function askRedis(redis: Redis): Promise<void> {
    if (kind === 'cluster') await redis.cluster('INFO')
    else if (db !== 0) await redis.select(db)
    else await redis.ping()
  }
}

/** Asks one server by a connection of its own. */
export async function askOnce<T>(
  where: Where,
  side: Side,
  node: Where['nodes'][0],
  ask: (redis: Redis) => Promise<T>,
): Promise<{ answer: T } | { trouble: Trouble }> {
  const { tls } = where.auth
  const { sentinelUsername: username, sentinelPassword: password } = where.sentinelAuth
  const ofSentinel = { ...(tls && { tls }), ...(username && { username }), ...(password && { password }) }
  const redis = new Redis({
    ...(side === 'redis' ? where.auth : ofSentinel),
    ...node,
    lazyConnect: true,
    retryStrategy: () => null,
    enableReadyCheck: false,
    maxRetriesPerRequest: 0,
    connectTimeout: PROBE_MS,
    commandTimeout: PROBE_MS,
  })
  let first: Error | undefined // says more than that the connection is closed
  redis.on('error', (err: Error) => (first ??= err))
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer')), 2 * PROBE_MS)
  })
  try {
    return { answer: await Promise.race([redis.connect().then(() => ask(redis)), limit]) }
  } catch (err) {
    const { what, lasting } = meaningOf(first ?? (err as Error), side, tls !== undefined)
    const name = `${side === 'sentinel' ? 'Sentinel' : 'Redis'} ${node.host}:${node.port}`
    return { trouble: { what: `${name}: ${what}`, lasting } }
  } finally {
    clearTimeout(timer)
    redis.disconnect()
  }
}
