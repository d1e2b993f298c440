import type { IncomingMessage } from 'node:http'
import { isIPv6 } from 'node:net'
import proxyAddr from 'proxy-addr'

/** Which peers are proxies whose `X-Forwarded-For` is believed: how many of them in a row, or their addresses and nets. */
export type TrustProxy = number | readonly string[]

/** Tells the address that a request came from: the peer's or, past trusted proxies, what they say. */
export function addressOf(trust: TrustProxy): (req: IncomingMessage) => string {
  const trusts =
    typeof trust === 'number' ? (_address: string, hop: number) => hop < trust : proxyAddr.compile([...trust])
  return (req) => (req.socket.remoteAddress === undefined ? '' : proxyAddr(req, trusts))
}

/** What one caller has of addresses: an IPv4 address, or the half of an IPv6 address that names a net (/64). */
export function netOf(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '')
  if (!isIPv6(plain)) return plain
  const [head = '', tail] = plain.split('%', 1)[0]!.split('::')
  const front = head === '' ? [] : head.split(':')
  const back = tail ? tail.split(':') : []
  const zeros = tail === undefined ? [] : Array<string>(8 - front.length - back.length).fill('0')
  return [...front, ...zeros, ...back].slice(0, 4).join(':').toLowerCase()
}
