import { AGENT_PROTOCOL, Hello } from '../protocol/agent-wire.js'
import type { SessionId } from '../protocol/ids.js'
import type { ConnectionLog } from './agent-connection.js'

export interface ServeOptions {
  /** Where the gateway is, such as `https://agents.example.com`, or several addresses that are tried in turn. */
  url: string | string[]
  /** The pool to join: the agent gets any session of it. */
  pool?: string | undefined
  /** Turns of the pool at a time, default 1. */
  capacity?: number | undefined
  /** Sessions to serve by name, all at the same time, and no pool. */
  sessions?: SessionId[] | undefined
  /** Agent key. */
  key?: string | undefined
  /** A name that stays the same over restarts brings running turns back at once. Default: a new one per process. */
  agent?: string | undefined
  /** Default: warnings on stderr. */
  log?: ConnectionLog | undefined
}

/** What the agent says of itself, checked before anybody else has to. */
export function introductionOf(options: ServeOptions): Hello {
  const urls = [options.url].flat()
  if (urls.length === 0) throw new TypeError('serve: a url is needed')
  for (const url of urls)
    if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol))
      throw new TypeError(`serve: ${url} is no http address, such as http://127.0.0.1:8080`)
  const { data, error } = Hello.safeParse({
    protocol: AGENT_PROTOCOL,
    agent: options.agent ?? `agent_${globalThis.crypto.randomUUID()}`,
    run: globalThis.crypto.randomUUID(),
    capacity: options.capacity,
    sessions: options.sessions,
    pool: options.pool,
  })
  if (data) return data
  throw new TypeError(`serve: ${error.issues.map(({ path, message }) => [...path, message].join(': ')).join('; ')}`)
}
