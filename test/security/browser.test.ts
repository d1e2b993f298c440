import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Browser, Page } from 'playwright-core'
import { startChromium } from '../support/chromium.js'
import { startNetwork, type Network } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'

/*
 * What a real browser lets a page from elsewhere do.
 */
const KEYS = { CLIENT_KEYS: 'ann=ann-key-1', AGENT_KEYS: '*=agent-key-1', TOKEN_SECRET: 't'.repeat(32) }

let browser: Browser
beforeAll(async () => {
  browser = await startChromium()
}, 60_000)
afterAll(() => browser?.close())

/** An empty page on an origin of its own. */
async function startPage(stops: (() => unknown)[]): Promise<{ origin: string; open(): Promise<Page> }> {
  const server = createServer((_req, res) => res.setHeader('content-type', 'text/html').end('<!doctype html>'))
  await once(server.listen(0, '127.0.0.1'), 'listening')
  stops.push(
    () => server.close(),
    () => server.closeAllConnections(),
  )
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    origin,
    async open() {
      const page = await browser.newPage()
      stops.push(() => page.close())
      await page.goto(origin)
      return page
    },
  }
}

async function withPage(
  env: (origin: string) => Record<string, string>,
  story: (net: Network, page: Page) => Promise<void>,
) {
  const stops: (() => unknown)[] = []
  try {
    const { origin, open } = await startPage(stops)
    await using net = await startNetwork({ env: { ...KEYS, ...env(origin) } })
    await story(net, await open())
  } finally {
    for (const stop of stops.reverse()) await stop()
  }
}

/** In the page: posts a message with a key; what it can read of the answer, or how it failed. */
const posts = (page: Page, url: string) =>
  page.evaluate(async (url) => {
    try {
      const res = await fetch(`${url}/api/v1/messages`, {
        method: 'POST',
        headers: { authorization: 'Bearer ann-key-1', 'content-type': 'application/json', 'x-stainless-os': 'x' },
        body: JSON.stringify({ pool: 'coder', text: 'hi' }),
      })
      const read = (name: string) => res.headers.get(name)
      const body = (await res.json()) as { session: string; interaction: string }
      return {
        status: res.status,
        id: read('x-request-id'),
        rate: read('ratelimit'),
        turn: read('throughline-interaction-id'),
        ...body,
      }
    } catch (err) {
      return { failed: (err as Error).name }
    }
  }, url)

/** In the page: opens a WebSocket. */
const connects = (page: Page, url: string) =>
  page.evaluate(
    (url) =>
      new Promise<string>((resolve) => {
        const socket = new WebSocket(`${url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`)
        socket.onopen = () => resolve('open')
        socket.onclose = () => resolve('refused')
      }),
    url,
  )

test('a page that is not listed can send nothing, read nothing and open no WebSocket', async () => {
  await withPage(
    () => ({}),
    async (net, page) => {
      expect(await posts(page, net.url(0))).toEqual({ failed: 'TypeError' })
      expect(net.logged('message_accepted')).toEqual([]) // not even without reading the answer
      expect(await connects(page, net.url(0))).toBe('refused')
    },
  )
})

test('a page that is listed posts with its key, reads headers and errors, and follows with EventSource', async () => {
  await withPage(
    (origin) => ({ CORS_ORIGINS: origin, MAX_MESSAGES_PER_OWNER: '1' }),
    async (net, page) => {
      const url = net.url(0)
      const sent = (await posts(page, url)) as { status: number; session: string; interaction: string; turn: string }
      expect(sent).toMatchObject({
        status: 202,
        id: expect.any(String),
        rate: expect.stringMatching(/^"messages";r=0/),
      })
      expect(sent.turn).toBe(sent.interaction)
      expect(await posts(page, url)).toMatchObject({ status: 429, error: { code: 'rate_limit_exceeded' } })
      expect(await connects(page, url)).toBe('open')

      const agent = await net.rawAgent({ pool: 'coder', key: 'agent-key-1' })
      agent.send((await agent.turn()).request, 1, text('seen'), completed)
      const seen = await page.evaluate(
        async ({ url, session, interaction }) => {
          const headers = { authorization: 'Bearer ann-key-1', 'content-type': 'application/json' }
          const made = await fetch(`${url}/api/v1/sessions/${session}/token`, { method: 'POST', headers, body: '{}' })
          const { token } = (await made.json()) as { token: string }
          return new Promise<string>((resolve) => {
            const source = new EventSource(`${url}/api/v1/interactions/${interaction}/events?token=${token}`)
            source.addEventListener('entry.append', (event) => {
              source.close()
              resolve((JSON.parse((event as unknown as { data: string }).data) as { text: string }).text)
            })
          })
        },
        { url, ...sent },
      )
      expect(seen).toBe('seen')
    },
  )
})
