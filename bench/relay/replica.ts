/** Baseline: a Socket.IO server with the Redis adapter. Keeps nothing, checks nothing, passes on what agents say. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createAdapter } from '@socket.io/redis-adapter'
import { Redis } from 'ioredis'
import { Server } from 'socket.io'
import { answerOrders, given } from '../orders.js'

const { redisUrl } = given<{ redisUrl: string }>()
const server = createServer()
const io = new Server(server, {
  transports: ['websocket'],
  serveClient: false,
  adapter: createAdapter(new Redis(redisUrl), new Redis(redisUrl)),
})

io.on('connection', (socket) => {
  socket.on('join', async (session: string, joined: () => void) => {
    await socket.join(session)
    joined()
  })
  socket.on('event', (session: string, event: unknown) => io.to(session).emit('event', event))
})

answerOrders({
  listen: () =>
    new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port))),
})
