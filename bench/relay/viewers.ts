/** Baseline: viewers on Socket.IO connections to replica B, one connection each. */
import { io, type Socket } from 'socket.io-client'
import { listener } from '../listener.js'
import { given } from '../orders.js'

const { url } = given<{ url: string }>()
const open: Socket[] = []

listener({
  async open({ number, load }, heard) {
    for (let session = 0; session < load.sessions; session++) {
      const viewers = Array.from({ length: load.viewersPerSession }, () => view(`${number}/${session}`, heard))
      await Promise.all(viewers)
    }
  },
  async close() {
    for (const socket of open.splice(0)) socket.disconnect()
  },
})

async function view(room: string, heard: (text: string) => void): Promise<void> {
  const socket = io(url, { transports: ['websocket'], forceNew: true })
  open.push(socket)
  socket.on('event', ({ text }: { text: string }) => heard(text))
  await socket.timeout(10_000).emitWithAck('join', room)
}
