import { interactionOf, sessionOf, type RequestId, type SessionId } from '../protocol/ids.js'
import type { TraceContext } from '../protocol/trail.js'
import { belowAttempt } from '../observe/tracing.js'
import type { DispatchAnswer } from '../store/turns.js'
import { coalesced } from './coalesce.js'
import { claimantOf } from './link.js'
import type { Hold, Station } from './links.js'
import { newName } from './mint.js'
import type { Parts } from './parts.js'
import { moveOn } from './presence.js'
import { nudge } from './nudge.js'
import { policyOf } from './policy.js'
import { Writer } from './writer.js'

/** How often an unaccepted turn is sent before its connection is given up. */
const MAX_SENDS = 3
/** How long a cancelled handler keeps its place when the agent does not say that it returned, ms. */
const SETTLE_MS = 10_000

/**
 * Takes a session for a station: from now on its wake channel, every renewal and every end of a turn make
 * `deliver` look at it. `resumed` is the turn that the agent has in hand already; with `keep` the session is not given back
 * before its next turn.
 */
export async function hold(
  parts: Parts,
  station: Station,
  session: SessionId,
  lease: { epoch: number; pool: string; keep?: boolean; resumed?: { request: RequestId; after: number } },
): Promise<Hold> {
  const old = station.holds.get(session)
  if (old) drop(station, old)
  const it: Hold = {
    session,
    pool: lease.pool,
    epoch: lease.epoch,
    request: '',
    heard: '',
    writer: null,
    accepted: true,
    givenBack: null,
    overtaken: '',
    begun: false,
    settling: lease.keep ?? false,
    deliver: () => {},
    stop: () => {},
  }
  const gone = () => station.closed || station.holds.get(session) !== it
  it.deliver = coalesced(
    'deliver',
    () => (gone() ? Promise.resolve() : deliver(parts, station, it)),
    parts.observe,
    gone,
  )
  station.holds.set(session, it)
  if (lease.resumed) begin(parts, station, it, lease.resumed)
  const wake = await parts.store.bus.listen(parts.store.keys.wake(session), { message: it.deliver, look: it.deliver })
  it.stop = () => wake[Symbol.dispose]()
  if (gone()) it.stop()
  it.deliver()
  return it
}

/** Forgets a session here; the lease in Redis is the caller's business. */
export function drop(station: Station, it: Hold): void {
  it.writer?.stop()
  it.stop()
  if (station.holds.get(it.session) === it) station.holds.delete(it.session)
}

/**
 * Another connection has the session, or it is gone. A connection that serves named sessions and has none left is closed:
 * whatever its agent would say there is lost.
 */
export function overtaken(station: Station, it: Hold, why: 'superseded' | 'gone'): void {
  const { link } = station
  if (it.request) link.cancel(it.session, it.request, why)
  drop(station, it)
  if (why === 'superseded' && link.pool === null && station.holds.size === 0) link.close('superseded')
  station.pull()
}

