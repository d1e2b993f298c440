import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Target {
  host: string
  port: number
}

export interface ProxyOptions {
  /** 0: any free one. */
  port: number
  /** Asked for each new connection, so replicas may come and go. */
  targets: () => readonly Target[]
  log: (line: string) => void
  /** Default 127.0.0.1. */
  host?: string
}

export interface Proxy {
  port: number
  counts(): ProxyCounts
  /** Listens no more and resets what is open. */
  close(): Promise<void>
}

export interface ProxyCounts {
  /** Connections that are open now. */
  open: number
  /** Connections accepted so far. */
  total: number
  /** Of these: answered 503, because no target accepted. */
  unavailable: number
  /** Of these: reset towards the client, because their target died. */
  reset: number
}

const CONNECT_LIMIT_MS = 1_000
const PROBE_MS = 20
const FLUSH_LIMIT_MS = 5_000

/**
 * A load balancer for one machine: each new TCP connection goes to the next target that accepts it. It knows nothing
 * of what flows through, so streams and WebSockets pass as they are, and nothing sticks to a target but a connection.
 * No target accepts: HTTP 503 with Retry-After.
 * @throws the error of `listen`, such as EADDRINUSE.
 */
export async function startProxy({ port, host = '127.0.0.1', targets, log }: ProxyOptions): Promise<Proxy> {
  const open = new Set<Socket>()
  const counts = { total: 0, unavailable: 0, reset: 0 }
  let turn = 0
  let outage = false

  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (client) => {
    counts.total++
    client.on('error', () => {}) // 'close' follows and does what is due
    client.once('close', () => open.delete(client))
    open.add(client)
    void serve(client)
  })

  async function serve(client: Socket): Promise<void> {
    const found = await nextThatAccepts()
    if (client.destroyed) return void found?.socket.destroy()
    if (!found) {
      if (!outage) log('proxy: no replica accepts connections; answering 503 until one does')
      outage = true
      counts.unavailable++
      return answerUnavailable(client)
    }
    outage = false
    join(client, found.socket, found.target)
  }

  async function nextThatAccepts(): Promise<{ socket: Socket; target: Target } | null> {
    const candidates = targets()
    const first = turn++
    for (let i = 0; i < candidates.length; i++) {
      const target = candidates[(first + i) % candidates.length]!
      const socket = await dial(target)
      if (socket) return { socket, target }
    }
    return null
  }

  /** Carries both directions, each to its own end, until both are through or one side breaks. */
  function join(client: Socket, replica: Socket, target: Target): void {
    let cut = false
    const cutOff = (): void => {
      if (cut || client.destroyed) return
      cut = true
      counts.reset++
      void flushAndReset(client)
    }
    client.pipe(replica) // ends it when the client ends
    replica.pipe(client, { end: false })
    replica.once('end', () => {
      // A clean end in the middle of a stream looks like success to a client, and the kernel of a killed replica
      // sends just that.
      void isAlive(target).then((alive) => (alive ? client.end() : cutOff()))
    })
    replica.on('error', cutOff)
    client.once('close', (broken) => (broken ? replica.resetAndDestroy() : replica.destroySoon()))
  }

  server.listen({ port, host })
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    counts: () => ({ open: open.size, ...counts }),
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve))
      for (const client of open) client.resetAndDestroy()
      await closed
    },
  }
}

/** What was received before the target died still goes out. */
async function flushAndReset(client: Socket): Promise<void> {
  const flushed = new Promise((resolve) => client.write('', resolve))
  await Promise.race([flushed, sleep(FLUSH_LIMIT_MS, undefined, { ref: false })])
  client.resetAndDestroy()
}

/** A connection to the target, or null when it refuses or takes too long. */
async function dial({ host, port }: Target): Promise<Socket | null> {
  const socket = connect({ host, port, allowHalfOpen: true, noDelay: true })
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(CONNECT_LIMIT_MS) })
    return socket
  } catch {
    socket.on('error', () => {}).destroy()
    return null
  }
}

/**
 * Whether somebody still listens there. A dying process closes its connections a moment before its listener, and until
 * then the kernel accepts in its name; such a connection breaks at once, so it counts only when it lasts.
 */
async function isAlive(target: Target): Promise<boolean> {
  const socket = await dial(target)
  if (!socket) return false
  socket.on('error', () => {}).resume() // 'close' follows
  const broke = new Promise<true>((resolve) => socket.once('close', () => resolve(true)))
  const broken = await Promise.race([broke, sleep(PROBE_MS, false)])
  socket.destroy()
  return !broken
}

const UNAVAILABLE = JSON.stringify({
  error: { code: 'draining', message: 'No replica accepts connections at the moment. Send the request again.' },
})

function answerUnavailable(client: Socket): void {
  client.resume() // an unread request would turn the close into a reset, and the answer would be lost
  client.end(
    [
      'HTTP/1.1 503 Service Unavailable',
      'Content-Type: application/json',
      `Content-Length: ${Buffer.byteLength(UNAVAILABLE)}`,
      'Retry-After: 1',
      'Connection: close',
      '',
      UNAVAILABLE,
    ].join('\r\n'),
  )
  const limit = setTimeout(() => client.destroy(), FLUSH_LIMIT_MS)
  client.once('close', () => clearTimeout(limit))
}
