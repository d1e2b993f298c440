import { once } from 'node:events'
import { connect } from 'node:net'
import { io } from 'socket.io-client'
import { WebSocket } from 'ws'

/*
 * Ways of sending what no decent client sends, and one word for what came back: `<status> <error code>`, `close <code>`
 * of a WebSocket, `closed` for a connection that ended without an answer.
 */

/** Longest that an answer may take, ms. */
const PATIENCE_MS = 20_000

export interface Answer {
  word: string
  /** Everything that came back, as text. */
  said: string
}

/** Bytes over TCP; `pieces` go out one by one. What comes back until the first whole reply, or the end. */
export async function raw(url: string, ...pieces: (string | Buffer)[]): Promise<Answer> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  let said = ''
  socket.setEncoding('latin1')
  const over = new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, PATIENCE_MS)
    const end = () => (clearTimeout(timer), resolve())
    socket.on('error', end).on('close', end).on('end', end)
    socket.on('data', (text: string) => {
      said += text
      if (isWhole(said)) end()
    })
  })
  await once(socket, 'connect')
  for (const piece of pieces) socket.write(piece)
  await over
  socket.destroy()
  return { word: wordOf(said), said }
}

function isWhole(said: string): boolean {
  const at = said.indexOf('\r\n\r\n')
  if (at < 0) return false
  const length = /^content-length: *(\d+)/im.exec(said.slice(0, at))?.[1]
  if (length !== undefined) return said.length - at - 4 >= Number(length)
  return /^HTTP\/1\.1 101/.test(said) || said.endsWith('0\r\n\r\n')
}

function wordOf(said: string): string {
  const status = /^HTTP\/1\.\d (\d{3})/.exec(said)?.[1]
  if (status === undefined) return said === '' ? 'closed' : 'rubbish'
  const code = /"code":"([a-z_]+)"/.exec(said.slice(said.indexOf('\r\n\r\n')))?.[1]
  return code === undefined ? status : `${status} ${code}`
}

export interface Asked {
  method?: string
  headers?: Record<string, string>
  /** Sent as it is; an object as JSON. */
  body?: string | Buffer | object
}

/** A request whose address goes out as it is written. */
export function ask(url: string, path: string, { method, headers = {}, body }: Asked = {}): Promise<Answer> {
  const bytes =
    body === undefined
      ? undefined
      : Buffer.isBuffer(body) || typeof body === 'string'
        ? Buffer.from(body)
        : Buffer.from(JSON.stringify(body))
  const head: Record<string, string> = {
    host: new URL(url).host,
    connection: 'close',
    ...(bytes && { 'content-type': 'application/json', 'content-length': String(bytes.length) }),
    ...headers,
  }
  const lines = Object.entries(head).map(([name, value]) => `${name}: ${value}`)
  return raw(
    url,
    `${method ?? (bytes ? 'POST' : 'GET')} ${path} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`,
    bytes ?? '',
  )
}

/** An upgrade to a WebSocket, as bytes. */
export const upgrade = (url: string, path: string, headers: Record<string, string> = {}): Promise<Answer> =>
  ask(url, path, {
    headers: {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
      ...headers,
    },
  })

/** Opens a Helix agent's WebSocket, writes what `attack` says (bytes go past the framing), and tells how it ended. */
export async function overWebSocket(
  url: string,
  path: string,
  headers: Record<string, string>,
  attack: (socket: WebSocket, bytes: (frame: Buffer) => void) => void,
): Promise<Answer> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}${path}`, { headers })
  socket.on('error', () => {})
  const closed = once(socket, 'close') as Promise<[number, Buffer]>
  await once(socket, 'open')
  const { _socket: tcp } = socket as unknown as { _socket: { write(frame: Buffer): void } }
  attack(socket, (frame) => tcp.write(frame))
  const timer = setTimeout(() => socket.terminate(), PATIENCE_MS)
  const [code, reason] = await closed
  clearTimeout(timer)
  return { word: `close ${code}`, said: reason.toString() }
}

export interface Hello {
  auth?: Record<string, unknown>
  hello?: unknown
  namespace?: string
}

/** Says hello as an agent over Socket.IO; the word is the code of the refusal, or `welcome`. */
export async function overSocketIo(url: string, { auth = {}, hello, namespace = '/agents' }: Hello): Promise<Answer> {
  const socket = io(`${url}${namespace}`, { transports: ['websocket'], forceNew: true, reconnection: false, auth })
  try {
    const how = await new Promise<string>((resolve) => {
      socket.once('connect', () => resolve('connected'))
      socket.once('connect_error', (err) => resolve(`refused ${err.message}`))
      setTimeout(() => resolve('nothing'), PATIENCE_MS).unref()
    })
    if (how !== 'connected' || hello === undefined) return { word: how, said: how }
    const answer = (await socket.timeout(PATIENCE_MS).emitWithAck('hello', hello)) as { ok: boolean; code?: string }
    return { word: answer.ok ? 'welcome' : answer.code!, said: JSON.stringify(answer) }
  } finally {
    socket.disconnect()
  }
}

/** Packets of Engine.IO past the client's library; tells how the connection ended, or `open` when it did not. */
export async function overEngine(url: string, packets: string[], waitMs = 3000): Promise<Answer> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`)
  socket.on('error', () => {})
  let said = ''
  socket.on('message', (data: Buffer) => (said += `${data.toString()}\n`))
  const hears = async (start: string) => {
    const end = Date.now() + PATIENCE_MS
    while (!said.includes(start) && socket.readyState === socket.OPEN && Date.now() < end)
      await new Promise((resolve) => setTimeout(resolve, 5))
  }
  const closed = once(socket, 'close').then(([code]) => `close ${String(code)}`)
  await once(socket, 'open')
  for (const packet of packets) {
    socket.send(packet)
    if (packet.startsWith('40/agents')) await hears('40/agents')
  }
  const word = await Promise.race([closed, new Promise<string>((resolve) => setTimeout(resolve, waitMs, 'open'))])
  socket.terminate()
  return { word, said }
}
