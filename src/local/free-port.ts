import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'

import { SetUpError } from './set-up-error.js'

/** A TCP port of loopback that was free a moment ago. */
export async function freePort(): Promise<number> {
  const [port] = await freePorts(1)
  return port!
}

/** Below the ports that Linux and macOS give to outgoing connections: one of those could take a port before it is listened on. */
const RANGE = { from: 15_000, to: 32_000 }

/** Several different free ports: all are held open until the last is found, so none comes twice. */
export async function freePorts(count: number): Promise<number[]> {
  const servers: Server[] = []
  const ports: number[] = []
  const start = randomInt(RANGE.from, RANGE.to) // two programs that look at the same time do so in different places
  for (let tried = 0; ports.length < count; tried++) {
    if (tried === RANGE.to - RANGE.from)
      throw new SetUpError(`No free port from ${RANGE.from} to ${RANGE.to} on loopback.`)
    const port = RANGE.from + ((start + tried) % (RANGE.to - RANGE.from))
    const server = await listen(port).catch((err: NodeJS.ErrnoException) => {
      if (err.code !== 'EADDRINUSE') throw err
    })
    if (!server) continue
    servers.push(server)
    ports.push(port)
  }
  await Promise.all(servers.map(closed))
  return ports
}

/** Whether `port` can be listened on here and now. */
export async function isFree(port: number): Promise<boolean> {
  return await listen(port).then(
    (server) => closed(server).then(() => true),
    () => false,
  )
}

/**
 * `wanted` when it is free, any free port when `wanted` is 0.
 * @throws SetUpError naming `variable` when something else holds the port or we may not open it.
 */
export async function claimPort(wanted: number, variable: string): Promise<number> {
  if (wanted === 0) return await freePort()
  try {
    await closed(await listen(wanted))
    return wanted
  } catch (err) {
    const why =
      (err as NodeJS.ErrnoException).code === 'EADDRINUSE'
        ? 'is in use by another program'
        : `cannot be opened (${(err as NodeJS.ErrnoException).code})`
    throw new SetUpError(`Port ${wanted} ${why}. Stop that program, or choose another port: ${variable}=<port>.`)
  }
}

async function listen(port: number) {
  const server = createServer()
  server.listen({ port, host: '127.0.0.1', exclusive: true })
  await once(server, 'listening')
  return server
}

async function closed(server: { close(done: () => void): unknown }): Promise<void> {
  await new Promise<void>((resolve) => server.close(resolve))
}
