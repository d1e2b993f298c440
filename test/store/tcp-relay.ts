import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import type { Role } from '../../src/store/redis.js'

/** A TCP relay before Redis whose connections can go wrong in ways that no server can be asked for. */
export interface Relay extends AsyncDisposable {
  port: number
  /** What the server says on the connections of now is swallowed from here on; they stay open. Later ones work. */
  silence(): void
  /** Commands of this role's connections go through, the answers are kept back until `release`. */
  hold(role: Role): void
  release(): void
}

interface Pair {
  client: Socket
  server: Socket
  /** What the connection is for: its first bytes say it (CLIENT SETNAME). */
  said: string
  silent: boolean
  kept: Buffer[] | null
}

export async function startRelay(toPort: number): Promise<Relay> {
  const pairs = new Set<Pair>()
  const listener = createServer((client) => {
    const pair: Pair = { client, server: connect(toPort, '127.0.0.1'), said: '', silent: false, kept: null }
    pairs.add(pair)
    client.on('data', (data) => {
      if (pair.said.length < 4096) pair.said += data.toString('latin1')
      pair.server.write(data)
    })
    pair.server.on('data', (data) => {
      if (pair.kept) pair.kept.push(data)
      else if (!pair.silent) client.write(data)
    })
    const close = () => {
      client.destroy()
      pair.server.destroy()
      pairs.delete(pair)
    }
    for (const side of [client, pair.server]) side.on('close', close).on('error', close)
  })
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  return {
    port: (listener.address() as AddressInfo).port,
    silence: () => pairs.forEach((pair) => (pair.silent = true)),
    hold(role) {
      for (const pair of pairs) if (pair.said.includes(`:${role}\r\n`)) pair.kept = []
    },
    release() {
      for (const pair of pairs) {
        for (const data of pair.kept ?? []) pair.client.write(data)
        pair.kept = null
      }
    },
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => listener.close(resolve))
      for (const { client, server } of pairs) {
        client.destroy()
        server.destroy()
      }
      await closed
    },
  }
}
