import type { IncomingMessage } from 'node:http'
import { addressOf, netOf, type TrustProxy } from '../../../src/surfaces/http/address.js'

const seen = (trust: TrustProxy, peer: string, forwarded?: string): string =>
  addressOf(trust)({
    socket: { remoteAddress: peer },
    headers: forwarded === undefined ? {} : { 'x-forwarded-for': forwarded },
  } as IncomingMessage)

test.each<[TrustProxy, string, string | undefined, string]>([
  [0, '10.0.0.1', '198.51.100.1', '10.0.0.1'],
  [1, '10.0.0.1', '1.1.1.1, 198.51.100.1', '198.51.100.1'],
  [2, '10.0.0.1', '1.1.1.1, 198.51.100.1, 10.0.0.2', '198.51.100.1'],
  [1, '10.0.0.1', undefined, '10.0.0.1'],
  [['10.0.0.0/8'], '10.0.0.1', '1.1.1.1, 198.51.100.1, 10.0.0.2', '198.51.100.1'],
  [['10.0.0.0/8'], '203.0.113.1', '198.51.100.1', '203.0.113.1'],
  [['loopback'], '127.0.0.1', '198.51.100.1', '198.51.100.1'],
])('trusting %j, from %s with X-Forwarded-For %s is %s', (trust, peer, forwarded, address) => {
  expect(seen(trust, peer, forwarded)).toBe(address)
})

test.each([
  ['198.51.100.1', '198.51.100.1'],
  ['::ffff:198.51.100.1', '198.51.100.1'],
  ['2001:DB8:1:2:3:4:5:6', '2001:db8:1:2'],
  ['2001:db8:1:2::9', '2001:db8:1:2'],
  ['2001:db8::9', '2001:db8:0:0'],
  ['::1', '0:0:0:0'],
  ['fe80::1%eth0', 'fe80:0:0:0'],
  ['', ''],
])('%s counts as %s', (address, net) => {
  expect(netOf(address)).toBe(net)
})
