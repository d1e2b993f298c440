import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer, request, type RequestListener, type Server } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { readConfig } from '../../src/config.js'
import { api } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { folderOf, hasNginx, nginxConf, startNginx } from '../support/nginx.js'
import { completed, startRawAgent, text } from '../support/raw-agent.js'
import { SseReader } from '../support/sse.js'

;(hasNginx ? describe : describe.skip)(`the balancer of compose${hasNginx ? '' : ' (skipped: no nginx)'}`, () => {
  test('passes nginx’s own check', async () => {
    using conf = folderOf([1, 2, 3], 1)
    expect(spawnSync('nginx', conf.args('-t'), { encoding: 'utf8' })).toMatchObject({ status: 0 })
  })

  test.each([
    ['proxy_buffering off', 'proxy_bufering off'],
    ['keepalive 64;', 'keepalive 64'],
    ['proxy_pass http://throughline', 'proxy_pass throughline'],
  ])('that check finds "%s" made "%s"', (right, wrong) => {
    using conf = folderOf([1, 2, 3], 1, nginxConf.replace(right, wrong))
    expect(spawnSync('nginx', conf.args('-t')).status).toBe(1)
  })

  test('a stream’s first words arrive while the rest is not written yet', async () => {
    let finish = () => {}
    await using balancer = await startBalancer((_req, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: one\n\n')
      finish = () => res.end('data: two\n\n')
    })
    const reader = (await fetch(balancer.url)).body!.getReader()
    const text = async () => new TextDecoder().decode((await reader.read()).value)
    expect(await text()).toBe('data: one\n\n')
    finish()
    expect(await text()).toBe('data: two\n\n')
  })

  test('a reader that takes nothing holds the replica back', async () => {
    const size = 64 * 1024 * 1024 // more than all socket buffers between; nginx’s own would swallow it
    let written = 0
    await using balancer = await startBalancer((_req, res) => {
      const more = () => {
        while (written < size) {
          written += 65536
          if (!res.write(Buffer.alloc(65536))) return void res.once('drain', more)
        }
        res.end()
      }
      more()
    })
    const asked = request(balancer.url).end()
    await once(asked, 'response') // and reads none of it
    let before = -1
    await eventually(() => before === (before = written), { everyMs: 500, limitMs: 20_000 })
    expect(written).toBeLessThan(size)
    asked.destroy()
  })

  test('a POST that a replica had begun to read goes nowhere else', async () => {
    let seen = 0
    await using balancer = await startBalancer((req) => {
      seen++
      req.socket.destroy()
    })
    expect((await fetch(balancer.url, { method: 'POST', body: 'once' })).status).toBe(502)
    expect(seen).toBe(1)
  })

  test('a POST meets a replica that listens, though others do not', async () => {
    await using balancer = await startBalancer((_req, res) => void res.end('here'), { listening: 1 })
    for (let i = 0; i < 6; i++) expect(await (await fetch(balancer.url, { method: 'POST' })).text()).toBe('here')
  })

  test('no client sticks to one replica; replicas are spoken to in HTTP/1.1', async () => {
    const spoken = new Set<string>()
    await using balancer = await startBalancer((req, res) => {
      spoken.add(req.httpVersion)
      res.end(String(req.socket.localPort))
    })
    const seen = new Set<string>()
    for (let i = 0; i < 30; i++) seen.add(await (await fetch(balancer.url)).text())
    expect(seen.size).toBe(3)
    expect([...spoken]).toEqual(['1.1'])
  })

  test('at a change of replicas a stream stays where it is, new requests go to the new ones; without any they are 502', async () => {
    let finish = () => {}
    await using balancer = await startBalancer((req, res) => {
      if (req.url !== '/stream') return void res.end(String(req.socket.localPort))
      res.writeHead(200).write('one ')
      finish = () => res.end('two')
    })
    const stream = await fetch(`${balancer.url}stream`)
    const [, , third] = balancer.ports
    balancer.route([third!])
    for (let i = 0; i < 6; i++)
      await eventually(async () => (await (await fetch(balancer.url)).text()) === String(third))
    balancer.route([])
    await eventually(async () => (await fetch(balancer.url)).status === 502)
    finish()
    expect(await stream.text()).toBe('one two')
  })

  test('a WebSocket passes', async () => {
    await using balancer = await startBalancer((_req, res) => void res.end())
    for (const server of balancer.servers)
      server.on('upgrade', (_req, socket) => {
        socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
        socket.pipe(socket)
      })
    const asked = request(balancer.url, { headers: { connection: 'Upgrade', upgrade: 'websocket' } }).end()
    asked.once('response', ({ statusCode }) => asked.emit('error', new Error(`no upgrade but ${statusCode}`)))
    const [, socket] = (await once(asked, 'upgrade')) as [unknown, Socket]
    socket.write('echo')
    expect(String((await once(socket, 'data'))[0])).toBe('echo')
    socket.destroy()
  })
})

