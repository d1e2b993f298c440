import type { RedisOptions } from 'ioredis'

/** How Redis is reached: REDIS_URL, and what does not fit into it. */
export interface RedisSettings {
  url: string
  /** PEM: who signed Redis's certificate, in place of the authorities that Node knows. */
  ca?: string
  /** PEM: the certificate that is shown to Redis, and its key. */
  cert?: string
  key?: string
  /** What the Sentinels themselves ask for. */
  sentinelUsername?: string
  sentinelPassword?: string
}

/** Redis cannot be used; the message says why and what to do. */
export class RedisRequired extends Error {}

/** A REDIS_URL taken apart. */
export interface Where {
  kind: 'single' | 'sentinel' | 'cluster'
  nodes: { host: string; port: number }[]
  auth: Pick<RedisOptions, 'username' | 'password' | 'tls'>
  sentinelAuth: Pick<RedisOptions, 'sentinelUsername' | 'sentinelPassword'>
  db: number
  /** What the Sentinels call the master. */
  master: string
  /** The URL without its password, for messages. */
  shown: string
}

/** A URL without its password; that may hold an @ which nobody encoded. */
export const withoutPassword = (url: string): string => url.replace(/\/\/.*@/s, '//***@')

/** Throws RedisRequired for what is no address of a Redis. */
export function whereIs({ url, ca, cert, key, sentinelUsername, sentinelPassword }: RedisSettings): Where {
  const shown = withoutPassword(url)
  const wrong = (why: string) => new RedisRequired(`REDIS_URL ${shown}: ${why}`)
  const match = /^redis(s?)(?:\+(sentinel|cluster))?:\/\/(?:(.*)@)?([^@/?]+)(?:\/([^@?]*))?$/.exec(url)
  if (!match)
    throw new RedisRequired(
      `REDIS_URL must look like redis://host:6379, redis+sentinel://host:26379/master or redis+cluster://host:6379 (rediss for TLS), not ${shown}`,
    )
  const [, secure, given, credentials = '', hosts, path = ''] = match
  const kind = (given as 'sentinel' | 'cluster' | undefined) ?? 'single'
  const nodes = hosts!.split(',').map((text) => {
    const [, host = '', port = kind === 'sentinel' ? '26379' : '6379'] = /^(\[.+\]|[^:]+)(?::(\d+))?$/.exec(text) ?? []
    if (host === '' || Number(port) < 1 || Number(port) > 65535) throw wrong(`"${text}" is no host:port`)
    return { host: host.replace(/^\[|\]$/g, ''), port: Number(port) }
  })
  if (kind === 'single' && nodes.length > 1)
    throw wrong('one server has one address; several are redis+sentinel:// or redis+cluster://')
  if (kind === 'single' && !/^\d*$/.test(path)) throw wrong('what follows the last / is the number of a database')
  if (kind === 'cluster' && path !== '' && path !== '0') throw wrong('a Cluster has no databases')
  if (kind === 'sentinel' && path === '')
    throw wrong('name the master as the Sentinels call it: redis+sentinel://host:26379,host:26379/name')
  const at = credentials.indexOf(':')
  const decoded = (text: string) => {
    try {
      return decodeURIComponent(text)
    } catch {
      throw wrong('user and password must be percent-encoded: % as %25, / as %2F, @ as %40, : as %3A')
    }
  }
  const username = decoded(at < 0 ? credentials : credentials.slice(0, at))
  const password = at < 0 ? '' : decoded(credentials.slice(at + 1))
  return {
    kind,
    nodes,
    auth: {
      ...(username && { username }),
      ...(password && { password }),
      ...(secure && { tls: { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) } }),
    },
    sentinelAuth: { ...(sentinelUsername && { sentinelUsername }), ...(sentinelPassword && { sentinelPassword }) },
    db: kind === 'single' ? Number(path) : 0,
    master: kind === 'sentinel' ? path : '',
    shown,
  }
}
