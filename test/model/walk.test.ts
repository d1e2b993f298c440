import fc from 'fast-check'
import { newInteractionId } from '../../src/core/mint.js'
import { decode, type AgentEvent, type PermissionOption } from '../../src/protocol/events.js'
import { emptyTurn, fold } from '../../src/protocol/fold.js'
import { attemptOf, type InteractionId, type RequestId, type SessionId } from '../../src/protocol/ids.js'
import { isTerminal, type Status } from '../../src/protocol/interaction.js'
import type { Deadlines } from '../../src/store/turns.js'
import { claimant, completed, failed, FAR, name, openTestStore, text, type TestStore } from '../store/open.js'
import { ALLOWED, World, type ModelAgent, type Reading } from './world.js'

/**
 * Random walks: the pure transition table and the few rules of a session (world.ts) against the Lua scripts on a real
 * Redis. After each step both must say the same of everything.
 */
let store: TestStore
beforeAll(async () => void (store = await openTestStore()))
afterAll(() => store[Symbol.asyncDispose]())

interface Real {
  session: SessionId
}
type Step = fc.AsyncCommand<World, Real>

const MAX_ATTEMPTS = 3
/** A turn whose thread was gone is handed out once more at any rate. */
const mostAttempts = ({ forgottenBy }: { forgottenBy: RequestId | '' }) =>
  Math.max(MAX_ATTEMPTS, forgottenBy ? attemptOf(forgottenBy) + 1 : 0)
const QUEUE_LIMIT = 3

function step(said: string, run: (world: World, real: Real) => Promise<void>, check = (_: World) => true): Step {
  return {
    toString: () => said,
    check,
    async run(world, real) {
      await run(world, real)
      world.agrees(await reading(real.session))
    },
  }
}

const nth = <T>(items: readonly T[], i: number): T => items[i % items.length]!
const anAgent = fc.oneof({ weight: 4, arbitrary: fc.constant('the holder' as const) }, fc.nat({ max: 1 }))
const aTurn = fc.oneof({ weight: 3, arbitrary: fc.constant('the current' as const) }, fc.nat({ max: 20 }))
type Which = 'the current' | number
const seldom = fc.nat({ max: 3 }).map((i) => i === 0)
const chosen = (world: World, which: Which): InteractionId =>
  which === 'the current' ? world.current || world.ids.at(-1)! : nth(world.ids, which)
const agentOf = (world: World, which: 'the holder' | number): ModelAgent =>
  which === 'the holder'
    ? (world.agents.find((agent) => agent.name === world.lease?.agent) ?? world.agents[0]!)
    : nth(world.agents, which)
const hasTurns = (world: World) => world.turns.size > 0
const onLoss = fc.constantFrom('fail' as const, 'retry' as const, 'retry' as const, 'retry' as const)

const submits = seldom.map((interrupt) =>
  step(interrupt ? 'interrupt' : 'submit', async (world, { session }) => {
    const id = newInteractionId(session)
    const full = world.current !== '' && !interrupt && world.queue.length >= QUEUE_LIMIT
    const answer = await store.submit(session, { interaction: id, interrupt, queueLimit: QUEUE_LIMIT })
    expect(answer.word).toBe(full ? 'full' : 'ok')
    if (full) return
    const interrupted = interrupt ? world.current : ''
    world.submit(id, interrupt)
    expect(answer).toMatchObject({ position: world.queue.indexOf(id) + 1, interrupted })
  }),
)

const begins = anAgent.map((i) =>
  step(
    `agent ${i} begins a turn`,
    async (world, { session }) => {
      const agent = agentOf(world, i)
      const interaction = newInteractionId(session)
      const begin = () =>
        store.sessions.begin({
          interaction,
          session,
          input: 'typed',
          epoch: agent.epoch,
          historyLimit: 1000,
          agentRef: '',
        })
      const answer = await begin()
      if (agent.epoch !== world.epoch) return expect(answer).toEqual({ word: 'superseded', epoch: world.epoch })
      const owner = world.holder // whose lease it was last: the session knows its agent beyond the lease
      const yielded = world.begin(interaction, owner)
      expect(answer).toEqual({ word: 'ok', position: world.queue.indexOf(interaction) + 1, yielded: yielded?.id ?? '' })
      expect(await begin()).toMatchObject({ word: 'known', position: world.queue.indexOf(interaction) + 1 })
    },
    (world) => agentOf(world, i).epoch > 0,
  ),
)

