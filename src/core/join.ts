import type { Hello } from '../protocol/agent-wire.js'
import { interactionOf, type RequestId, type SessionId } from '../protocol/ids.js'
import { isTerminal } from '../protocol/interaction.js'
import type { AttachAnswer } from '../store/leases.js'
import { pullsFor, type PoolWatch } from './claim.js'
import { drop, hold } from './deliver.js'
import { claimantOf, type AgentLink } from './link.js'
import { Station, type Links } from './links.js'
import { newName } from './mint.js'
import { nudge } from './nudge.js'
import type { Parts } from './parts.js'
import { announce, goAbsent } from './presence.js'

export interface Joined {
  station: Station
  resumed: { session: SessionId; request: RequestId; after: number }[]
  ended: { session: SessionId; request: RequestId }[]
}

/**
 * An agent connection arrives. Turns that it has in hand go on; sessions that its predecessor had and it does not know
 * are taken up, so that their turns are delivered again at once; then it may take new ones.
 * Call `open` after the agent has been told what was resumed: nothing is delivered before.
 */
export async function join(
  parts: Parts,
  links: Links,
  pools: PoolWatch,
  link: AgentLink,
  hello: Pick<Hello, 'capacity' | 'sessions' | 'holding'>,
): Promise<Joined & { open: () => Promise<void> }> {
  const { store, observe } = parts
  const station = new Station(link, hello.capacity)
  const resumed: Joined['resumed'] = []
  const ended: Joined['ended'] = []
  const leases: { session: SessionId; epoch: number; pool: string; resumed?: { request: RequestId; after: number } }[] =
    []

  // an older connection of this agent on this replica hands over before its successor attaches
  for (const old of links.namesakes(link)) {
    if (old.link.since > link.since) continue // this one is older: its welcome took longer
    old.leaving = true
    await old.link.settle?.()
    for (const it of [...old.holds.values()]) drop(old, it)
  }

  // before it takes an older connection's sessions: that one would fill the places with what is next in line
  if (link.pool !== null) await announce(parts, station, 'arrives')

  /** A newer connection of the agent has a session already. */
  let overtaken = false
  /** `held`: the turn that the agent says it has in hand. One that cannot say has what it was given last. */
  async function take(session: SessionId, held?: { request: RequestId; acked: number }): Promise<AttachAnswer> {
    const startedAt = performance.now()
    const answer = await store.leases.attach(session, claimantOf(link, parts), {
      ...(held && { holding: held }),
      incarnation: newName('i').slice(2),
    })
    overtaken ||= answer.word === 'superseded'
    if (answer.word !== 'ok') {
      if (held) ended.push({ session, request: held.request })
      return answer
    }
    const { epoch, pool, request, status, after } = answer
    const going = request !== '' && (request === held?.request || !link.confirms) && !(status && isTerminal(status))
    leases.push({ session, epoch, pool, ...(going && { resumed: { request, after } }) })
    if (going) {
      await store.durability.events(request, after) // "from here on" is an acknowledgement
      resumed.push({ session, request, after })
      const ids = { session, interaction: interactionOf(request), request, agent: link.agent }
      const trail = await store.turns.trail(ids.interaction)
      observe.trails.note(ids.interaction, trail)
      observe.mappingsRestored({ ...ids, after })
      observe.tracing?.handed('resume', { trace: trail, ...ids, pool }, performance.now() - startedAt)
    } else if (held) ended.push({ session, request: held.request })
    return answer
  }
  const known = new Set<SessionId>()
  /** A turn that has ended takes its session along no more: what that has next may be another's, or have no place here. */
  async function goOn(held: Hello['holding'][number]): Promise<void> {
    const turn = await store.turns.head(interactionOf(held.request))
    if (turn && isTerminal(turn.status)) return void ended.push({ session: held.session, request: held.request })
    known.add(held.session)
    await take(held.session, held)
  }
  await Promise.all(hello.holding.map(goOn))

  async function takeUp(session: SessionId): Promise<void> {
    const room = link.pool === null || leases.length < hello.capacity
    const word = room ? (await take(session)).word : 'full'
    if (word !== 'ok' && word !== 'superseded' && link.pool !== null)
      await store.pools.gaveUp(link.pool, link.agent, session)
    if (word === 'full') await nudge(parts, session)
  }
  const others = link.pool === null ? hello.sessions : await store.pools.sessionsOf(link.pool, link.agent)
  for (const session of others) if (!known.has(session)) await takeUp(session)
  if (link.pool !== null && leases.length > 0)
    await store.pools.took(
      link.pool,
      link.agent,
      leases.map((lease) => lease.session),
    )

  async function open(): Promise<void> {
    links.add(station)
    if (overtaken) link.close('superseded')
    await Promise.all(leases.map((lease) => hold(parts, station, lease.session, lease)))
    if (overtaken) return
    if (link.pool === null) return void announce(parts, station, 'arrives').catch(() => {}) // for operators only; said again with every renewal
    station.pull = pullsFor(parts, station)
    await pools.add(link.pool)
    station.watching = true
    if (station.closed) return pools.remove(link.pool)
    station.pull()
  }
  return { station, resumed, ended, open }
}

/**
 * An agent connection is gone. Its sessions stay leased for the grace period, in which the agent may come back and go
 * on; when it said goodbye they are free at once.
 */
export async function part(
  parts: Parts,
  links: Links,
  pools: PoolWatch,
  station: Station,
  how: 'lost' | 'left',
): Promise<void> {
  if (station.closed) return
  await station.link.settle?.()
  if (station.closed) return
  station.closed = true
  links.remove(station)
  const { store, settings, clock } = parts
  const { link } = station
  const holds = [...station.holds.values()]
  for (const it of holds) drop(station, it)
  if (link.pool !== null && station.watching) pools.remove(link.pool)
  for (const it of holds) {
    const { word, interaction } = await store.leases.release(it.session, it.epoch, how)
    if (word !== 'ok') continue
    if (how === 'left' && link.pool !== null) await store.pools.gaveUp(link.pool, link.agent, it.session)
    if (interaction) {
      const lookAt = clock.now() + (how === 'lost' ? settings.agentGraceMs + 50 : 0)
      await store.deadlines.look(interaction, lookAt, 'sooner')
      if (how === 'left') await nudge(parts, it.session)
    }
  }
  await goAbsent(parts, station, how)
}
