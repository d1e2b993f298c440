import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, request, type RequestListener, type Server } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readConfig } from '../../src/config.js'
import { freePorts } from '../../src/local/free-port.js'
import { api } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { completed, startRawAgent, text } from '../support/raw-agent.js'
import { SseReader } from '../support/sse.js'

const hasNginx = !spawnSync('nginx', ['-v']).error
const config = readFileSync(fileURLToPath(new URL('../../infra/balancer/nginx.conf', import.meta.url)), 'utf8')

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
    using conf = folderOf([1, 2, 3], 1, config.replace(right, wrong))
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
    const buffering = config.replace('proxy_buffering off', 'proxy_buffering on').replace('gzip off', 'gzip on')
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
    async [Symbol.asyncDispose]() {
      await nginx[Symbol.asyncDispose]()
      for (const server of servers) server.close().closeAllConnections()
    },
  }
}

/** nginx with the configuration of compose, its three names put on these loopback ports. */
async function startNginx(ports: number[], text = config) {
  const [port] = await freePorts(1)
  const conf = folderOf(ports, port!, text)
  const nginx = spawn('nginx', conf.args('-g', 'daemon off;'), { stdio: 'inherit' })
  const gone = once(nginx, 'exit')
  const it = {
    url: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      nginx.kill('SIGTERM')
      await gone
      conf[Symbol.dispose]()
    },
  }
  try {
    await eventually(() => listens(port!))
    return it
  } catch (err) {
    await it[Symbol.asyncDispose]()
    throw err
  }
}

async function listens(port: number): Promise<void> {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  socket.destroy()
}

function folderOf(ports: number[], port: number, text = config) {
  const folder = mkdtempSync(join(tmpdir(), 'throughline-nginx-'))
  chmodSync(folder, 0o755) // as root, nginx works as another user
  const file = join(folder, 'nginx.conf')
  const temp = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${folder}/${name};`,
  )
  let replica = 0
  const here = text
    .replace(/gateway-\d:8080/g, () => `127.0.0.1:${ports[replica++]}`)
    .replace('listen 8080', `listen 127.0.0.1:${port}`)
    .replace('/tmp/nginx.pid', `${folder}/nginx.pid`)
    .replace('worker_processes auto', 'worker_processes 1')
    .replace('http {', `http {\n${temp.join('\n')}`)
  writeFileSync(file, here)
  return {
    args: (...more: string[]) => ['-e', join(folder, 'error.log'), '-p', folder, '-c', file, ...more],
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  }
}