const submitsAgain = aTurn.map((i) =>
  step(
    `submit turn ${i} again`,
    async (world, { session }) => {
      const id = chosen(world, i)
      const answer = await store.submit(session, { interaction: id, interrupt: true, queueLimit: 0 })
      expect(answer).toMatchObject({ word: 'known', position: world.queue.indexOf(id) + 1, interrupted: '' })
    },
    hasTurns,
  ),
)

const attaches = fc.tuple(anAgent, seldom).map(([i, anew]) =>
  step(`agent ${i} attaches ${anew ? 'anew' : 'with what it has in hand'}`, async (world, { session }) => {
    const agent = agentOf(world, i)
    if (anew) agent.request = ''
    const answer = await store.leases.attach(session, claimant(agent.name), {
      ...(agent.request && { holding: { request: agent.request, acked: 0 } }),
      incarnation: name(),
    })
    if (world.lease && world.lease.agent !== agent.name)
      return expect(answer).toEqual({ word: 'taken', agent: world.lease.agent })
    world.epoch++
    world.lease = { agent: agent.name, lost: false }
    world.holder = agent
    agent.epoch = world.epoch
    agent.heard = ''
    const turn = world.current === '' ? undefined : world.turn(world.current)
    expect(answer).toEqual({
      word: 'ok',
      epoch: world.epoch,
      interaction: world.current,
      request: turn?.request ?? '',
      status: turn?.status ?? '',
      after: turn?.agentTip ?? 0,
      pool: 'coder',
    })
  }),
)

const dispatches = fc.tuple(anAgent, onLoss, seldom).map(([i, onAgentLoss, answerIsLost]) =>
  step(
    `dispatch to agent ${i}, on loss ${onAgentLoss}${answerIsLost ? ', the answer is lost' : ''}`,
    async (world, { session }) => {
      const agent = agentOf(world, i)
      const answer = await store.dispatch(session, agent.epoch, {
        holding: agent.request,
        heard: agent.heard,
        maxAttempts: MAX_ATTEMPTS,
        onAgentLoss,
        agent: agent.name,
        run: agent.name,
      })
      if (answer.word === 'held') answer.answers.sort((a, b) => a.permission.localeCompare(b.permission))
      expect(answer).toMatchObject(dispatched(world, agent, onAgentLoss))
      if (answer.word === 'turn' && !answerIsLost) {
        agent.request = agent.heard = answer.request
        agent.said.set(answer.request, [])
      }
    },
    (world) => agentOf(world, i).epoch > 0,
  ),
)

function dispatched(world: World, agent: ModelAgent, onAgentLoss: 'fail' | 'retry'): object {
  if (agent.epoch !== world.epoch) return { word: 'superseded', epoch: world.epoch }
  if (world.current === '') return { word: 'idle' }
  const turn = world.turn(world.current)
  if (turn.request !== '' && turn.request === agent.request)
    return { word: 'held', request: turn.request, after: turn.agentTip, answers: world.answers(turn) }
  const repeated =
    turn.status === 'waiting' &&
    turn.request !== '' &&
    turn.request !== agent.heard &&
    turn.dispatchEpoch === agent.epoch
  const leftAside =
    turn.status === 'waiting' &&
    turn.request !== '' &&
    turn.request !== turn.repeated &&
    turn.agentTip === 0 &&
    turn.dispatchedTo === agent.name &&
    turn.dispatchEpoch !== agent.epoch
  if (leftAside) {
    turn.dispatchEpoch = agent.epoch
    turn.repeated = turn.request
  } else if (!repeated) {
    const failure = (code: string) => (world.end(turn, 'fail'), { word: 'ended', interaction: turn.id, code })
    if (turn.origin !== '' && (turn.origin !== agent.name || turn.attempt > 0)) return failure('agent_disconnected')
    if (turn.status === 'streaming' && onAgentLoss === 'fail') return failure('agent_disconnected')
    if (turn.attempt >= mostAttempts(turn)) return failure('attempts_exhausted')
    if (turn.status === 'streaming') world.reset(turn)
    world.dispatch(turn, agent)
  }
  return {
    word: 'turn',
    interaction: turn.id,
    request: turn.request,
    attempt: turn.attempt,
    thread: world.thread || null,
  }
}

const aPermission = fc.constantFrom('p', 'q')
const options: PermissionOption[] = [
  { id: 'yes', name: 'Yes', kind: 'allow_once' },
  { id: 'no', name: 'No', kind: 'reject_once' },
]