/** Level-triggered: reads the truth of a session and does what is due. Doing it again does nothing more. */
async function deliver(parts: Parts, station: Station, it: Hold): Promise<void> {
  const { store, settings, observe } = parts
  // the next turn goes over the agent's next connection
  if (station.link.ending && it.request === '' && !it.begun) return
  const leaving = station.draining || station.goodbye
  if (leaving && it.request === '' && !it.begun && !it.settling) return handOver(parts, station, it)
  if (await isEarly(parts, it)) return
  const { maxAttempts, onAgentLoss } = policyOf(settings, it.pool)
  const askedAt = performance.now()
  const answer = await store.turns.dispatch(it.session, {
    epoch: it.epoch,
    holding: it.request,
    heard: it.heard,
    maxAttempts,
    onAgentLoss,
    agent: station.link.agent,
    run: station.link.run ?? '',
    leaving: leaving || station.link.ending,
  })
  if (['turn', 'others', 'idle'].includes(answer.word) && it.request && it.writer?.busy) {
    // perhaps the agent's own end, whose answer was lost: the writer learns it, and must not be taken for a cancel
    await it.writer.busy
    return it.deliver()
  }
  switch (answer.word) {
    case 'held':
      for (const { permission, option } of answer.answers)
        station.link.answer?.(it.session, answer.request, permission, option)
      if (answer.asked) station.link.ask?.(it.session, answer.request)
      return
    case 'turn':
      if (it.request) end(parts, station, it, answer.origin === 'agent' ? 'yielded' : 'cancelled')
      it.heard = answer.request
      return send(parts, station, it, askedAt, answer)
    case 'others':
      if (it.request) end(parts, station, it, 'cancelled')
      return
    case 'ended':
      return it.deliver()
    case 'idle':
      it.begun = false
      if (it.request) end(parts, station, it, 'cancelled')
      return giveUp(parts, station, it)
    case 'superseded':
      if (answer.epoch < it.epoch) return reattach(parts, station, it) // Redis lost our attach
      observe.leaseLost({ session: it.session, request: it.request, agent: station.link.agent, why: 'superseded' })
      return overtaken(station, it, 'superseded')
    case 'gone':
      if (it.request) station.link.cancel(it.session, it.request, 'gone')
      drop(station, it)
      if (station.link.pool !== null) await store.pools.gaveUp(station.link.pool, station.link.agent, it.session)
      return station.pull()
  }
}

function send(
  parts: Parts,
  station: Station,
  it: Hold,
  askedAt: number,
  turn: Extract<DispatchAnswer, { word: 'turn' }>,
): void {
  const { observe, settings, clock } = parts
  const { link } = station
  if (turn.origin === 'agent') it.begun = false
  const ids = { session: it.session, interaction: turn.interaction, request: turn.request }
  observe.trails.note(turn.interaction, turn.trail)
  observe.mappingsPersisted({
    ...ids,
    pool: turn.pool,
    agent: link.agent,
    attempt: turn.attempt,
    waitedMs: clock.now() - turn.createdAt,
  })
  begin(parts, station, it, { request: turn.request, after: 0, sentAt: performance.now() })
  it.accepted = false
  const message = {
    ...ids,
    attempt: turn.attempt,
    pool: turn.pool,
    thread: turn.thread,
    input: turn.input,
    metadata: turn.metadata,
    ...(turn.origin === 'agent' && { origin: turn.origin }),
    ...told(observe.tracing ? belowAttempt(turn.trail, turn.request) : turn.trail),
  }
  let sends = 0
  const attempt = () => {
    if (station.closed || it.accepted || it.request !== turn.request) return
    if (sends === MAX_SENDS) return link.close('unaccepted')
    if (sends > 0) observe.turnRepeated({ ...ids, pool: turn.pool, agent: link.agent, sends })
    sends++
    link.turn(message)
    if (!link.confirms) it.accepted = true // all that can be known
    setTimeout(attempt, settings.acceptMs).unref()
  }
  attempt()
  observe.tracing?.handed(
    'dispatch',
    { trace: turn.trail, ...ids, pool: turn.pool, agent: link.agent },
    performance.now() - askedAt,
  )
}

/** A trace in a message; what there is none of is left out. */
const told = ({ traceparent, tracestate }: TraceContext) => ({
  ...(traceparent !== '' && { traceparent }),
  ...(tracestate !== '' && { tracestate }),
})

/** The agent has this turn in hand from here on; `sentAt` is when it got it, where it did so just now. */
function begin(
  parts: Parts,
  station: Station,
  it: Hold,
  turn: { request: RequestId; after: number; sentAt?: number },
): void {
  const { link } = station
  const { request } = turn
  it.request = request
  it.settling = false
  it.writer?.stop()
  it.writer = new Writer(
    parts,
    {
      request,
      pool: it.pool,
      after: turn.after,
      epoch: () => it.epoch,
      ...(turn.sentAt !== undefined && { sentAt: turn.sentAt }),
    },
    {
      acked: (after) => link.ack(request, after),
      resend: (after) => link.resend(request, after),
      finished: () => {
        if (it.request !== request) return
        it.request = ''
        it.deliver()
      },
      again: () => {
        if (it.request !== request) return
        it.request = ''
        link.cancel(it.session, request, 'ended')
        it.deliver()
      },
      refused: (why, events, epoch) => {
        if (it.request !== request) return
        if (why === 'superseded' && epoch !== undefined && epoch < it.epoch) {
          // Redis lost our attach in a failover: take the lease again, then let the agent send what is missing
          void reattach(parts, station, it).catch(() => link.close('unaccepted'))
          return
        }
        if (events > 0) fenced(parts, station, request, why, events)
        end(parts, station, it, why === 'superseded' ? 'superseded' : 'ended')
        it.deliver()
      },
    },
  )
}

