import { expect } from '@jest/globals'
import type { AgentEvent, LogEvent } from '../../src/protocol/events.js'
import { isOutput } from '../../src/protocol/events.js'
import { interactionOf, requestOf, type InteractionId, type RequestId } from '../../src/protocol/ids.js'
import { isTerminal, next, TRANSITIONS, type Status, type Verb } from '../../src/protocol/interaction.js'

/** What the model knows of one interaction. */
export interface ModelTurn {
  id: InteractionId
  status: Status
  attempt: number
  request: RequestId | ''
  /** Epoch of the lease under which it was dispatched last. */
  dispatchEpoch: number
  /** The agent that it was dispatched to last, each of which is one run for ever. */
  dispatchedTo: string
  /** What was given again to a newer connection of that one. */
  repeated: RequestId | ''
  /** The agent's last event of this request that was written. */
  agentTip: number
  /** Types of the log's events; what the agent said, in full. */
  log: (string | AgentEvent)[]
  sealed: boolean
  /** What its agent has asked and not settled, with a client's answer if there is one. */
  asked: Map<string, string | null>
  forgottenBy: RequestId | ''
  /** The agent that began it by itself, or ''. */
  origin: string
}

/** An agent, as far as it knows. It may be behind the truth; then it must be refused. */
export interface ModelAgent {
  name: string
  epoch: number
  request: RequestId | ''
  heard: RequestId | ''
  /** All that it has said of each request, so that it can say it again. */
  said: Map<RequestId, AgentEvent[]>
}

export type Ending = { word: 'ended' | 'failed'; code: string }

/**
 * One session in words of the design: one turn in flight, a queue, a lease. Statuses change only by the transition table;
 * a step that the table refuses where the model thinks it is due fails the walk.
 */
export class World {
  /** Cells of the table that were walked, over all walks: `waiting output`. */
  static readonly walked = new Set<string>()

  readonly turns = new Map<InteractionId, ModelTurn>()
  readonly agents = ['one', 'two'].map((name): ModelAgent => ({
    name,
    epoch: 0,
    request: '',
    heard: '',
    said: new Map(),
  }))
  queue: InteractionId[] = []
  /** Who took the lease last. */
  holder!: ModelAgent
  current: InteractionId | '' = ''
  epoch = 0
  lease: { agent: string; lost: boolean } | null = null
  thread = ''
  started = 0

  get ids(): InteractionId[] {
    return [...this.turns.keys()]
  }

  turn(id: InteractionId): ModelTurn {
    return this.turns.get(id)!
  }

  become(turn: ModelTurn, verb: Verb): void {
    const after = next(turn.status, verb)
    if (after === null) throw new Error(`the table refuses ${verb} of a turn that is ${turn.status}`)
    World.walked.add(`${turn.status} ${verb}`)
    turn.status = after
  }

  begin(id: InteractionId, agent: ModelAgent): ModelTurn | undefined {
    const turn = this.enlist(id, agent.name)
    const current = this.current === '' ? undefined : this.turn(this.current)
    if (current && (current.status !== 'waiting' || current.origin !== '')) return void this.queueFirst(id)
    if (current) {
      this.become(current, 'yield')
      current.request = ''
      current.log.push('yielded')
      this.queueFirst(current.id)
    }
    this.start(turn)
    return current
  }

  enlist(id: InteractionId, origin: string): ModelTurn {
    const turn: ModelTurn = {
      id,
      status: 'queued',
      attempt: 0,
      request: '',
      dispatchEpoch: 0,
      dispatchedTo: '',
      repeated: '',
      agentTip: 0,
      log: ['submitted'],
      sealed: false,
      asked: new Map(),
      forgottenBy: '',
      origin,
    }
    this.turns.set(id, turn)
    return turn
  }

  /** Before all that clients wait for, after what people at the agent typed. */
  queueFirst(id: InteractionId): void {
    const typed = this.queue.findIndex((other) => this.turn(other).origin === '')
    this.queue.splice(typed < 0 ? this.queue.length : typed, 0, id)
  }

  submit(id: InteractionId, interrupt: boolean): void {
    const turn = this.enlist(id, '')
    if (this.current === '') return this.start(turn)
    if (!interrupt) return void this.queue.push(id)
    this.queueFirst(id)
    this.end(this.turn(this.current), 'cancel')
  }

  start(turn: ModelTurn): void {
    this.become(turn, 'start')
    this.current = turn.id
    this.started++
  }

  /** Ends a turn; the next one in line has the place. Gives its id, or ''. */
  end(turn: ModelTurn, verb: 'finish' | 'fail' | 'cancel'): InteractionId | '' {
    this.queue = this.queue.filter((id) => id !== turn.id)
    this.become(turn, verb)
    turn.asked.clear()
    if (verb !== 'finish' && (verb === 'cancel' || turn.log.at(-1) !== 'failed'))
      turn.log.push(verb === 'fail' ? 'failed' : 'cancelled')
    if (this.current !== turn.id) return ''
    this.current = ''
    const following = this.queue.shift()
    if (following === undefined) return ''
    this.start(this.turn(following))
    this.turn(following).log.push('started')
    return following
  }

