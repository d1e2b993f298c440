import { Gate } from '../../src/bridge/gate.js'
import { Telling } from '../../src/bridge/telling.js'
import { newInteractionId, newSessionId } from '../../src/core/mint.js'
import { requestOf } from '../../src/protocol/ids.js'
import { Outbox } from '../../src/protocol/outbox.js'
import { Turn } from '../../src/sdk/agent-turn.js'

const WINDOW = { events: 100, bytes: 100_000 }

test.each(Array.from({ length: 10 }, (_, steps) => steps))(
  'an update that comes %s steps after what was told before is told as well',
  async (steps) => {
    const session = newSessionId()
    const interaction = newInteractionId(session)
    const ids = { session, interaction, request: requestOf(interaction, 1) }
    const outbox = new Outbox()
    const turn = new Turn({ ...ids, attempt: 1, pool: 'coder', thread: null, input: 'go', metadata: {} }, outbox, {
      flush: () => {},
      working: () => {},
      window: () => WINDOW,
    })
    const telling = new Telling(turn, new Gate(), { policy: 'deny', timeoutMs: 1000 }, () => undefined)
    const say = (text: string) =>
      telling.update({ sessionUpdate: 'agent_message_chunk', content: { type: 'text', text } })
    say('one')
    for (let step = 0; step < steps; step++) await Promise.resolve()
    say('two')
    await new Promise(setImmediate)
    await telling.said()
    const events = outbox.take(WINDOW)?.events ?? []
    expect(events.map((event) => ('text' in event ? event.text : '')).join('')).toBe('onetwo')
  },
)
