import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

/** The network between one program and the gateway: TCP, to one of some ports in turn, that can break. */
export interface Wire {
  url: string
  /** Destroys every connection of now; the next one works. */
  cut(): void
  /** From here on nothing gets through. */
  close(): Promise<void>
}

export async function startWire(urls: string[]): Promise<Wire> {
  const sockets = new Set<Socket>()
  let dead = false
  let next = Math.floor(Math.random() * urls.length)
  const listener = createServer((near) => {
    if (dead) return void near.destroy()
    const { hostname, port } = new URL(urls[next++ % urls.length]!)
    const far = connect(Number(port), hostname)
    for (const [side, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(side)
      side.on('error', () => {}) // it closes
      side.on('close', () => {
        sockets.delete(side)
        other.destroy()
      })
      side.pipe(other)
    }
  })
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  const cut = () => sockets.forEach((socket) => socket.resetAndDestroy())
  return {
    url: `http://127.0.0.1:${(listener.address() as AddressInfo).port}`,
    cut,
    async close() {
      dead = true
      const closed = new Promise((resolve) => listener.close(resolve))
      cut()
      await closed
    },
  }
}
