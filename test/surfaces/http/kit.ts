import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pino } from 'pino'
import { ThroughlineError } from '../../../src/protocol/errors.js'
import { httpApp, surface, type Routes } from '../../../src/surfaces/http/app.js'
import { renderNative } from '../../../src/surfaces/http/errors.js'
import type { HttpParts, StreamEnd } from '../../../src/surfaces/http/parts.js'

/** The HTTP kit round some routes of a test, on a real port, without the rest of the gateway. */
export interface Kit extends AsyncDisposable {
  url: string
  port: number
  logs: Record<string, unknown>[]
  requests: { route: string; method: string; status: number }[]
  streams: { opened: number; closed: StreamEnd[] }
  drain: AbortController
  hardStop: AbortController
}

export async function startKit(
  routes: (parts: HttpParts) => Routes,
  given: {
    loopbackOnly?: boolean
    origins?: string[]
    rates?: HttpParts['rates']
    key?: string
    limits?: Partial<HttpParts['limits']>
  } = {},
): Promise<Kit> {
  const logs: Kit['logs'] = []
  const requests: Kit['requests'] = []
  const streams: Kit['streams'] = { opened: 0, closed: [] }
  const drain = new AbortController()
  const hardStop = new AbortController()
  const parts: HttpParts = {
    log: pino({ base: {} }, { write: (line: string) => void logs.push(JSON.parse(line) as Record<string, unknown>) }),
    authenticate: (req) =>
      given.key === undefined || req.headers.authorization === `Bearer ${given.key}`
        ? Promise.resolve({ owner: 'alice' })
        : Promise.reject(new ThroughlineError('unauthorized')),
    draining: drain.signal,
    hardStop: hardStop.signal,
    attempt: (_req, _credential, verify) => verify(),
    rates: given.rates ?? {},
    origins: { origins: given.origins ?? [], loopbackOnly: given.loopbackOnly ?? false },
    limits: {
      maxBodyBytes: 1000,
      waitLimitMs: 5000,
      keepAliveMs: 15_000,
      slowViewerMs: 30_000,
      retryMs: 1000,
      ...given.limits,
    },
    observe: {
      limited: () => {},
      request: (route, method, status) => void requests.push({ route, method, status }),
      streamOpened: () => void streams.opened++,
      streamClosed: (_surface, how) => void streams.closed.push(how),
    },
  }
  const server = createServer(httpApp(parts, [{ path: '/api', router: surface(parts, routes(parts), renderNative) }]))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    logs,
    requests,
    streams,
    drain,
    hardStop,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
