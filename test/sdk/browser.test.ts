import { createServer, request as ask, type IncomingMessage, type ServerResponse } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import type { Browser } from 'playwright-core'
import type * as Client from '../../src/sdk/client.js'
import { startChromium } from '../support/chromium.js'
import { eventually } from '../support/eventually.js'
import { startNetwork, type Network } from '../support/network.js'
import { runProgram } from '../support/program.js'
import { completed, text } from '../support/raw-agent.js'

/*
 * The client SDK in a real browser, bundled as an application would do it.
 */
declare const throughline: typeof Client // the bundle, in the page
declare const window: { said: string; ended: string; stop: AbortController }

const FAST = { SWEEP_EVERY_MS: '300', AGENT_GRACE_MS: '8000', LEASE_TTL_MS: '6000' }
const ROOT = fileURLToPath(new URL('../..', import.meta.url))

let bundle: string
let browser: Browser
beforeAll(async () => {
  const options = ['--bundle', '--platform=browser', '--format=iife', '--global-name=throughline', '--minify']
  // it fails on everything that only Node has
  bundle = await runProgram(`${ROOT}/node_modules/.bin/esbuild`, ['dist/sdk/client.js', ...options], { cwd: ROOT })
  expect(bundle.length).toBeLessThan(12_000)
  browser = await startChromium()
}, 60_000)
afterAll(() => browser?.close())

/** The page, and behind it on the same origin the gateway: each request goes to the next replica that is there. */
async function startSite(net: Network): Promise<string> {
  let turn = 0
  const forward = (req: IncomingMessage, res: ServerResponse, body: Buffer, tries: number): void => {
    const target = new URL(req.url!, net.url(turn++ % net.replicas.length))
    const onward = ask(target, { method: req.method!, headers: { ...req.headers, host: target.host } }, (reply) => {
      res.writeHead(reply.statusCode!, reply.headers)
      res.flushHeaders()
      reply.on('error', () => res.destroy()).pipe(res)
    })
    onward.on('error', () => {
      if (res.headersSent) return res.destroy()
      if (tries < net.replicas.length) return forward(req, res, body, tries + 1)
      res.writeHead(503).end()
    })
    res.on('close', () => onward.destroy())
    onward.end(body)
  }
  const server = createServer((req, res) => {
    if (req.url === '/') return void res.end('<!doctype html><script src="/client.js"></script>')
    if (req.url === '/client.js') return void res.setHeader('content-type', 'text/javascript').end(bundle)
    const pieces: Buffer[] = []
    req.on('data', (piece: Buffer) => pieces.push(piece)).on('end', () => forward(req, res, Buffer.concat(pieces), 1))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  net.onDispose(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
}

test('a page sends a message and follows its turn through the kill -9 of one replica after the other', async () => {
  await using net = await startNetwork({ replicas: 2, processes: true, env: FAST })
  const agent = await net.rawAgent({ pool: 'coder', replica: 0, agent: 'a' })
  const page = await browser.newPage()
  const problems: string[] = []
  page.on('pageerror', (err) => problems.push(err.message))
  await page.goto(await startSite(net))
  await page.evaluate(() => {
    window.said = ''
    void (async () => {
      const session = await throughline.createSession('', { pool: 'coder', title: 'In a browser' })
      const { interaction } = await throughline.send('', { session: session.id, text: 'ünï 👋' })
      let turn = throughline.emptyTurn()
      const numbers: number[] = []
      for await (const update of throughline.follow('', interaction)) {
        if (update.type === 'event') numbers.push(update.event.n)
        turn = update.type === 'snapshot' ? update.turn : throughline.fold(turn, update.event)
        window.said = throughline.outputText(turn)
      }
      window.ended = `${turn.status} ${numbers.every((n, i) => n === i + 1)}`
    })()
  })
  const said = () => page.evaluate(() => window.said)
  const turn = await agent.turn()
  expect(turn.input).toBe('ünï 👋')
  const { session, request } = turn
  agent.send(request, 1, text('one – '))
  await eventually(async () => (await said()) === 'one – ', { limitMs: 15_000 })

  await net.replicas[0]!.kill9()
  const second = await net.rawAgent({
    pool: 'coder',
    replica: 1,
    agent: 'a',
    holding: [{ session, request, acked: 1 }],
  })
  second.send(request, 2, text('two 👋 '))
  await eventually(async () => (await said()) === 'one – two 👋 ', { limitMs: 15_000 })

  await net.replicas[0]!.restart()
  await net.replicas[1]!.kill9()
  const third = await net.rawAgent({ pool: 'coder', replica: 0, agent: 'a', holding: [{ session, request, acked: 2 }] })
  third.send(request, 3, text('three'), completed)
  await eventually(async () => (await page.evaluate(() => window.ended)) === 'completed true', { limitMs: 15_000 })
  expect(await said()).toBe('one – two 👋 three')
  expect(problems).toEqual([])
  await page.close()
})

test('a page leaves by its signal, cancels, and reads the transcript', async () => {
  await using net = await startNetwork({ env: FAST })
  const agent = await net.rawAgent({ pool: 'coder' })
  const page = await browser.newPage()
  await page.goto(await startSite(net))
  const sent = await page.evaluate(() => throughline.send('', { pool: 'coder', text: 'go' }))
  const { request } = await agent.turn()
  agent.send(request, 1, text('half'))
  const reason = await page.evaluate(async ({ interaction }) => {
    const stop = new AbortController()
    try {
      for await (const turn of throughline.watch('', interaction, { signal: stop.signal }))
        if (throughline.outputText(turn) === 'half') stop.abort(new Error('seen enough'))
      return 'ended'
    } catch (err) {
      return (err as Error).message
    }
  }, sent)
  expect(reason).toBe('seen enough')
  expect((await page.evaluate(({ interaction }) => throughline.cancel('', interaction), sent)).status).toBe('cancelled')
  const turns = await page.evaluate(async ({ session }) => {
    const found = []
    for await (const turn of throughline.transcript('', session)) found.push(turn)
    return found
  }, sent)
  expect(turns).toMatchObject([{ input: 'go', text: 'half', status: 'cancelled' }])
  const refused = await page.evaluate(() =>
    throughline.getSession('', 'ses_00000000000000000000000000').catch((err: unknown) => {
      const { name, code } = err as Client.GatewayError
      return { name, code }
    }),
  )
  expect(refused).toEqual({ name: 'GatewayError', code: 'not_found' })
  await page.close()
})
