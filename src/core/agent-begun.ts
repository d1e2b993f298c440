import type { Entry } from '../protocol/fold.js'
import { interactionOf, type InteractionId, type SessionId } from '../protocol/ids.js'
import type { StoredInteraction } from '../store/turns.js'
import { hold } from './deliver.js'
import { claimantOf } from './link.js'
import type { Hold, Station } from './links.js'
import { newName, newSessionId } from './mint.js'
import { LOOK_SOON_MS, type Parts } from './parts.js'
import { foldLog } from './seal.js'

/*
 * What begins at the agent and not at a client: a person writes into the editor that is the agent, or opens a
 * conversation there.
 */

/**
 * A person wrote to the agent directly: a turn of its own, before all that waits; a prompt that the agent was given and
 * has not begun to answer steps back. The agent is told the turn's name like that of any other (`origin: 'agent'`).
 * `agentRef` is how the agent refers to it, for its next connection. Gives its place: 0, it runs now; else after the turn
 * that runs; undefined when the session is no longer this agent's. It may be called again when it threw.
 */
export async function beginTurn(
  parts: Parts,
  it: Hold,
  { interaction, input, agentRef }: { interaction: InteractionId; input: string; agentRef: string },
): Promise<number | undefined> {
  const { store, settings, clock, observe } = parts
  await it.writer?.busy // a turn whose first words are on their way into the log does not step back
  const now = clock.now()
  const trace = observe.tracing?.begin()
  await store.deadlines.enlist(interaction, now + LOOK_SOON_MS, now) // the deadline first, as in submit
  it.begun = true // before the script, whose wake may come sooner than its answer
  const answer = await store.sessions
    .begin({
      interaction,
      session: it.session,
      input,
      epoch: it.epoch,
      historyLimit: settings.historyLimit,
      agentRef,
      ...(trace && { trace }),
    })
    .catch((err: unknown) => {
      it.begun = false
      throw err
    })
  if (answer.word === 'superseded' || answer.word === 'gone') {
    it.begun = false
    it.settling = false
    it.deliver()
    return undefined
  }
  if (trace && answer.word === 'ok') observe.trails.note(interaction, { requestId: '', ...trace })
  it.begun = it.heard === '' || interactionOf(it.heard) !== interaction // else it was dispatched meanwhile
  observe.turnBegunByAgent({ session: it.session, interaction, yielded: answer.yielded, queued: answer.position })
  it.deliver()
  return answer.position
}

/**
 * A session for a conversation that a person opened at the agent and has written in: owner, pool and metadata are those of
 * `parent`. `beginTurn` is to follow.
 */
export async function branchSession(
  parts: Parts,
  station: Station,
  parent: SessionId,
  title: string,
): Promise<Hold | undefined> {
  const { store } = parts
  const from = await store.sessions.read(parent)
  if (!from) return undefined
  const { owner, pool, metadata } = from
  const id = newSessionId()
  await store.sessions.create({ id, owner, pool, title, metadata, nowMs: await store.replicas.now() })
  return takeSession(parts, station, id)
}

/**
 * Takes a session for an agent that begins a turn of it, whatever its capacity: `beginTurn` is to follow. Undefined when
 * another agent holds it.
 */
export async function takeSession(parts: Parts, station: Station, session: SessionId): Promise<Hold | undefined> {
  const { store } = parts
  const { link } = station
  const known = station.holds.get(session)
  if (known) return known
  await store.pools.took(link.pool ?? '', link.agent, [session]) // first, so that its next connection finds it
  const answer = await store.leases.attach(session, claimantOf(link, parts), { incarnation: newName('i').slice(2) })
  if (answer.word !== 'ok') {
    if (answer.word !== 'superseded') await store.pools.gaveUp(link.pool ?? '', link.agent, session)
    return undefined
  }
  return hold(parts, station, session, { epoch: answer.epoch, pool: answer.pool, keep: true })
}

/** Turns that are looked through for entries of the past. */
const PAST_TURNS = 200

/** An earlier turn of a session. */
export interface PastTurn extends Pick<
  StoredInteraction,
  'id' | 'origin' | 'status' | 'attempt' | 'endedAt' | 'agentRef' | 'yielded'
> {
  entries: readonly Entry[]
}

/** The last turns of a session and what they hold, oldest first; without the one named. */
export async function pastTurns(
  { store }: Pick<Parts, 'store'>,
  session: SessionId,
  but: InteractionId | '',
): Promise<PastTurn[]> {
  const ids = (await store.sessions.interactions(session)).slice(-PAST_TURNS).filter((id) => id !== but)
  const past: PastTurn[] = []
  for (const { output, tip, ...turn } of await store.turns.readMany(ids)) {
    past.push({ ...turn, entries: output ?? (tip > 0 ? (await foldLog(store.log, turn.id)).entries : []) })
  }
  return past
}

/** The turns of a session that are not over: the one that runs and those that wait, in no order. */
export async function openTurns({ store }: Pick<Parts, 'store'>, session: SessionId): Promise<InteractionId[]> {
  const queue = await store.sessions.queue(session) // first: what leaves it meanwhile is the one that runs
  const running = (await store.sessions.read(session))?.waitingInteractionId
  return running ? [running, ...queue] : queue
}