const answers = fc.tuple(aTurn, aPermission, fc.constantFrom('yes', 'no')).map(([i, permission, option]) =>
  step(
    `a client answers ${permission} of turn ${i} with ${option}`,
    async (world) => {
      const turn = world.turn(chosen(world, i))
      expect(await store.turns.answer(turn.id, permission, option)).toEqual(world.answer(turn, permission, option))
    },
    hasTurns,
  ),
)

const someEvents: fc.Arbitrary<AgentEvent[]> = fc
  .tuple(
    fc.array(
      fc.oneof(
        { weight: 2, arbitrary: fc.nat({ max: 99 }).map((i) => text(`w${i} `)) },
        fc.nat({ max: 9 }).map((i): AgentEvent => ({ type: 'thread', thread: `T-${i}` })),
        fc.nat({ max: 9 }).map((i): AgentEvent => ({ type: 'title', title: `t${i}` })),
        aPermission.map((permission): AgentEvent => ({ type: 'permission', permission, title: 'May I?', options })),
        aPermission.map((permission): AgentEvent => ({
          type: 'permission.settled',
          permission,
          option: null,
          by: 'timeout',
        })),
      ),
      { maxLength: 3 },
    ),
    fc.constantFrom(null, null, null, null, completed, failed()),
  )
  .map(([said, end]) => [...said, ...(end ? [end] : [])])

const appends = fc
  .record({ i: anAgent, fresh: someEvents, back: fc.nat({ max: 3 }), hole: seldom })
  .map(({ i, fresh, back, hole }) =>
    step(
      `agent ${i} says ${fresh.map((event) => event.type).join(', ') || 'nothing'} after ${back} it said before${hole ? ', past a hole' : ''}`,
      async (world) => {
        const agent = agentOf(world, i)
        const request = agent.request as Exclude<typeof agent.request, ''>
        const said = agent.said.get(request) ?? []
        const over = said.some((event) => event.type === 'completed' || event.type === 'failed')
        const all = over ? said : [...said, ...fresh]
        const from = Math.max(said.length - back, 0)
        const batch = hole ? [text('never written')] : all.slice(from)
        const first = hole ? all.length + 2 : from + 1
        const answer = await store.append(request, agent.epoch, first, batch)
        expect(answer).toEqual(world.append(agent, request, first, batch))
        if (!hole && answer.word === 'ok') agent.said.set(request, all)
      },
      (world) => agentOf(world, i).request !== '' && agentOf(world, i).epoch > 0,
    ),
  )

const cancels = fc.nat({ max: 20 }).map((i) =>
  step(
    `cancel turn ${i}`,
    async (world) => {
      const turn = world.turn(chosen(world, i))
      const over = isTerminal(turn.status)
      expect(await store.turns.cancel(turn.id, 'user')).toBe(over ? 'ended' : 'cancelled')
      if (!over) world.end(turn, 'cancel')
    },
    hasTurns,
  ),
)

const PAST = ['nothing', 'agentWaitMs', 'staleAfterMs', 'agentSilentMs'] as const
const expires = fc
  .record({ i: aTurn, past: fc.constantFrom(...PAST), confirmed: fc.boolean(), onLoss, early: seldom })
  .map((it) =>
    step(
      `expire turn ${it.i}: past ${it.past}${it.confirmed ? ', silence confirmed' : ''}, on loss ${it.onLoss}${it.early ? ', too early for leases' : ''}`,
      async (world) => {
        const turn = world.turn(chosen(world, it.i))
        const deadlines: Deadlines = {
          ...FAR,
          maxAttempts: MAX_ATTEMPTS,
          onAgentLoss: it.onLoss,
          leasesCountFrom: it.early ? Date.now() + 1e6 : 0,
          ...(it.past !== 'nothing' && { [it.past]: 0 }),
        }
        const answer = await store.turns.expire(turn.id, deadlines, it.confirmed ? turn.log.length : undefined)
        expect(answer).toMatchObject(verdict(world, turn.id, it))
      },
      hasTurns,
    ),
  )

