import { BlockList, isIP } from 'node:net'

/** Addresses that are no public host's: private, loopback, link-local, shared, reserved, documentation, multicast. */
const CLOSED = new BlockList()
for (const [net, bits] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10], // carriers' NAT; metadata of Alibaba Cloud
  ['127.0.0.0', 8],
  ['168.63.129.16', 32], // Azure's own services
  ['169.254.0.0', 16], // link-local; metadata of most clouds
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 3], // multicast, reserved, broadcast
] as const)
  CLOSED.addSubnet(net, bits, 'ipv4')
for (const [net, bits] of [
  ['2001::', 23], // Teredo and other special uses
  ['2001:db8::', 32],
  ['2002::', 16], // 6to4: an IPv4 address inside
  ['3fff::', 20],
] as const)
  CLOSED.addSubnet(net, bits, 'ipv6')

/** IPv6 that is routed in public at all; everything else (::1, fc00::, fe80::, 64:ff9b::, IPv4 in disguise) is not. */
const GLOBAL = new BlockList()
GLOBAL.addSubnet('2000::', 3, 'ipv6')

/** Whether an IP address is a public host's. */
export function isPublic(address: string): boolean {
  const family = isIP(address)
  if (family === 4) return !CLOSED.check(address, 'ipv4')
  return family === 6 && GLOBAL.check(address, 'ipv6') && !CLOSED.check(address, 'ipv6')
}

/** Names that mean this machine or this network whatever they resolve to. */
const INSIDE = /(^|\.)(localhost|local|internal|intranet|lan|home\.arpa)\.?$/i

/** Longest address that is taken, characters. */
const MAX_URL = 2048

/**
 * Why nothing is posted to this address, as a sentence; undefined: as far as one can tell without asking DNS it is fine.
 * `open`: hosts (`name` or `name:port`) that the operator allows although they are not public.
 */
export function refusal(text: string, open: readonly string[]): string | undefined {
  const url = URL.canParse(text) && text.length <= MAX_URL ? new URL(text) : undefined
  if (!url) return `must be an absolute URL of at most ${MAX_URL} characters`
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return 'must begin with https:// or http://'
  if (url.username !== '' || url.password !== '') return 'must not contain a user name or password'
  if (isOpen(url, open)) return undefined
  const host = hostOf(url)
  if (INSIDE.test(host) || (isIP(host) !== 0 && !isPublic(host))) return 'must be a public host'
  return undefined
}

/** Whether the operator allows this host whatever its address is. */
export const isOpen = (url: URL, open: readonly string[]): boolean =>
  open.includes(url.hostname) || open.includes(url.host) || open.includes(hostOf(url))

/** Without the brackets of IPv6. */
export const hostOf = (url: URL): string => url.hostname.replace(/^\[|\]$/g, '')
