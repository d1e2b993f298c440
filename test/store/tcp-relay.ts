import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

/** A TCP relay that can fall silent: connections stay open and look alive, and nothing comes out of them any more. */
export interface Relay extends AsyncDisposable {
  port: number
  /** What the server says on the connections of now is swallowed from here on; later connections work. */
  silence(): void
}

export async function startRelay(toPort: number): Promise<Relay> {
  const pairs = new Set<{ client: Socket; server: Socket; silent: boolean }>()
  const listener = createServer((client) => {
    const pair = { client, server: connect(toPort, '127.0.0.1'), silent: false }
    pairs.add(pair)
    client.on('data', (data) => pair.server.write(data))
    pair.server.on('data', (data) => void (pair.silent || client.write(data)))
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
