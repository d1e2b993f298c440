import { randomBytes } from 'node:crypto'
import { newInteractionId, newSessionId } from '../../src/core/mint.js'
import type { AgentEvent, LogEvent } from '../../src/protocol/events.js'
import { emptyTurn, fold, type Turn } from '../../src/protocol/fold.js'
import { sessionOf, type InteractionId, type RequestId, type SessionId } from '../../src/protocol/ids.js'
import type { AppendAnswer } from '../../src/store/log.js'
import type { Waiting } from '../../src/store/durability.js'
import { connector, type Connection } from '../../src/store/redis.js'
import { openStore, type Store, type StoreSettings } from '../../src/store/store.js'
import type { Deadlines, DispatchAnswer } from '../../src/store/turns.js'
import { eventually } from '../support/eventually.js'
import { keysLike } from '../support/network.js'
import type { Redis } from 'ioredis'

export const SETTINGS: Omit<StoreSettings, 'prefix'> = {
  sessionTtlMs: 60_000,
  resumeWindowMs: 30_000,
  leaseTtlMs: 15_000,
  agentGraceMs: 10_000,
  maxLogEvents: 1000,
  maxLogBytes: 1_000_000,
  redisDeadlineMs: 3000,
  replicaTtlMs: 15_000,
  probeEveryMs: 60_000,
}

/** Deadlines that nothing is past. A test gives 0 for the one it wants to be past. */
export const FAR: Deadlines = {
  agentWaitMs: 1e9,
  staleAfterMs: 1e9,
  agentSilentMs: 1e9,
  maxAttempts: 3,
  onAgentLoss: 'fail',
  awayUntil: 0,
  awayForMs: 0,
  leasesCountFrom: 0,
  agentGraceMs: 0,
}

export const quiet = { info: () => {}, warn: () => {} }

/** A store of the test's own on the real Redis of the run, with what every test of the scripts needs at hand. */
export interface TestStore extends Store, AsyncDisposable {
  redis: Redis
  subscriber: Connection
  prefix: string
  /** A new session of pool `coder`, owner `me`. */
  session(): Promise<SessionId>
  submit(
    session: SessionId,
    more?: {
      interaction?: InteractionId
      interrupt?: boolean | 'threaded'
      queueLimit?: number
      historyLimit?: number
    },
  ): Promise<{ id: InteractionId; word: string; position: number; interrupted: string }>
  attach(
    session: SessionId,
    agent?: string,
    more?: { holding?: { request: RequestId; acked: number }; epochAbove?: number },
  ): Promise<number>
  dispatch(
    session: SessionId,
    epoch: number,
    more?: {
      holding?: RequestId | ''
      heard?: RequestId | ''
      maxAttempts?: number
      onAgentLoss?: 'fail' | 'retry'
      agent?: string
      run?: string
    },
  ): Promise<DispatchAnswer>
  append(
    request: RequestId,
    epoch: number,
    first: number,
    events: AgentEvent[],
    more?: { expectedTip?: number; incarnation?: string },
  ): Promise<AppendAnswer>
  /** A session whose one turn an agent has in hand. */
  running(): Promise<{ session: SessionId; id: InteractionId; epoch: number; request: RequestId }>
  /** The whole log. Throws when its numbers are not 1, 2, 3 … */
  events(id: InteractionId): Promise<LogEvent[]>
  folded(id: InteractionId): Promise<Turn>
  /** A hash as Redis has it. */
  hash(key: string): Promise<Record<string, string>>
  /** Keys of this store that live for ever. */
  immortal(): Promise<string[]>
}

