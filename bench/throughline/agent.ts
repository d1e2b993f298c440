/** Throughline's agent: our own SDK, connected to replica A. */
import { EventEmitter, once } from 'node:events'
import { serve, type Turn } from '../../src/sdk/agent.js'
import { given } from '../orders.js'
import { speaker } from '../speaker.js'

const { url, pool } = given<{ url: string; pool: string }>()
const came = new EventEmitter()
const turns = new Map<string, { turn: Turn; end: () => void }>()
let speaking: Turn[] = []

const nameOf = (run: number, session: number): string => `${run}/${session}`

serve({ url, pool, capacity: 1000 }, async (turn) => {
  await new Promise<void>((end) => {
    turns.set(nameOf(Number(turn.metadata['run']), Number(turn.metadata['session'])), { turn, end })
    came.emit('turn')
  })
})

speaker({
  async open({ number, load }) {
    while (turns.size < load.sessions) await once(came, 'turn')
    speaking = Array.from({ length: load.sessions }, (_, session) => turns.get(nameOf(number, session))!.turn)
  },
  say(session, text) {
    void speaking[session]!.text(text) // what is on the way is bounded by the speaker
  },
  async close() {
    for (const { end } of turns.values()) end()
    turns.clear()
  },
})
