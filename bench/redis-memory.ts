/** `npm run bench:memory`: what Redis needs for each kind of thing that it keeps, by its own account (INFO memory). */
import { Redis } from 'ioredis'
import { newInteractionId, newName, newSessionId } from '../src/core/mint.js'
import type { AgentEvent } from '../src/protocol/events.js'
import type { InteractionId, RequestId, SessionId } from '../src/protocol/ids.js'
import { connector } from '../src/store/redis.js'
import { openStore, type Store } from '../src/store/store.js'
import { startRedis } from './rig.js'

/** Bytes of used_memory, each a mean over `COUNT` sessions. */
export interface MemoryFigures {
  /** A session without a turn, its line in its owner's list among them. */
  idleSession: number
  /** On top: a turn of 100 characters that waits in the queue. */
  waitingMessage: number
  /** On top of an idle session: a turn that an agent has in hand, before its first event; its lease, its deadline. */
  activeTurn: number
  /** On top of an idle session: a turn that has ended, beside its result, when its log is gone. */
  endedTurn: number
  /** An event in the log, by the characters it says. */
  event: { characters: number; log: number; sealed: number }[]
}

const COUNT = 500
const EVENTS = 100
const SIZES = [10, 50, 200, 1000]
const HOUR = 3600_000
const KEEP = { sessionTtlMs: HOUR, resumeWindowMs: HOUR, leaseTtlMs: HOUR, agentGraceMs: HOUR, replicaTtlMs: HOUR }
const LIMITS = { maxLogEvents: 1e6, maxLogBytes: 1e9, redisDeadlineMs: 30_000, probeEveryMs: HOUR }

/** Fills a Redis of its own with sessions and looks at what they take; about 20 s. */
export async function measureMemory(): Promise<MemoryFigures> {
  const server = await startRedis()
  const redis = new Redis(server.url)
  const quiet = { info: () => {}, warn: () => {} }
  const open = connector(server.url, 'bench', quiet)
  const [commands, subscriber] = [open('commands'), open('subscriber')]
  try {
    while (commands.status !== 'ready') await new Promise((resolve) => setTimeout(resolve, 20))
    const store = openStore({ commands, subscriber }, { prefix: 'tl:', ...KEEP, ...LIMITS }, 'bench', quiet)
    const used = async () => Number(/used_memory:(\d+)/.exec(await redis.info('memory'))![1])
    const grown = async (work: () => Promise<unknown>, by = COUNT) => {
      const before = await used()
      await work()
      return ((await used()) - before) / by
    }
    await begin(store, newSessionId()) // scripts are loaded, buffers have grown
    const sessions = Array.from({ length: COUNT }, newSessionId)
    const idleSession = await grown(() => each(sessions, (id) => create(store, id)))
    const requests = new Map<SessionId, RequestId>()
    const activeTurn = await grown(() => each(sessions, async (id) => void requests.set(id, await begin(store, id))))
    const waitingMessage = await grown(() => each(sessions, (id) => submit(store, id)))
    const others = Array.from({ length: COUNT }, newSessionId)
    await each(others, (id) => create(store, id))
    const endedTurn = await grown(() =>
      each(others, async (id) => {
        const request = await begin(store, id)
        await append(store, request, 1, [{ type: 'completed', reason: 'end_turn' }])
        await store.turns.seal(turnOf(request), [])
        await store.leases.release(id, 1, 'done')
        await redis.del(store.keys.log(turnOf(request)))
      }),
    )
    const event: MemoryFigures['event'] = []
    for (const characters of SIZES) {
      const some = Array.from({ length: COUNT / 10 }, newSessionId)
      const asked = new Map<SessionId, RequestId>()
      await each(some, async (id) => void (await create(store, id), asked.set(id, await begin(store, id))))
      const log = await grown(() => each(some, (id) => say(store, asked.get(id)!, characters)), some.length * EVENTS)
      const sealed = await grown(() => each(some, (id) => end(store, asked.get(id)!, characters)), some.length * EVENTS)
      event.push({ characters, log, sealed })
    }
    store.bus.close()
    return { idleSession, activeTurn, waitingMessage, endedTurn, event }
  } finally {
    for (const connection of [redis, commands, subscriber]) connection.disconnect()
    await server.stop()
  }
}