export async function openTestStore(
  settings: Partial<StoreSettings> & { url?: string; waiting?: Waiting } = {},
): Promise<TestStore> {
  const { url = process.env['TEST_REDIS_URL']!, waiting, ...rest } = settings
  const prefix = rest.prefix ?? `test-${randomBytes(6).toString('hex')}:`
  const replica = `test-${randomBytes(4).toString('hex')}`
  const open = connector(url, replica, quiet)
  const commands = open('commands')
  const subscriber = open('subscriber')
  await eventually(() => commands.status === 'ready' && subscriber.status === 'ready')
  const redis = commands as Redis
  const store = openStore(
    { commands, subscriber },
    { ...SETTINGS, ...rest, prefix },
    replica,
    quiet,
    undefined,
    waiting,
  )
  const { sessions, turns, leases, log } = store

  const it: TestStore = {
    ...store,
    redis,
    subscriber,
    prefix,
    async session() {
      const id = newSessionId()
      await sessions.create({ id, owner: 'me', pool: 'coder', title: '', metadata: {}, nowMs: Date.now() })
      return id
    },
    async submit(session, more = {}) {
      const interaction = more.interaction ?? newInteractionId(session)
      const answer = await sessions.submit({
        interaction,
        session,
        input: 'hello',
        metadata: { k: 'v' },
        interrupt: more.interrupt === 'threaded' ? 'threaded' : more.interrupt ? 'now' : '',
        queueLimit: more.queueLimit ?? 100,
        historyLimit: more.historyLimit ?? 100,
      })
      return { position: -1, interrupted: '', ...answer, id: interaction }
    },
    async attach(session, agent = 'one', more = {}) {
      const answer = await leases.attach(session, claimant(agent), { ...more, incarnation: name() })
      if (answer.word !== 'ok') throw new Error(`attach: ${JSON.stringify(answer)}`)
      return answer.epoch
    },
    dispatch: (session, epoch, { holding = '', maxAttempts = 3, onAgentLoss = 'fail', ...more } = {}) =>
      turns.dispatch(session, { epoch, holding, maxAttempts, onAgentLoss, agent: 'one', ...more }),
    append: (request, epoch, first, events, { expectedTip = 0, incarnation = name() } = {}) =>
      log.append({
        interaction: `int_${request.slice(4, 41)}`,
        request,
        epoch,
        expectedTip,
        first,
        events,
        heardAt: 1000,
        incarnation,
      }),
    async running() {
      const session = await it.session()
      const { id } = await it.submit(session)
      const epoch = await it.attach(session)
      const turn = await it.dispatch(session, epoch)
      if (turn.word !== 'turn') throw new Error(`dispatch: ${turn.word}`)
      return { session, id, epoch, request: turn.request }
    },
    async events(id) {
      const events: LogEvent[] = []
      for (;;) {
        const page = await log.read(id, events.length)
        events.push(...page)
        if (page.length === 0) break
      }
      events.forEach((event, i) => {
        if (event.n !== i + 1) throw new Error(`the log of ${id} has a hole before ${event.n}`)
      })
      return events
    },
    folded: async (id) => (await it.events(id)).reduce(fold, emptyTurn()),
    hash: (key) => redis.hgetall(key),
    async immortal() {
      const all = await keysLike(redis, `${prefix}*`)
      const lives = await Promise.all(all.map((key) => redis.pttl(key)))
      return all.filter((_, i) => lives[i] === -1)
    },
    async [Symbol.asyncDispose]() {
      store.bus.close()
      if (redis.status === 'ready') {
        const own = url === process.env['TEST_REDIS_URL'] ? await keysLike(redis, `${prefix}*`) : []
        for (const key of own) await redis.unlink(key)
      }
      redis.disconnect()
      subscriber.disconnect()
    },
  }
  return it
}

export const claimant = (agent: string, connection = `c-${agent}`) => ({
  agent,
  connection,
  replica: 'r',
  transport: 'test',
  since: 1,
})

export const name = (): string => randomBytes(6).toString('hex')

export const text = (said: string, entry = 't'): AgentEvent => ({ type: 'entry.append', entry, text: said })
export const completed: AgentEvent = { type: 'completed', reason: 'end_turn' }
export const failed = (code = 'boom', message = 'why'): AgentEvent => ({ type: 'failed', code, message })

/** What a session's hash says of the turn in flight. */
export async function inFlight(store: TestStore, session: SessionId) {
  const { waitingInteractionId, lastRequestId, requestStartedAt } = (await store.sessions.read(session))!
  return { waitingInteractionId, lastRequestId, started: requestStartedAt > 0 }
}

export { sessionOf }
