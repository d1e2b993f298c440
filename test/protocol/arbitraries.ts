import fc from 'fast-check'
import {
  EntryKind,
  EntryStatus,
  SettledBy,
  StopReason,
  type AgentEvent,
  type LogEvent,
  type PermissionOption,
  type TurnEvent,
} from '../../src/protocol/events.js'

/** Any UTF-16 at all: letters, pairs, and halves of pairs that no encoder should meet but some agent will send. */
export const anyText = (maxLength = 40): fc.Arbitrary<string> =>
  fc.oneof(
    fc.string({ unit: 'binary', maxLength }),
    fc.string({ unit: fc.constantFrom('a', '😀', '\ud83d', '\ude00', '\u0000', 'é', '"'), maxLength }),
  )

const entry = fc.constantFrom('a', 'b', 'c')
const kind = fc.option(fc.constantFrom(...EntryKind.options), { nil: undefined })

/** Something an agent may say in the middle of a turn. */
export const agentEvent: fc.Arbitrary<AgentEvent> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ type: fc.constant('entry.append' as const), entry, kind, text: anyText() }) },
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant('entry.replace' as const),
      entry,
      kind,
      offset: fc.nat({ max: 60 }),
      text: anyText(),
    }),
  },
  fc.record({
    type: fc.constant('entry.set' as const),
    entry,
    kind,
    name: fc.option(fc.string(), { nil: undefined }),
    status: fc.option(fc.constantFrom(...EntryStatus.options), { nil: undefined }),
  }),
  fc.record({ type: fc.constant('thread' as const), thread: fc.string({ minLength: 1 }) }),
  fc.record({ type: fc.constant('title' as const), title: fc.string() }),
  fc.record({
    type: fc.constant('usage' as const),
    usage: fc.record({ inputTokens: fc.nat(), outputTokens: fc.nat() }),
  }),
  fc.record({
    type: fc.constant('permission' as const),
    permission: fc.constantFrom('p', 'q'),
    title: fc.string(),
    options: fc.constant<PermissionOption[]>([
      { id: 'yes', name: 'Yes', kind: 'allow_once' },
      { id: 'no', name: 'No', kind: 'reject_once' },
    ]),
  }),
  fc.record({
    type: fc.constant('permission.settled' as const),
    permission: fc.constantFrom('p', 'q'),
    option: fc.constantFrom('yes', 'no', null),
    by: fc.constantFrom(...SettledBy.options),
  }),
)

const endEvent: fc.Arbitrary<TurnEvent> = fc.oneof(
  fc.record({ type: fc.constant('completed' as const), reason: fc.constantFrom(...StopReason.options) }),
  fc.record({ type: fc.constant('failed' as const), code: fc.constant('boom'), message: fc.string() }),
  fc.record({ type: fc.constant('cancelled' as const), reason: fc.constant('cancelled') }),
)

/** A whole log as the gateway writes them: submitted, one or more attempts, an end or none yet. */
export const wholeLog: fc.Arbitrary<LogEvent[]> = fc
  .record({
    queued: fc.nat({ max: 3 }),
    attempts: fc.array(fc.array(agentEvent, { maxLength: 12 }), { maxLength: 3 }),
    end: fc.option(endEvent),
  })
  .map(({ queued, attempts, end }) => {
    const events: TurnEvent[] = [{ type: 'submitted', queued }]
    if (queued > 0) events.push({ type: 'started' })
    attempts.forEach((said, i) => {
      if (i > 0) events.push({ type: 'reset', reason: 'agent_disconnected', attempt: i + 1 })
      events.push({ type: 'dispatched', request: `req_${i + 1}`, attempt: i + 1, agent: 'agent' }, ...said)
    })
    if (end) events.push(end)
    return numbered(events)
  })

export const numbered = (events: TurnEvent[]): LogEvent[] =>
  events.map((event, i) => ({ ...event, n: i + 1, at: 1_700_000_000_000 + i }))