function verdict(
  world: World,
  id: InteractionId,
  {
    past,
    confirmed,
    onLoss,
    early,
  }: { past: (typeof PAST)[number]; confirmed: boolean; onLoss: 'fail' | 'retry'; early: boolean },
): object {
  const turn = world.turn(id)
  const failure = (code: string) => ({ word: 'failed', code, next: world.end(turn, 'fail') })
  if (isTerminal(turn.status)) return { word: turn.sealed ? 'sealed' : 'unsealed' }
  if (turn.status === 'queued') return { word: 'later' }
  if (turn.status === 'waiting' && past === 'staleAfterMs') return failure('stale')
  if (world.lease?.lost) return { word: 'later' }
  if (world.lease) {
    if (past !== 'agentSilentMs') return { word: turn.status === 'waiting' ? 'wake' : 'later' }
    return confirmed ? failure('agent_silent') : { word: 'silent', tip: turn.log.length }
  }
  if (early) return { word: 'later' }
  if (turn.origin !== '') return failure('agent_disconnected')
  if (turn.status === 'streaming') {
    if (onLoss === 'fail' || turn.attempt >= mostAttempts(turn)) return failure('agent_disconnected')
    world.reset(turn)
    return { word: 'reset', pool: 'coder' }
  }
  if (turn.attempt === 0 && past === 'agentWaitMs') return failure('agent_unavailable')
  if (turn.attempt >= mostAttempts(turn)) return failure('attempts_exhausted')
  return { word: 'pend', pool: 'coder' }
}

const releases = fc.tuple(anAgent, fc.constantFrom('done' as const, 'lost' as const, 'left' as const)).map(([i, how]) =>
  step(
    `agent ${i} releases as ${how}`,
    async (world, { session }) => {
      const agent = agentOf(world, i)
      const answer = await store.leases.release(session, agent.epoch, how)
      if (!world.lease || agent.epoch !== world.epoch) return expect(answer.word).toBe('superseded')
      if (how === 'done' && world.current !== '')
        return expect(answer).toEqual({ word: 'busy', interaction: world.current })
      expect(answer).toEqual({ word: 'ok', interaction: world.current })
      if (how === 'lost') world.lease.lost = true
      else {
        world.lease = null
        world.epoch++
      }
    },
    (world) => agentOf(world, i).epoch > 0,
  ),
)

const renews = anAgent.map((i) =>
  step(
    `agent ${i} renews`,
    async (world, { session }) => {
      const agent = agentOf(world, i)
      const answer = await store.leases.renew(session, agent.epoch, claimant(agent.name))
      if (agent.epoch !== world.epoch || world.lease?.lost)
        return expect(answer).toEqual({ word: 'superseded', epoch: world.epoch })
      world.lease = { agent: agent.name, lost: false }
      const request = world.current === '' ? '' : world.turn(world.current).request
      expect(answer).toEqual({ word: 'ok', interaction: world.current, request })
    },
    (world) => agentOf(world, i).epoch > 0,
  ),
)

const leaseRunsOut = fc.constant(null).map(() =>
  step('the lease runs out', async (world, { session }) => {
    await store.redis.del(store.keys.lease(session))
    world.lease = null
  }),
)

const seals = aTurn.map((i) =>
  step(
    `seal turn ${i}`,
    async (world) => {
      const turn = world.turn(chosen(world, i))
      const expected = !isTerminal(turn.status) ? 'running' : turn.sealed ? 'sealed' : 'ok'
      expect(await store.turns.seal(turn.id, [])).toBe(expected)
      turn.sealed ||= expected === 'ok'
    },
    hasTurns,
  ),
)

const forgets = anAgent.map((i) =>
  step(
    `agent ${i} cannot load the thread`,
    async (world) => {
      const agent = agentOf(world, i)
      const request = agent.request as Exclude<typeof agent.request, ''>
      const turn = world.turn(`int_${request.slice(4, 41)}`)
      const answer = await store.turns.forgetThread(turn.id, request, agent.epoch)
      if (agent.epoch !== world.epoch || turn.request !== request || isTerminal(turn.status))
        return expect(answer).toEqual({ word: 'stale' })
      if (turn.forgottenBy === request) return expect(answer.word).toBe('again')
      const again = turn.status === 'waiting' && world.thread !== '' && turn.forgottenBy === ''
      expect(answer).toEqual({ word: again ? 'again' : 'fail', thread: world.thread })
      world.thread = ''
      if (again) {
        turn.forgottenBy = request
        agent.request = ''
      }
    },
    (world) => agentOf(world, i).request !== '' && agentOf(world, i).epoch > 0,
  ),
)

