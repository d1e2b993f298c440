import { randomUUID } from 'node:crypto'
import { createServer, STATUS_CODES, type RequestListener, type Server } from 'node:http'
import type { Socket } from 'node:net'
import { ThroughlineError, type ErrorCode } from '../../protocol/errors.js'
import { renderNative } from './errors.js'

/** Limits of connections, before there is a request to speak of. All times in ms. */
export interface ConnectionLimits {
  /** Silence after which an idle connection is closed: longer than any balancer keeps one, so that it closes first. */
  keepAliveMs: number
  /** Most connections at once, agents' included; one more is closed unheard. */
  maxConnections: number
  /** How long a request's headers, and the whole of it, may take to arrive; and how often that is looked at. */
  headersMs?: number
  requestMs?: number
  checkEveryMs?: number
}

/** Largest head of a request, address and headers together. */
const MAX_HEADER_BYTES = 16 * 1024
/** Silence after which the kernel asks whether the other side still exists. */
const PROBE_AFTER_MS = 30_000

/**
 * The server of clients and agents. What Node refuses by itself, before Express hears of it, is said in the words of
 * the native surface. A peer that vanishes without a word is found by the kernel: on a silent connection by keep-alive
 * probes, on a stream by its sign of life that nobody acknowledges.
 */
export function httpServer(app: RequestListener, limits: ConnectionLimits): Server {
  const { keepAliveMs, maxConnections, headersMs = 80_000, requestMs = 120_000, checkEveryMs = 10_000 } = limits
  const server = createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      keepAliveTimeout: keepAliveMs,
      headersTimeout: headersMs,
      requestTimeout: requestMs,
      connectionsCheckingInterval: checkEveryMs,
      keepAlive: true,
      keepAliveInitialDelay: PROBE_AFTER_MS,
      noDelay: true,
    },
    app,
  )
  server.maxConnections = maxConnections
  server.on('clientError', (err: NodeJS.ErrnoException, socket) => refuse(err, socket as Socket))
  return server
}

const CODES: Record<string, ErrorCode> = {
  HPE_HEADER_OVERFLOW: 'headers_too_large',
  ERR_HTTP_REQUEST_TIMEOUT: 'request_timeout',
}

function refuse(err: NodeJS.ErrnoException, socket: Socket): void {
  const said = (socket as { _httpMessage?: { headersSent: boolean } })._httpMessage // a reply has begun: it can only be cut
  if (err.code === 'ECONNRESET' || !socket.writable || said?.headersSent) return void socket.destroy()
  const error = new ThroughlineError(CODES[err.code ?? ''] ?? 'invalid_request', {
    ...(!CODES[err.code ?? ''] && { message: 'This is not HTTP as it should be.' }),
  })
  const { status } = error.kind
  const requestId = randomUUID()
  const body = JSON.stringify(renderNative(error, requestId).body)
  socket.end(
    [
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
      'Content-Type: application/json; charset=utf-8',
      `Content-Length: ${Buffer.byteLength(body)}`,
      `x-request-id: ${requestId}`,
      'Cache-Control: no-store',
      'Connection: close',
      '',
      body,
    ].join('\r\n'),
  )
}
