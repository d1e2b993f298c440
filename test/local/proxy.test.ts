import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer as createHttpServer, request } from 'node:http'
import { connect, createServer, type AddressInfo, type Server } from 'node:net'

import { freePort } from '../../src/local/free-port.js'
import { startProxy, type Proxy, type Target } from '../../src/local/proxy.js'
import { eventually } from '../support/eventually.js'

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

test('each connection goes to the next target', async () => {
  const proxy = await proxyTo([await saying('a'), await saying('b'), await saying('c')])
  const heard = []
  for (let i = 0; i < 6; i++) heard.push(await read(proxy))
  expect(heard).toEqual(['a', 'b', 'c', 'a', 'b', 'c'])
  expect(proxy.counts()).toMatchObject({ total: 6, unavailable: 0, reset: 0 })
})

test('a target that does not accept is passed over', async () => {
  const proxy = await proxyTo([{ host: '127.0.0.1', port: await freePort() }, await saying('b')])
  expect([await read(proxy), await read(proxy), await read(proxy)]).toEqual(['b', 'b', 'b'])
})

test('targets may change while it runs', async () => {
  const targets = [await saying('a')]
  const proxy = await proxyTo(targets)
  expect(await read(proxy)).toBe('a')
  targets[0] = await saying('b')
  expect(await read(proxy)).toBe('b')
})

test('without any target a client gets 503 and when to come again, also after a large request', async () => {
  const proxy = await proxyTo([{ host: '127.0.0.1', port: await freePort() }])
  const answer = await fetch(`http://127.0.0.1:${proxy.port}/`, { method: 'POST', body: 'x'.repeat(1 << 20) })
  expect(answer.status).toBe(503)
  expect(answer.headers.get('retry-after')).toBe('1')
  expect(await answer.json()).toMatchObject({ error: { message: expect.stringContaining('No replica') as string } })
  expect(proxy.counts().unavailable).toBe(1)
})

test('requests, answers and clean ends pass as they are', async () => {
  const server = createHttpServer((req, res) => req.pipe(res))
  const proxy = await proxyTo([await listening(server)])
  const body = 'y'.repeat(3 << 20)
  const headers = { connection: 'close' }
  const answer = await new Promise<string>((resolve, reject) => {
    const post = request({ port: proxy.port, method: 'POST', headers }, (res) => {
      let text = ''
      res.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
      res.on('end', () => resolve(text)).on('error', reject)
    })
    post.on('error', reject).end(body)
  })
  expect(answer).toBe(body)
  await eventually(() => proxy.counts().open === 0)
  expect(proxy.counts().reset).toBe(0)
})

test('a client that ends its half still gets the rest of the answer', async () => {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.resume().on('end', () => socket.end('after your end'))
  })
  const proxy = await proxyTo([await listening(server)])
  const client = connect({ port: proxy.port, host: '127.0.0.1', allowHalfOpen: true })
  client.end('done')
  expect(await text(client)).toBe('after your end')
})

test('a client that breaks off takes its connection to the target along', async () => {
  const seen = new Promise((resolve) => {
    const server = createServer((socket) => {
      socket.write('hello')
      socket.on('error', () => {}).once('close', resolve)
    })
    void listening(server).then(async (target) => {
      const client = connect((await proxyTo([target])).port, '127.0.0.1')
      await once(client, 'data')
      client.resetAndDestroy()
    })
  })
  await seen
})

test('a killed target resets its clients after what it had said, and does not end them cleanly', async () => {
  const target = await startKillable()
  const proxy = await proxyTo([target])
  const client = connect(proxy.port, '127.0.0.1')
  const [first] = (await once(client, 'data')) as [Buffer]
  expect(first.toString()).toBe('half of it')
  const broken = once(client, 'error') // an 'end' would leave this waiting
  process.kill(target.pid, 'SIGKILL')
  const outcome = await Promise.race([
    once(client, 'end').then(
      () => 'ended cleanly',
      (err: Error & { code: string }) => err.code,
    ),
    broken.then(([err]) => (err as Error & { code: string }).code),
  ])
  expect(outcome).toBe('ECONNRESET')
  expect(proxy.counts().reset).toBe(1)
})

test('closing resets what is open and frees the port', async () => {
  const proxy = await proxyTo([await saying('a', { end: false })])
  const client = connect(proxy.port, '127.0.0.1')
  await once(client, 'data')
  const broken = once(client, 'error')
  await proxy.close()
  await broken
  await expect(once(connect(proxy.port, '127.0.0.1'), 'connect')).rejects.toMatchObject({ code: 'ECONNREFUSED' })
})

test('a port in use is an error of the start', async () => {
  const { port } = await saying('a')
  await expect(startProxy({ port, targets: () => [], log: () => {} })).rejects.toMatchObject({ code: 'EADDRINUSE' })
})

async function proxyTo(targets: readonly Target[]): Promise<Proxy> {
  const proxy = await startProxy({ port: 0, targets: () => targets, log: () => {} })
  closers.push(() => proxy.close().catch(() => {}))
  return proxy
}

/** A server that says one thing to everybody. */
async function saying(what: string, { end = true } = {}): Promise<Target> {
  return await listening(
    createServer((socket) => {
      socket.on('error', () => {})
      if (end) socket.end(what)
      else socket.write(what)
    }),
  )
}

async function listening(server: Server): Promise<Target> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(() => server.close())
  return { host: '127.0.0.1', port: (server.address() as AddressInfo).port }
}

async function read(proxy: Proxy): Promise<string> {
  return await text(connect(proxy.port, '127.0.0.1'))
}

async function text(socket: ReturnType<typeof connect>): Promise<string> {
  let all = ''
  for await (const chunk of socket.setEncoding('utf8')) all += chunk as string
  return all
}

/** A server in a process of its own that says something and then nothing. */
async function startKillable(): Promise<Target & { pid: number }> {
  const code = `require('node:net').createServer((s) => s.write('half of it')).listen(0, '127.0.0.1', function () { console.log(this.address().port) })`
  const child = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'inherit'] })
  closers.push(() => child.kill('SIGKILL'))
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  return { host: '127.0.0.1', port: Number(line.toString()), pid: child.pid! }
}
