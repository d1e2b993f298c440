import type { LogEvent } from '../../src/protocol/events.js'
import type { InteractionId, SessionId } from '../../src/protocol/ids.js'

/** What one reader of an answer had at its end. */
export interface Read {
  text: string
  /** Of readers that see the log's own events. */
  events?: LogEvent[]
  /** How often the reader was given the state in place of events that could not be continued. */
  snapshots: number
  /** What the reader's protocol forbids, such as a hole in the numbers. */
  faults: string[]
}

export const nothingRead = (): Read => ({ text: '', snapshots: 0, faults: [] })

/** One message of the trial, and what became of it as its client saw it. */
export interface Message {
  kind: string
  key: string
  input: string
  idempotencyKey: string
  /** Known once a replica has said that it is accepted. */
  accepted?: { session: SessionId; interaction: InteractionId }
  reads: Read[]
  tookMs?: number
  /** Why its client gave it up. */
  givenUp?: string
}

/** Failures as clients met them, by kind and count. */
export class Tally {
  readonly seen = new Map<string, number>()
  /** Those after which the protocol has no way to go on by itself. */
  readonly fatal = new Map<string, number>()

  add(kind: string, what: string): void {
    count(this.seen, `${kind}: ${what}`)
  }

  addFatal(kind: string, what: string): void {
    this.add(kind, what)
    count(this.fatal, `${kind}: ${what}`)
  }

  /** `fetch`, which counts each request that fails and each reply that is an error. */
  fetch(kind: string): typeof fetch {
    return async (input, init) => {
      let res: Response
      try {
        res = await fetch(input, init)
      } catch (err) {
        if ((err as Error).name !== 'AbortError') this.add(kind, reasonOf(err))
        throw err
      }
      if (res.status >= 400) this.add(kind, `${res.status} ${await codeOf(res.clone())}`)
      return res
    }
  }
}

const count = (map: Map<string, number>, what: string) => map.set(what, (map.get(what) ?? 0) + 1)

async function codeOf(res: Response): Promise<string> {
  try {
    return ((await res.json()) as { error: { code: string } }).error.code
  } catch {
    return 'of the balancer'
  }
}

/** The innermost word on why a connection failed. */
export function reasonOf(err: unknown): string {
  const { code, message, cause } = Object(err) as { code?: unknown; message?: string; cause?: unknown }
  if (cause !== undefined) return reasonOf(cause)
  return typeof code === 'string' && code !== 'UND_ERR_SOCKET' ? code : (message ?? String(err))
}
