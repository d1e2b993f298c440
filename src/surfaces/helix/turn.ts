import type { AgentEvent, StopReason } from '../../protocol/events.js'
import type { Entry } from '../../protocol/fold.js'
import {
  attemptOf,
  interactionOf,
  isRequestId,
  requestOf,
  type InteractionId,
  type RequestId,
} from '../../protocol/ids.js'
import { Outbox } from '../../protocol/outbox.js'
import { Answer } from './answer.js'
import type { Message } from './wire.js'

/** A turn as the gateway knows it. */
export interface Begun {
  request: RequestId
  interaction: InteractionId
  /** `agent`: a person wrote to the agent directly. */
  origin: 'client' | 'agent'
  input: string
  /**
   * The delivery under whose request the answer began: a second answer to the same prompt is none. Of a turn that the agent
   * began: the request that its words carry, which is that of an earlier prompt. '' where that is not known.
   */
  speaker: string
  /** Of a turn that the agent began: the number of the person's message, before which nothing of its answer stands. */
  after: number
  /** Begun on an earlier connection: whether the agent still has it is not known. */
  resumed: boolean
}

/** Deliveries of one prompt that the agent is asked about. */
const MOST_DELIVERIES = 5
const MOST_DOUBTFUL = 200

/** The turn that runs, as a connection hears it: its answer, and what of it is still on its way into the log. */
export class Turn {
  readonly request: RequestId
  readonly interaction: InteractionId
  readonly origin: Begun['origin']
  readonly input: string
  readonly after: number
  readonly resumed: boolean
  readonly outbox: Outbox
  readonly answer: Answer
  speaker: string
  /** Taken for a replay, though it came under this turn's own request. Its answer after all, if there is no other. */
  readonly doubtful: Message[] = []
  /** The earlier delivery under which the agent has the prompt, '' when it was sent under this request. */
  askedAs = ''
  /** Its answer may have begun on an earlier connection, and of what that one heard last, something may be lost. */
  doubted: boolean
  /** Has words that came under the request of another turn: they may be that one's, late. */
  foreign = false
  /** The number of the first entry of its answer. */
  #first: number
  /** The number of what was taken for a replay last, before there was an answer. */
  #doubtful = NaN
  /** Something that was taken for a replay may be of its answer. */
  #lacking = false
  ended = false

  /** `after`, `entries`: how many events of the agent the log has, and what they say. */
  constructor(turn: Begun, after = 0, entries: readonly Entry[] = []) {
    this.request = turn.request
    this.interaction = turn.interaction
    this.origin = turn.origin
    this.input = turn.input
    this.speaker = turn.speaker
    this.after = turn.after
    this.resumed = turn.resumed
    this.doubted = turn.resumed
    this.outbox = new Outbox(after)
    this.answer = new Answer(entries)
    this.#first = Math.min(...entries.map(({ id }) => Number(id)))
  }

  /** Whether a request is a delivery of this turn. */
  isNamedBy(request: string): boolean {
    return isRequestId(request) && interactionOf(request) === this.interaction
  }

  /** A prompt that was sent twice may be answered twice: whoever began to answer goes on. */
  isSpokenBy(request: string): boolean {
    return this.speaker === '' || this.speaker === request || !this.isNamedBy(request)
  }

  /**
   * Whether this is the first entry of its answer, when the turn before it ends with entry `last` and the prompt is one, too.
   * Numbers that have begun anew begin low. Where an entry is skipped, as of a prompt that was bounced, it is not seen.
   */
  beginsWith(entry: string, last: number): boolean {
    if (entry === '') return false
    const number = Number(entry)
    if (!Number.isNaN(this.after)) return number <= this.after + 1
    return number <= last + 2 && (number > last || number <= 2)
  }

  /**
   * The requests under which the agent may be at it: its last deliveries. What a person typed it knows by the request that
   * its words carry, or else by the last one that was sent.
   */
  deliveries(lastSent: string): string[] {
    if (this.origin === 'agent') return [this.speaker || lastSent || this.request]
    const attempts = Array.from({ length: attemptOf(this.request) }, (_, i) => requestOf(this.interaction, i + 1))
    return attempts.slice(-MOST_DELIVERIES)
  }

  /** A Helix agent tells every entry again before its end, in order: whoever hears the first of them misses none. */
  get stopReason(): StopReason {
    const unordered = this.resumed && !this.answer.ordered
    return this.doubted || this.foreign || unordered || this.#lacking ? 'unconfirmed' : 'end_turn'
  }

  /** The events that bring its answer to what is told. Right before its first entry stands a prompt, and not what was doubtful. */
  hear(said: Message): AgentEvent[] {
    if (this.answer.empty) {
      this.#first = Number(said.id)
      this.#lacking = this.#doubtful === this.#first - 1
    }
    return this.answer.update(said)
  }

  /** An earlier turn has the very same, but it came under this turn's own request. No replay comes in the middle of an answer. */
  doubt(said: Message): void {
    if (this.doubtful.length < MOST_DOUBTFUL) this.doubtful.push(said)
    if (this.answer.empty) this.#doubtful = Number(said.id)
    else if (Number(said.id) > this.#first) this.#lacking = true
  }
}
