/** Baseline: an agent on a Socket.IO connection to replica A, one message an event. */
import { once } from 'node:events'
import { io } from 'socket.io-client'
import { eventOf } from '../load.js'
import { given } from '../orders.js'
import { speaker } from '../speaker.js'

const socket = io(given<{ url: string }>().url, { transports: ['websocket'] })
const connected = once(socket as never, 'connect')
let room = ''

speaker({
  async open({ number }) {
    await connected
    room = `${number}/`
  },
  say(session, text) {
    socket.emit('event', room + session, eventOf(text))
  },
  async close() {},
})
