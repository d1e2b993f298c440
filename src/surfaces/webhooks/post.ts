import { lookup as resolve, type LookupAddress } from 'node:dns'
import { request as plain, type IncomingMessage } from 'node:http'
import { request as secure } from 'node:https'
import type { LookupFunction } from 'node:net'
import { isOpen, isPublic, refusal } from './targets.js'

/** Nobody will ever be reached by trying this again. */
export class TargetRefused extends Error {}

export interface PostOptions {
  /** From the look-up of the name to the head of the answer, ms. */
  timeoutMs: number
  /** Hosts that may be called although they are not public. */
  open: readonly string[]
  /** How names become addresses; default: the system's way. */
  resolve?: typeof resolve
}

/** Of an answer's body so much is read, out of politeness, and nothing is kept, bytes. */
const BODY_LIMIT = 64 * 1024

/**
 * Posts JSON once and gives the status of the answer, whatever it is: a redirect is not followed. The name is resolved
 * once, every address it has must be public, and the connection goes to an address that was checked.
 * Throws TargetRefused, or what the connection failed with.
 */
export async function post(
  target: string,
  body: string,
  headers: Record<string, string>,
  { timeoutMs, open, resolve: how = resolve }: PostOptions,
): Promise<number> {
  const reason = refusal(target, open)
  if (reason) throw new TargetRefused(`the address ${reason}`)
  const url = new URL(target)
  const signal = AbortSignal.timeout(timeoutMs)
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    const request = (url.protocol === 'https:' ? secure : plain)(
      url,
      {
        method: 'POST',
        headers: {
          ...headers,
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(body),
          'user-agent': 'throughline-webhooks',
        },
        agent: false, // a connection of its own, so that every delivery is checked
        signal,
        ...(!isOpen(url, open) && { lookup: publicLookup(how) }),
      },
      resolve,
    )
    request.on('error', (err) => reject(signal.aborted ? new Error(`no answer within ${timeoutMs} ms`) : err))
    request.end(body)
  })
  discard(answer)
  return answer.statusCode ?? 0
}

/** A look-up that asks once and gives public addresses or none; what it gives is what is connected to. */
export const publicLookup =
  (how: typeof resolve): LookupFunction =>
  (hostname, options, callback) =>
    how(hostname, { ...options, all: true }, (err, addresses: LookupAddress[]) => {
      if (err) return callback(err, '')
      const closed = addresses.find(({ address }) => !isPublic(address))
      if (closed || addresses.length === 0)
        return callback(new TargetRefused(`${hostname} resolves to an address that is not public`), '')
      if (options.all) return callback(null, addresses)
      callback(null, addresses[0]!.address, addresses[0]!.family)
    })

/** Lets the other side finish a short answer; a long or slow one is cut. */
function discard(answer: IncomingMessage): void {
  let bytes = 0
  answer.on('error', () => {}) // the status is known, the rest does not matter
  answer.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > BODY_LIMIT) answer.destroy()
  })
}