;(hasNginx ? describe : describe.skip)(`gateways behind it${hasNginx ? '' : ' (skipped: no nginx)'}`, () => {
  test('a client sees each word before the agent says the next', async () => {
    await using net = await startNetwork({ replicas: 3 })
    await using nginx = await startNginx(net.replicas.map(({ url }) => Number(new URL(url).port)))
    const agent = await startRawAgent({ url: nginx.url, pool: 'coder' })
    net.onDispose(() => agent.close())
    expect(agent.welcome).toMatchObject({ ok: true })
    expect(agent.socket.io.engine.transport.name).toBe('websocket')

    for (let turn = 0; turn < 3; turn++) {
      await using stream = await SseReader.post(`${nginx.url}/api/v1/messages`, {
        pool: 'coder',
        text: 'go',
        stream: true,
      })
      expect(stream.response.status).toBe(200)
      const { request } = await agent.turn(turn)
      for (let n = 1; n <= 5; n++) {
        agent.send(request, n, text(`word-${n}`))
        await stream.until(({ data }) => data?.includes(`word-${n}`) ?? false)
      }
      agent.send(request, 6, completed)
      await stream.all()
    }
  })

  test('a balancer that buffers passes each word on all the same: the gateway’s headers tell it to', async () => {
    await using net = await startNetwork({ replicas: 3 })
    const buffering = nginxConf.replace('proxy_buffering off', 'proxy_buffering on').replace('gzip off', 'gzip on')
    const ports = net.replicas.map(({ url }) => Number(new URL(url).port))
    await using nginx = await startNginx(ports, buffering.replace('gzip on;', 'gzip on; gzip_types *;'))
    const agent = await net.rawAgent({ pool: 'coder' })
    const { body } = await api<{ session: string }>(nginx.url, '/messages', { pool: 'coder', text: 'go' })
    const headers = { 'accept-encoding': 'gzip' }
    await using stream = await SseReader.open(`${nginx.url}/api/v1/sessions/${body.session}/events`, { headers })
    const { request } = await agent.turn()
    for (let n = 1; n <= 5; n++) {
      agent.send(request, n, text(`word-${n}`))
      await stream.until(({ data }) => data?.includes(`word-${n}`) ?? false)
    }
    agent.send(request, 6, completed)
    await stream.until(({ event }) => event === 'completed')
  })

  test('a body that is too large is refused in the gateway’s words, every time; the largest reaches a gateway', async () => {
    await using net = await startNetwork({ replicas: 3 })
    await using nginx = await startNginx(net.replicas.map(({ url }) => Number(new URL(url).port)))
    const limit = readConfig({}).http.maxBodyBytes
    const send = (url: string, bytes: number) => {
      const empty = JSON.stringify({ pool: 'coder', text: '' }).length
      return api<{ error: object }>(url, '/messages', { pool: 'coder', text: 'x'.repeat(bytes - empty) })
    }
    const direct = await send(net.url(0), limit + 1)
    expect(direct).toMatchObject({ status: 413, body: { error: { code: 'body_too_large' } } })
    for (let i = 0; i < 20; i++) {
      const refused = await send(nginx.url, limit + 1 + i * 50_000)
      expect(refused.status).toBe(413)
      expect(refused.body.error).toEqual({ ...direct.body.error, requestId: expect.any(String) as string })
    }
    expect(await send(nginx.url, limit)).toMatchObject({ status: 400, body: { error: { param: 'text' } } })
  })
})

/** nginx before three stand-ins; `answer` is what a replica does. */
async function startBalancer(answer: RequestListener, { listening = 3 } = {}) {
  const servers: Server[] = Array.from({ length: 3 }, () => createServer(answer))
  for (const server of servers) await once(server.listen(0, '127.0.0.1'), 'listening')
  const ports = servers.map((server) => (server.address() as AddressInfo).port)
  for (const server of servers.slice(listening)) server.close()
  const nginx = await startNginx(ports)
  return {
    url: `${nginx.url}/`,
    servers,
    ports,
    route: (others: number[]) => nginx.route(others),
    async [Symbol.asyncDispose]() {
      await nginx[Symbol.asyncDispose]()
      for (const server of servers) server.close().closeAllConnections()
    },
  }
}
