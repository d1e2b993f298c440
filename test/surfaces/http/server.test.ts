import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import type { RequestListener } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { readConfig } from '../../../src/config.js'
import { httpServer, type ConnectionLimits } from '../../../src/surfaces/http/server.js'
import { eventually } from '../../support/eventually.js'

/** A server that answers `ok` to a whole request. */
async function startServer(limits: Partial<ConnectionLimits> = {}, answer?: RequestListener) {
  const seen = { requests: 0 }
  const whole: RequestListener = (req, res) => {
    seen.requests++
    req.resume().once('end', () => res.end('ok'))
  }
  const server = httpServer(answer ?? whole, { keepAliveMs: 60_000, maxConnections: 100, checkEveryMs: 20, ...limits })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    seen,
    server,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** A client that writes bytes, and shows the bytes that came back and how it ended. */
async function dial(port: number, ...lines: string[]) {
  const socket = connect(port, '127.0.0.1')
  const it = { socket, said: '', ended: false, [Symbol.dispose]: () => void socket.destroy() }
  socket.setEncoding('utf8').on('data', (text: string) => (it.said += text))
  socket.on('end', () => (it.ended = true)).on('error', () => (it.ended = true))
  await once(socket, 'connect')
  socket.write(lines.join('\r\n'))
  return it
}
const GET = ['GET / HTTP/1.1', 'Host: localhost', '', '']

async function refused(client: { said: string; ended: boolean }, status: string) {
  await eventually(() => client.ended)
  const [head, body] = client.said.split('\r\n\r\n') as [string, string]
  expect(head).toMatch(new RegExp(`^HTTP/1.1 ${status}\r\n`))
  expect(head).toContain('Connection: close')
  const { error } = JSON.parse(body) as { error: { code: string; requestId: string } }
  expect(head).toContain(`x-request-id: ${error.requestId}`)
  return error.code
}

test('an idle connection is told how long it is kept, is kept so long, and then closed', async () => {
  await using server = await startServer({ keepAliveMs: 1000 })
  using client = await dial(server.port, ...GET)
  await eventually(() => client.said.includes('ok'))
  expect(client.said).toContain('Keep-Alive: timeout=1\r\n')
  client.socket.write(GET.join('\r\n')) // still there
  await eventually(() => server.seen.requests === 2)
  await eventually(() => client.ended)
})

test('a gateway keeps its connections longer than our balancer does', () => {
  const conf = readFileSync(fileURLToPath(new URL('../../../infra/balancer/nginx.conf', import.meta.url)), 'utf8')
  const balancerS = Number(/keepalive_timeout (\d+)s/.exec(conf)![1])
  expect(readConfig({}).http.connections.keepAliveMs).toBeGreaterThan(balancerS * 1000)
})

test('headers that do not arrive are not waited for', async () => {
  await using server = await startServer({ headersMs: 100, requestMs: 200 })
  using client = await dial(server.port, 'GET / HTTP/1.1', 'Host:')
  expect(await refused(client, '408 Request Timeout')).toBe('request_timeout')
  expect(server.seen.requests).toBe(0)
})

test('a body that does not arrive is not waited for', async () => {
  await using server = await startServer({ headersMs: 100, requestMs: 200 })
  using client = await dial(server.port, 'POST / HTTP/1.1', 'Host: localhost', 'Content-Length: 100', '', '{"half":')
  expect(await refused(client, '408 Request Timeout')).toBe('request_timeout')
})

test('a reply that takes longer than a request may is not cut off', async () => {
  let finish = () => {}
  await using server = await startServer({ headersMs: 50, requestMs: 60 }, (_req, res) => {
    res.write('one ')
    finish = () => res.end('two')
  })
  using client = await dial(server.port, ...GET)
  using silent = await dial(server.port, 'G')
  await eventually(() => silent.ended) // so the limits have passed
  finish()
  await eventually(() => client.said.includes('two'))
})

test.each([
  ['what is no HTTP', 'HELLO\r\n\r\n', '400 Bad Request', 'invalid_request'],
  [
    'two lengths of one body',
    'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab',
    '400 Bad Request',
    'invalid_request',
  ],
  [
    'headers without end',
    `GET / HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(17_000)}\r\n\r\n`,
    '431 Request Header Fields Too Large',
    'headers_too_large',
  ],
  [
    'an address without end',
    `GET /${'x'.repeat(17_000)} HTTP/1.1\r\n\r\n`,
    '431 Request Header Fields Too Large',
    'headers_too_large',
  ],
])('%s is refused in words', async (_what, bytes, status, code) => {
  await using server = await startServer()
  using client = await dial(server.port, bytes)
  expect(await refused(client, status)).toBe(code)
})

test('one connection too many is closed; the others do not notice', async () => {
  await using server = await startServer({ maxConnections: 2 })
  using first = await dial(server.port, ...GET)
  using second = await dial(server.port, ...GET)
  await eventually(() => first.said.includes('ok') && second.said.includes('ok'))
  using third = await dial(server.port, ...GET)
  await eventually(() => third.ended)
  expect(third.said).toBe('')
  first.socket.write(GET.join('\r\n'))
  await eventually(() => server.seen.requests === 3)
})

const timers = existsSync('/proc/net/tcp') ? test : test.skip // what the kernel shows of its timers is Linux'
timers('the kernel asks a silent connection whether its other side still exists', async () => {
  let accepted: Socket | undefined
  await using server = await startServer()
  server.server.on('connection', (socket: Socket) => (accepted = socket))
  using client = await dial(server.port, ...GET)
  await eventually(() => client.said.includes('ok'))
  const hex = (port: number) => port.toString(16).toUpperCase().padStart(4, '0')
  const pair = new RegExp(`:${hex(server.port)} \\w+:${hex(accepted!.remotePort!)} 01 \\w+:\\w+ (\\w\\w):`)
  await eventually(() => pair.exec(readFileSync('/proc/net/tcp', 'utf8'))?.[1] === '02') // the keep-alive timer runs
})
