import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { post, publicLookup, TargetRefused, type PostOptions } from '../../../src/surfaces/webhooks/post.js'
import { isPublic, refusal } from '../../../src/surfaces/webhooks/targets.js'
import { startReceiver } from '../../support/receiver.js'

test('public hosts may be posted to, by name or by address', () => {
  for (const url of ['https://example.com/hook', 'http://93.184.215.14:8080/', 'https://[2606:2800:220:1::1]/x?y=1'])
    expect([url, refusal(url, [])]).toEqual([url, undefined])
})

test.each([
  'ftp://example.com/',
  'file:///etc/passwd',
  'javascript:alert(1)',
  'example.com/hook',
  '/hook',
  'https://user:word@example.com/',
  `https://example.com/${'x'.repeat(2048)}`,
])('no address that could be meant to be posted to: %.40s', (url) => {
  expect(refusal(url, [])).toMatch(/^must /)
})

test.each([
  'http://localhost:6379/',
  'http://LOCALHOST./',
  'http://redis.internal/',
  'http://metadata.google.internal/computeMetadata/v1/',
  'http://printer.local/',
  'http://127.0.0.1/',
  'http://127.1/',
  'http://2130706433/',
  'http://0x7f000001/',
  'http://0177.0.0.1/',
  'http://0.0.0.0/',
  'http://10.1.2.3/',
  'http://172.31.0.1/',
  'http://192.168.1.1/',
  'http://100.100.100.200/',
  'http://169.254.169.254/latest/meta-data/',
  'http://168.63.129.16/',
  'http://224.0.0.1/',
  'http://255.255.255.255/',
  'http://[::1]/',
  'http://[::]/',
  'http://[::ffff:127.0.0.1]/',
  'http://[::ffff:a9fe:a9fe]/',
  'http://[64:ff9b::7f00:1]/',
  'http://[2002:7f00:1::]/',
  'http://[fd00:ec2::254]/',
  'http://[fe80::1]/',
  'http://[ff02::1]/',
])('not a public host: %s', (url) => {
  expect(refusal(url, [])).toBe('must be a public host')
})

test('the operator may open hosts, by name or by name and port', () => {
  expect(refusal('http://127.0.0.1:9000/', ['127.0.0.1'])).toBeUndefined()
  expect(refusal('http://127.0.0.1:9000/', ['127.0.0.1:9000'])).toBeUndefined()
  expect(refusal('http://[::1]:9000/', ['::1'])).toBeUndefined()
  expect(refusal('http://127.0.0.1:9001/', ['127.0.0.1:9000'])).toBe('must be a public host')
})

test('what is no address at all is not public', () => {
  expect([isPublic(''), isPublic('example.com'), isPublic('8.8.8.8'), isPublic('2001:4860:4860::8888')]).toEqual([
    false,
    false,
    true,
    true,
  ])
})

/** Answers every name with these addresses, one list per question. */
function resolving(...lists: string[][]) {
  const asked: string[] = []
  const resolve = ((name: string, _options: unknown, done: (err: null, found: object[]) => void) => {
    const addresses = lists[Math.min(asked.push(name), lists.length) - 1]!
    done(
      null,
      addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    )
  }) as unknown as NonNullable<PostOptions['resolve']>
  return { resolve, asked }
}

test.each([[['127.0.0.1']], [['169.254.169.254']], [['8.8.8.8', '10.0.0.1']], [['::ffff:10.0.0.1']], [[]]])(
  'a public name that resolves to %j is refused when it is to be posted to',
  async (addresses) => {
    await using receiver = await startReceiver()
    const { port } = new URL(receiver.url)
    const { resolve } = resolving(addresses)
    const sent = post(`http://rebind.example.com:${port}/`, '{}', {}, { timeoutMs: 5000, open: [], resolve })
    await expect(sent).rejects.toThrow(TargetRefused)
    expect(receiver.got).toEqual([])
  },
)

test('the name is asked for once, and what is connected to is what was checked', async () => {
  const { resolve, asked } = resolving(['8.8.8.8', '2001:4860:4860::8888'], ['127.0.0.1'])
  const given = await new Promise((done) => publicLookup(resolve)('a.example.com', { all: true }, (_, it) => done(it)))
  expect(given).toEqual([
    { address: '8.8.8.8', family: 4 },
    { address: '2001:4860:4860::8888', family: 6 },
  ])
  expect(asked).toEqual(['a.example.com'])
})

test('a redirect is an answer like any other: nothing is posted to where it points', async () => {
  await using inside = await startReceiver()
  await using receiver = await startReceiver()
  receiver.answer = 307
  receiver.headers = { location: inside.url }
  const status = await post(receiver.url, '{}', {}, { timeoutMs: 5000, open: [receiver.host] })
  expect(status).toBe(307)
  expect(inside.got).toEqual([])
})

test('an answer that does not come, or never ends, is not waited for', async () => {
  await using receiver = await startReceiver()
  receiver.answer = 'hang'
  const options = { timeoutMs: 200, open: ['127.0.0.1'] }
  await expect(post(receiver.url, '{}', {}, options)).rejects.toThrow('no answer within 200 ms')

  let closed = false
  let written = 0
  const endless: Server = createServer((_req, res) => {
    res.writeHead(200)
    const more = () => {
      while (!res.destroyed && res.write(Buffer.alloc(16_384))) written += 16_384
    }
    res.on('drain', more).once('close', () => (closed = true))
    more()
  })
  await new Promise<void>((resolve) => endless.listen(0, '127.0.0.1', resolve))
  const { port } = endless.address() as AddressInfo
  const ended = new Promise((resolve) => endless.once('connection', (socket) => socket.once('close', resolve)))
  expect(await post(`http://127.0.0.1:${port}/`, '{}', {}, { ...options, timeoutMs: 30_000 })).toBe(200)
  await ended
  expect([closed, written < 64 * 1024 * 1024]).toEqual([true, true])
  await new Promise((resolve) => endless.close(resolve))
})
