import { STATUS_CODES, type IncomingMessage, type Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { refusesSocket, type OriginPolicy } from './origins.js'

/** Takes a WebSocket that asks for a path: upgrades it, or answers with `refuseUpgrade`. */
export type TakeUpgrade = (req: IncomingMessage, socket: Duplex, head: Buffer) => void

/** Socket.IO looks at its own path by itself. */
const SOCKET_IO = '/socket.io/'

/**
 * Hands every connection that wants to become a WebSocket to the door of its path. A page that may not connect is
 * refused before the upgrade. A request that offers another protocol (`h2c`: Java's client does so with every request)
 * is answered as if it had not, which RFC 9110 allows: Node would else give it to nobody.
 */
export function routeUpgrades(server: Server, origins: OriginPolicy, doors: Record<string, TakeUpgrade>): void {
  server.on('upgrade', (req: IncomingMessage, socket: Duplex, head: Buffer) => {
    if (req.headers.upgrade?.toLowerCase() !== 'websocket') return answerPlainly(server, req, socket, head)
    if (req.url?.startsWith(SOCKET_IO)) return
    socket.on('error', () => {}) // the caller left before it was answered
    const take = doors[pathOf(req)]
    if (!take) return refuseUpgrade(socket, 404, 'There is no WebSocket here.')
    const refused = refusesSocket(origins, req.headers)
    if (refused) return refuseUpgrade(socket, 403, refused)
    take(req, socket, head)
  })
}

/** Answers in plain words and closes. */
export function refuseUpgrade(socket: Duplex, status: number, sentence: string, retryAfterS?: number): void {
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nContent-Type: text/plain\r\nConnection: close\r\n` +
      `${retryAfterS === undefined ? '' : `Retry-After: ${retryAfterS}\r\n`}Content-Length: ${Buffer.byteLength(sentence)}\r\n\r\n${sentence}`,
  )
}

const pathOf = ({ url = '/' }: IncomingMessage): string => url.split('?', 1)[0]!

/** Begins the request anew, on the same connection, without its offer. */
function answerPlainly(server: Server, req: IncomingMessage, socket: Duplex, head: Buffer): void {
  const lines = [`${req.method} ${req.url} HTTP/${req.httpVersion}`]
  for (let i = 0; i < req.rawHeaders.length; i += 2) {
    const name = req.rawHeaders[i]!
    if (!/^(upgrade|http2-settings|connection)$/i.test(name)) lines.push(`${name}: ${req.rawHeaders[i + 1]}`)
  }
  if (/\bclose\b/i.test(req.headers.connection ?? '')) lines.push('Connection: close')
  socket.unshift(Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), head]))
  server.emit('connection', socket)
}
