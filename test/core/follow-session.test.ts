import { follow } from '../../src/core/follow.js'
import { followSession } from '../../src/core/follow-session.js'
import type { SessionCursor } from '../../src/core/core.js'
import { newInteractionId } from '../../src/core/mint.js'
import type { Parts } from '../../src/core/parts.js'
import type { SessionId } from '../../src/protocol/ids.js'
import { completed, openTestStore, text, type TestStore } from '../store/open.js'

/** What a follower has shown, as `<interaction>/<n> <type>`, until `enough`, and where it then was. */
async function shown(store: TestStore, session: SessionId, after: SessionCursor | undefined, enough: number) {
  const parts = { store, settings: { liveOutageMs: 1000 }, clock: { now: () => Date.now() } } as unknown as Parts
  const stop = new AbortController()
  const lines: string[] = []
  const cursors: SessionCursor[] = []
  const following = followSession(parts, session, after, stop.signal, (id, cursor, signal) =>
    follow(parts, id, cursor, signal, () => Promise.resolve()),
  )
  const limit = setTimeout(() => stop.abort(), 5000)
  for await (const said of following) {
    if (said.type !== 'events') continue
    for (const event of said.events) {
      lines.push(`${said.interaction}/${event.n} ${event.type}`)
      cursors.push({ interaction: said.interaction, cursor: { n: event.n, incarnation: said.incarnation } })
    }
    if (lines.length >= enough) stop.abort()
  }
  clearTimeout(limit)
  return { lines, cursors }
}

test('a turn that steps back for one that the agent begins is shown in two parts, from any cursor on', async () => {
  await using store = await openTestStore()
  const { session, id: first, epoch } = await store.running()
  const begun = newInteractionId(session)
  const answer = await store.sessions.begin({
    session,
    interaction: begun,
    input: 'typed',
    epoch,
    historyLimit: 100,
    agentRef: '',
  })
  expect(answer).toMatchObject({ word: 'ok', yielded: first })
  for (const id of [begun, first]) {
    const turn = await store.dispatch(session, epoch)
    if (turn.word !== 'turn') throw new Error(turn.word)
    expect(turn.interaction).toBe(id)
    await store.append(turn.request, epoch, 1, [text('x'), completed])
  }
  const types = {
    first: ['submitted', 'dispatched', 'yielded', 'started', 'dispatched', 'entry.append', 'completed'],
    begun: ['submitted', 'dispatched', 'entry.append', 'completed'],
  }
  const firsts = types.first.map((type, i) => `${first}/${i + 1} ${type}`)
  const whole = [
    ...firsts.slice(0, 3),
    ...types.begun.map((type, i) => `${begun}/${i + 1} ${type}`),
    ...firsts.slice(3),
  ]

  const all = await shown(store, session, { interaction: null, cursor: { n: 0, incarnation: '' } }, whole.length)
  expect(all.lines).toEqual(whole)
  for (const [seen, cursor] of all.cursors.entries()) {
    const rest = whole.slice(seen + 1)
    if (rest.length > 0) expect((await shown(store, session, cursor, rest.length)).lines).toEqual(rest)
  }
})

test('a turn that stepped back and is cancelled while it waits is told of', async () => {
  await using store = await openTestStore()
  const { session, id: first, epoch } = await store.running()
  const begun = newInteractionId(session)
  await store.sessions.begin({ session, interaction: begun, input: 'typed', epoch, historyLimit: 100, agentRef: '' })
  await store.turns.cancel(first, 'cancelled')
  const after = { interaction: begun, cursor: { n: 1, incarnation: '' } }
  const turn = await store.dispatch(session, epoch)
  if (turn.word !== 'turn') throw new Error(turn.word)
  await store.append(turn.request, epoch, 1, [completed])
  expect((await shown(store, session, after, 3)).lines).toEqual([
    `${begun}/2 dispatched`,
    `${begun}/3 completed`,
    `${first}/4 cancelled`,
  ])
})
