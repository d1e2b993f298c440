import { ThroughlineError } from '../protocol/errors.js'
import { isTerminal } from '../protocol/interaction.js'
import { isSessionId, type InteractionId } from '../protocol/ids.js'
import type { Cursor } from '../protocol/sequence.js'
import { answer } from './answer.js'
import type { Core, Followed } from './core.js'
import { followSession } from './follow-session.js'
import { follow, type Follow } from './follow.js'
import { expectAgain, reserve } from './idempotency.js'
import { isOverdue, ownedInteraction, readInteraction, viewInteraction } from './interactions.js'
import { leaveLine } from './line.js'
import { newInteractionId, newSessionId } from './mint.js'
import { nudge } from './nudge.js'
import type { Parts } from './parts.js'
import { seal } from './seal.js'
import { createSession, deleteSession, knownPools, listSessions, ownedSession, viewSession } from './sessions.js'
import { checkWebhook, submit } from './submit.js'
import type { Judge } from './sweep.js'
import { transcriptPage, turnsOf } from './transcript.js'

/** Counts the followers of this replica. */
export interface Viewers {
  count: number
}

/** The verbs of core as the doors see them. */
export function buildCore(parts: Parts, judge: Judge, viewers: Viewers): Core {
  const { store } = parts

  async function* following(id: InteractionId, after: Cursor, signal: AbortSignal): AsyncGenerator<Followed> {
    viewers.count++
    try {
      yield* follow(parts, id, after, signal, async () => {
        const turn = await store.turns.read(id)
        if (turn && isOverdue(parts, turn)) await judge(id)
      })
    } finally {
      viewers.count--
    }
  }

  /** What is shown to a viewer; that it asks for more says that its socket took what it was given. */
  async function* shown(events: AsyncIterable<Followed>, signal: AbortSignal): AsyncGenerator<Followed> {
    for await (const part of events) {
      try {
        yield part
      } finally {
        if (!signal.aborted && part.type === 'events' && part.heardAt !== undefined)
          parts.observe.metrics.eventLatency.observe(Math.max(parts.clock.now() - part.heardAt, 0) / 1000)
      }
    }
  }

  const showing: Follow = (id, after, signal) => shown(following(id, after, signal), signal)

  return {
    async createSession(owner, given) {
      checkWebhook(parts, owner, given.webhook)
      const session = newSessionId()
      const { ids } = await reserve(parts, owner, given.once, { session, interaction: newInteractionId(session) })
      await createSession(parts, owner, {
        id: ids.session,
        pool: given.pool ?? '',
        title: given.title ?? '',
        metadata: given.metadata ?? {},
        ...(given.note !== undefined && { note: given.note }),
        ...(given.webhook !== undefined && { webhook: given.webhook }),
      })
      await store.durability.session(owner, ids.session)
      const stored = await ownedSession(parts, owner, ids.session)
      return { session: await viewSession(parts, stored), replayed: ids.session !== session }
    },

    async session(owner, id) {
      return viewSession(parts, await ownedSession(parts, owner, id))
    },

    async ownerOf(id) {
      const session = await store.sessions.read(id)
      if (!session) throw new ThroughlineError('not_found')
      return session.owner
    },

    sessions: (owner, page) => listSessions(parts, owner, page),

    async describeSession(owner, id, metadata) {
      await ownedSession(parts, owner, id)
      if (!(await store.sessions.describe(id, metadata))) throw new ThroughlineError('not_found')
      return viewSession(parts, await ownedSession(parts, owner, id))
    },

    deleteSession: (owner, id) => deleteSession(parts, owner, id),

    async transcript(owner, id, page) {
      await ownedSession(parts, owner, id)
      return transcriptPage(parts, id, page)
    },

    async eachTurn(owner, id, query) {
      await ownedSession(parts, owner, id)
      return turnsOf(parts, id, query)
    },

    async turns(owner, id, { offset, limit, newestFirst }) {
      await ownedSession(parts, owner, id)
      const all = await store.sessions.interactions(id)
      if (newestFirst) all.reverse()
      const stored = await store.turns.readMany(all.slice(offset, offset + limit))
      return { interactions: await Promise.all(stored.map((it) => viewInteraction(parts, it))), total: all.length }
    },

    async queue(owner, id) {
      const session = await ownedSession(parts, owner, id)
      const current = session.waitingInteractionId
      const [running, waiting] = await Promise.all([
        current ? store.turns.read(current) : undefined,
        store.sessions.queue(id).then((ids) => store.turns.readMany(ids)),
      ])
      return {
        current: running ? await viewInteraction(parts, running) : null,
        waiting: await Promise.all(waiting.map((stored) => viewInteraction(parts, stored))),
      }
    },

    submit: (owner, message) => submit(parts, owner, message),

    expectAgain: (owner, once, { session, interaction }) => expectAgain(parts, owner, once, { session, interaction }),

    async interaction(owner, id) {
      return viewInteraction(parts, await readInteraction(parts, judge, owner, id))
    },

    async note(owner, id) {
      if (isSessionId(id)) return (await ownedSession(parts, owner, id)).note
      await ownedInteraction(parts, owner, id)
      return store.turns.note(id)
    },

    async forget(owner, id) {
      const { session } = await ownedInteraction(parts, owner, id)
      if ((await store.turns.forget(id)) === 'gone') throw new ThroughlineError('not_found')
      await nudge(parts, session)
      await seal(parts, id)
    },

    async wait(owner, id, limitMs, signal) {
      const first = await readInteraction(parts, judge, owner, id, 'waiting')
      if (!isTerminal(first.status)) {
        const over = new AbortController()
        const timer = setTimeout(() => over.abort(), limitMs)
        const start = { n: first.tip, incarnation: first.incarnation }
        const events = following(id, start, AbortSignal.any([signal, over.signal]))
        for await (const _ of events) void _
        clearTimeout(timer)
      }
      const last = await store.turns.read(id) // it may be forgotten by now: its waiter still gets it
      if (!last || last.owner !== owner) throw new ThroughlineError('not_found')
      return viewInteraction(parts, last)
    },

    async follow(owner, id, after, signal) {
      await readInteraction(parts, judge, owner, id, 'waiting')
      return showing(id, after, signal)
    },

    async followSession(owner, id, after, signal) {
      await ownedSession(parts, owner, id)
      return followSession(parts, id, after, signal, showing)
    },

    async cancel(owner, id) {
      const before = await ownedInteraction(parts, owner, id)
      const word = isTerminal(before.status) ? 'ended' : await store.turns.cancel(id, 'cancelled')
      if (word === 'gone') throw new ThroughlineError('not_found')
      if (word === 'cancelled') {
        await leaveLine(parts, before.session)
        await nudge(parts, before.session)
        await seal(parts, id)
      }
      return viewInteraction(parts, await ownedInteraction(parts, owner, id, 'waiting'))
    },

    async answer(owner, id, permission, option) {
      await answer(parts, owner, id, permission, option)
      return viewInteraction(parts, await ownedInteraction(parts, owner, id))
    },

    pools: () => knownPools(parts),
  }
}