  dispatch(turn: ModelTurn, { epoch, name }: ModelAgent): void {
    this.become(turn, 'dispatch')
    turn.attempt++
    turn.request = requestOf(turn.id, turn.attempt)
    turn.dispatchEpoch = epoch
    turn.dispatchedTo = name
    turn.agentTip = 0
    turn.asked.clear()
    turn.log.push('dispatched')
  }

  reset(turn: ModelTurn): void {
    this.become(turn, 'reset')
    turn.request = ''
    turn.asked.clear()
    turn.log.push('reset')
  }

  /** What `append` must answer, and what it does. */
  append(agent: ModelAgent, request: RequestId, first: number, events: AgentEvent[]): Record<string, unknown> {
    const turn = this.turn(interactionOf(request))
    if (turn.request !== request) return { word: 'fenced', request: turn.request }
    if (isTerminal(turn.status)) return { word: 'ended', status: turn.status, after: turn.agentTip }
    if (agent.epoch !== this.epoch) return { word: 'superseded', epoch: this.epoch }
    if (first > turn.agentTip + 1) return { word: 'hole', tip: turn.log.length, after: turn.agentTip }
    let following: InteractionId | '' = ''
    let tip = 0
    for (const event of events.slice(turn.agentTip + 1 - first)) {
      turn.log.push(event)
      tip = turn.log.length
      turn.agentTip++
      if (isOutput(event)) this.become(turn, 'output')
      if (event.type === 'permission') turn.asked.set(event.permission, null)
      if (event.type === 'permission.settled') turn.asked.delete(event.permission)
      if (event.type === 'thread') this.thread = event.thread
      if (event.type === 'completed') following = this.end(turn, 'finish')
      if (event.type === 'failed') {
        turn.log[turn.log.length - 1] = 'failed'
        following = this.end(turn, 'fail')
      }
    }
    return { word: 'ok', tip: tip || turn.log.length, after: turn.agentTip, next: following }
  }

  /** What `answer` must say, and what it does. */
  answer(turn: ModelTurn, permission: string, option: string): object {
    if (isTerminal(turn.status)) return { word: 'ended' }
    const before = turn.asked.get(permission)
    if (before === undefined) return { word: 'unknown' }
    if (before !== null) return before === option ? { word: 'ok' } : { word: 'answered', option: before }
    turn.asked.set(permission, option)
    turn.log.push('permission.answered')
    return { word: 'ok' }
  }

  /** What clients have answered and the agent has not settled, in the order of the ids. */
  answers(turn: ModelTurn): { permission: string; option: string }[] {
    const given = [...turn.asked].flatMap(([permission, option]) => (option === null ? [] : [{ permission, option }]))
    return given.sort((a, b) => a.permission.localeCompare(b.permission))
  }

  /** That a reading of Redis is what the model says. */
  agrees(real: Reading): void {
    const running = this.current === '' ? undefined : this.turn(this.current)
    expect(real.session).toEqual({
      waitingInteractionId: this.current,
      lastRequestId: running?.request ?? '',
      started: this.current !== '',
      epoch: this.epoch,
      thread: this.thread,
      turns: this.started,
    })
    expect(real.queue).toEqual(this.queue)
    expect(real.holder).toEqual(this.lease && { agent: this.lease.agent, connected: !this.lease.lost })
    expect(real.turns.map((it) => it.id)).toEqual(this.ids)
    for (const it of real.turns) {
      const turn = this.turn(it.id)
      const { status, attempt, request, agentTip } = turn
      expect({
        id: it.id,
        status: it.status,
        attempt: it.attempt,
        request: it.request,
        agentTip: it.agentTip,
        tip: it.tip,
      }).toEqual({
        id: turn.id,
        status,
        attempt,
        request,
        agentTip,
        tip: turn.log.length,
      })
      expect(it.log.map((event) => event.n)).toEqual(turn.log.map((_, i) => i + 1))
      expect(it.log.map((event, i) => (typeof turn.log[i] === 'string' ? event.type : withoutPlace(event)))).toEqual(
        turn.log,
      )
      expect(it.log.filter((event) => TERMINAL_EVENTS.has(event.type))).toHaveLength(isTerminal(status) ? 1 : 0)
      expect(it.folded.status).toBe(status)
      expect(it.folded.attempt).toBe(attempt)
    }
    const inFlight = real.turns.filter((it) => !isTerminal(it.status) && it.status !== 'queued').map((it) => it.id)
    expect(inFlight).toEqual(this.current === '' ? [] : [this.current])
    expect(
      real.turns
        .filter((it) => it.status === 'queued')
        .map((it) => it.id)
        .sort(),
    ).toEqual([...this.queue].sort())
  }
}

const TERMINAL_EVENTS = new Set(['completed', 'failed', 'cancelled'])

function withoutPlace({ n: _, at: __, ...event }: LogEvent): Record<string, unknown> {
  return event
}

/** Every cell of the table that allows something. */
export const ALLOWED = (Object.keys(TRANSITIONS) as Status[]).flatMap((status) =>
  Object.entries(TRANSITIONS[status]).flatMap(([verb, after]) => (after === null ? [] : [`${status} ${verb}`])),
)

/** What Redis says of a session, for comparison. */
export interface Reading {
  session: object
  queue: InteractionId[]
  holder: object | null
  turns: {
    id: InteractionId
    status: Status
    attempt: number
    request: string
    agentTip: number
    tip: number
    log: LogEvent[]
    folded: { status: Status; attempt: number }
  }[]
}