/** Counts and logs output that nobody may see. */
export function fenced(parts: Parts, station: Station, request: RequestId, reason: string, events: number): void {
  parts.observe.lateEventFenced({
    session: sessionOf(request),
    interaction: interactionOf(request),
    request,
    reason,
    events,
    agent: station.link.agent,
  })
}

/**
 * The agent has ended a turn without an answer: it is delivered again, as a new attempt, not before `delayMs` from now.
 */
export function giveBack(it: Hold, request: RequestId, delayMs: number): void {
  if (it.request !== request) return
  it.request = ''
  it.writer?.stop()
  it.writer = null
  it.givenBack = { request, until: Date.now() + delayMs }
  setTimeout(it.deliver, delayMs).unref()
}

/** Whether what is due is just the turn that was given back, and its time has not come. */
async function isEarly({ store }: Parts, it: Hold): Promise<boolean> {
  if (!it.givenBack) return false
  const { request, until } = it.givenBack
  const current = (await store.sessions.read(it.session))?.waitingInteractionId
  if (Date.now() < until && current === interactionOf(request)) return true
  it.givenBack = null
  return false
}

/** The turn in hand is over for us, not by the agent's own word: tell it, and wait until its handler has returned. */
function end(parts: Parts, station: Station, it: Hold, reason: 'cancelled' | 'ended' | 'superseded' | 'yielded'): void {
  const request = it.request
  if (!request) return
  it.request = ''
  it.writer?.stop()
  it.writer = null
  it.settling = true
  if (reason === 'superseded') it.overtaken = request
  station.link.cancel(it.session, request, reason)
  setTimeout(() => {
    if (!it.settling || it.request !== '') return
    it.settling = false
    it.deliver()
  }, SETTLE_MS).unref()
}

/** The agent takes nothing new: what this session still has to do is for another one of its pool. */
async function handOver(parts: Parts, station: Station, it: Hold): Promise<void> {
  const { pool, agent } = station.link
  if (pool !== null) {
    const { word, interaction } = await parts.store.leases.release(it.session, it.epoch, 'left')
    drop(station, it)
    if (word === 'ok') await parts.store.pools.gaveUp(pool, agent, it.session) // else it is a newer connection's
    if (word === 'ok' && interaction) await nudge(parts, it.session)
  }
  moveOn(station)
}

/** Nothing to do for this session: a pool's agent gives it up, one that serves named sessions keeps it. */
async function giveUp(parts: Parts, station: Station, it: Hold): Promise<void> {
  const { pool, agent } = station.link
  if (it.settling || pool === null) return
  const { word } = await parts.store.leases.release(it.session, it.epoch, 'done')
  if (word === 'busy') return it.deliver()
  drop(station, it)
  await parts.store.pools.gaveUp(pool, agent, it.session)
  station.pull()
}

async function reattach(parts: Parts, station: Station, it: Hold): Promise<void> {
  const { link } = station
  const request = it.request
  const answer = await parts.store.leases.attach(it.session, claimantOf(link, parts), {
    ...(request && { holding: { request, acked: 0 } }),
    epochAbove: it.epoch,
    incarnation: newName('i').slice(2),
  })
  if (answer.word === 'superseded') return overtaken(station, it, 'superseded')
  if (answer.word !== 'ok') {
    if (request) link.cancel(it.session, request, 'superseded')
    drop(station, it)
    return nudge(parts, it.session)
  }
  it.epoch = answer.epoch
  it.heard = ''
  if (request && answer.request === request) {
    begin(parts, station, it, { request, after: answer.after })
    link.resend(request, answer.after)
  }
  it.deliver()
}