const each = async (sessions: SessionId[], work: (id: SessionId) => Promise<unknown>): Promise<void> => {
  for (let at = 0; at < sessions.length; at += 50) await Promise.all(sessions.slice(at, at + 50).map(work))
}

const create = (store: Store, id: SessionId) =>
  store.sessions.create({ id, owner: 'bench', pool: 'coder', title: '', metadata: {}, nowMs: Date.now() })

async function submit(store: Store, session: SessionId): Promise<InteractionId> {
  const interaction = newInteractionId(session)
  const now = Date.now()
  await store.deadlines.enlist(interaction, now + HOUR, now)
  const input = 'x'.repeat(100)
  const limits = { queueLimit: 100, historyLimit: 1000 }
  await store.sessions.submit({ interaction, session, input, metadata: {}, interrupt: '', ...limits })
  return interaction
}

async function begin(store: Store, session: SessionId): Promise<RequestId> {
  await create(store, session)
  await submit(store, session)
  const by = {
    agent: 'agent-1',
    connection: newName('c'),
    replica: 'replica-1',
    transport: 'socket.io',
    since: Date.now(),
  }
  const lease = await store.leases.attach(session, by, { incarnation: newName('i') })
  if (lease.word !== 'ok') throw new Error(lease.word)
  const how = {
    epoch: lease.epoch,
    holding: '' as const,
    maxAttempts: 3,
    onAgentLoss: 'fail' as const,
    agent: 'agent-1',
  }
  const turn = await store.turns.dispatch(session, how)
  if (turn.word !== 'turn') throw new Error(turn.word)
  return turn.request
}

const turnOf = (request: RequestId): InteractionId => `int_${request.slice(4, 41)}`

const append = async (store: Store, request: RequestId, first: number, events: AgentEvent[]) => {
  const interaction = turnOf(request)
  const by = { epoch: 1, expectedTip: 0, incarnation: newName('i') }
  const answer = await store.log.append({ interaction, request, first, events, heardAt: Date.now(), ...by })
  if (answer.word !== 'ok') throw new Error(answer.word)
}

const words = (characters: number) =>
  Array.from({ length: EVENTS }, (): AgentEvent => ({ type: 'entry.append', entry: 't', text: 'x'.repeat(characters) }))

const say = (store: Store, request: RequestId, characters: number) => append(store, request, 1, words(characters))

/** The end, and the result that outlives the log. */
async function end(store: Store, request: RequestId, characters: number): Promise<void> {
  await append(store, request, EVENTS + 1, [{ type: 'completed', reason: 'end_turn' }])
  await store.turns.seal(turnOf(request), [{ id: 't', kind: 'text', text: 'x'.repeat(characters * EVENTS) }])
}

/** The figures as lines of Markdown. */
export function memoryLines({ idleSession, activeTurn, waitingMessage, endedTurn, event }: MemoryFigures): string[] {
  const whole = (n: number) => String(Math.round(n))
  return [
    `- Redis by its own account (\`used_memory\`), means over ${COUNT} sessions: ${whole(idleSession)} bytes per idle session, ${whole(activeTurn)} more for a turn that runs, ${whole(waitingMessage)} for each message that waits (of 100 characters), ${whole(endedTurn)} for a turn that has ended, beside its result.`,
    ...event.map(
      ({ characters, log, sealed }) =>
        `- An event of ${characters} characters: ${whole(log)} bytes in the log, ${whole(sealed)} in the result.`,
    ),
  ]
}

if (process.argv[1] === new URL(import.meta.url).pathname) console.log(memoryLines(await measureMemory()).join('\n'))