async function reading(session: SessionId): Promise<Reading> {
  const { keys, redis } = store
  const [stored, ids, queue, holder] = await Promise.all([
    store.sessions.read(session),
    store.sessions.interactions(session),
    store.sessions.queue(session),
    store.leases.holder(session),
  ])
  const both = redis.pipeline()
  for (const id of ids) both.hgetall(keys.interaction(id)).xrange(keys.log(id), '-', '+')
  const answers = (await both.exec())!.map(([, answer]) => answer)
  const turns = ids.map((id, i) => {
    const hash = answers[2 * i] as Record<string, string>
    const rows = answers[2 * i + 1] as [string, string[]][]
    const log = rows.map(([at, fields]) => decode(Number.parseInt(at, 10), Number(fields[3]), fields[1]!))
    return {
      id,
      status: hash['status'] as Status,
      attempt: Number(hash['attempt']),
      request: hash['request'] ?? '',
      agentTip: Number(hash['agentTip']),
      tip: Number(hash['tip']),
      log,
      folded: log.reduce(fold, emptyTurn()),
    }
  })
  const { waitingInteractionId, lastRequestId, requestStartedAt, epoch, thread, turns: begun } = stored!
  return {
    session: { waitingInteractionId, lastRequestId, started: requestStartedAt > 0, epoch, thread, turns: begun },
    queue,
    holder,
    turns,
  }
}

const steps = fc.commands(
  [
    ...Array<typeof submits>(3).fill(submits),
    ...Array<typeof attaches>(3).fill(attaches),
    ...Array<typeof dispatches>(4).fill(dispatches),
    ...Array<typeof appends>(9).fill(appends),
    ...Array<typeof expires>(2).fill(expires),
    submitsAgain,
    ...Array<typeof answers>(3).fill(answers),
    begins,
    cancels,
    cancels,
    releases,
    renews,
    leaseRunsOut,
    leaseRunsOut,
    seals,
    forgets,
  ],
  { maxCommands: 120, size: 'max' },
)

test('on any walk the scripts do what the table and the rules of a session say, and nothing else', async () => {
  World.walked.clear()
  const everywhere = () => ALLOWED.every((cell) => World.walked.has(cell))
  for (let round = 0; round === 0 || (!everywhere() && round < 8); round++) {
    await fc.assert(
      fc.asyncProperty(steps, async (walk) => {
        const session = await store.session()
        await fc.asyncModelRun(() => ({ model: new World(), real: { session } }), walk)
      }),
      { numRuns: 80 },
    )
  }
  expect([...World.walked].sort()).toEqual([...ALLOWED].sort())
  expect(await store.immortal()).toEqual([])
}, 300_000)

test('however an agent repeats, overlaps and runs ahead, the log has what it said, in order and once', async () => {
  const attempts = fc.array(fc.record({ from: fc.nat({ max: 30 }), length: fc.nat({ max: 8 }), tip: fc.boolean() }), {
    maxLength: 25,
  })
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.string({ maxLength: 5 }), { minLength: 1, maxLength: 25 }),
      attempts,
      fc.boolean(),
      async (words, sends, atOnce) => {
        const { id, epoch, request } = await store.running()
        const script: AgentEvent[] = [...words.map((word) => text(word)), completed]
        let written = 0
        const send = async ({ from, length, tip }: { from: number; length: number; tip: boolean }) => {
          const at = from % script.length
          const batch = script.slice(at, at + length)
          const before = written
          const answer = await store.append(request, epoch, at + 1, batch, {
            expectedTip: tip && !atOnce ? before + 2 : 0,
          })
          if (atOnce) return
          if (before === script.length) return expect(answer).toMatchObject({ word: 'ended', after: before })
          if (at > before) return expect(answer).toMatchObject({ word: 'hole', after: before })
          written = Math.max(before, at + batch.length)
          expect(answer).toMatchObject({ word: 'ok', after: written, tip: written + 2 })
        }
        if (atOnce) await Promise.all(sends.map(send))
        else for (const one of sends) await send(one)
        // at last the agent sends what was not acknowledged, as it always does
        const done = await store.append(request, epoch, 1, script)
        expect(['ok', 'ended']).toContain(done.word)
        const log = await store.events(id)
        expect(log.slice(2).map(({ n: _, at: __, ...event }) => event)).toEqual(script)
        expect(log.reduce(fold, emptyTurn())).toMatchObject({
          status: 'completed',
          entries: [{ id: 't', text: words.join('') }],
        })
        expect(await store.turns.read(id)).toMatchObject({ status: 'completed', tip: script.length + 2 })
      },
    ),
    { numRuns: 150 },
  )
}, 120_000)
