import type {
  PromptResponse,
  RequestPermissionRequest,
  RequestPermissionResponse,
  SessionUpdate,
} from '@agentclientprotocol/sdk'
import type { SessionId } from '../protocol/ids.js'
import type { ContextUsage } from '../protocol/events.js'
import type { TraceContext } from '../protocol/trail.js'
import type { Turn } from '../sdk/agent.js'
import type { Telling } from './telling.js'
import { isGone, messageOf } from './trouble.js'
import { pause, tick } from './wait.js'

/** What a session asks of the agent whose it is. */
export interface Peer {
  prompt(session: string, text: string, trace: TraceContext): Promise<PromptResponse>
  cancel(session: string): void
  /** The session's prompt does not end though it was cancelled: nobody may be shown what it still says. */
  abandon(session: string): void
  telling(turn: Turn): Telling
}

/** The agent does not have this session (any more). */
export class SessionGone extends Error {}

/** The end of a prompt, and how full the conversation was then. */
export interface PromptEnd extends PromptResponse {
  context: ContextUsage
}

/** How long a cancelled prompt may take to end, ms: less than the SDK waits before it starts the session's next turn. */
const CANCEL_MS = 8000

/** One session of the agent, for one session of ours. One prompt at a time; what it says between prompts is for nobody. */
export class AcpSession {
  readonly id: string
  readonly owner: SessionId
  readonly #agent: Peer
  #telling: Telling | undefined
  #prompt: Promise<unknown> | undefined
  #abandoned = false

  constructor(agent: Peer, id: string, owner: SessionId) {
    this.#agent = agent
    this.id = id
    this.owner = owner
  }

  get busy(): boolean {
    return this.#prompt !== undefined
  }

  update(update: SessionUpdate): void {
    this.#telling?.update(update)
  }

  permission(request: RequestPermissionRequest, withdrawn: AbortSignal): Promise<RequestPermissionResponse> {
    return this.#telling?.permission(request, withdrawn) ?? Promise.resolve({ outcome: { outcome: 'cancelled' } })
  }

  /**
   * Puts a turn's message to the agent and tells the turn what it answers. Gives the end of the prompt; undefined when
   * the turn was over before, and nobody wants to know. Waits for the end of the former prompt, so that what that one
   * still says is not shown in this turn. Throws `SessionGone` when the agent has nothing to say but that.
   */
  async prompt(turn: Turn): Promise<PromptEnd | undefined> {
    while (this.#prompt) await this.#prompt
    if (this.#abandoned) throw new SessionGone('it did not stop when it was cancelled')
    if (turn.signal.aborted) return undefined
    const telling = (this.#telling = this.#agent.telling(turn))
    let giveUp = () => {}
    const given = new Promise<void>((resolve) => (giveUp = resolve))
    const prompt = this.#agent.prompt(this.id, turn.input, turn)
    const over = prompt
      .catch(() => {}) // told to the turn below
      .then(tick) // updates that came before the end belong to it
      .finally(() => {
        this.#telling = undefined
        this.#prompt = undefined
      })
    this.#prompt = Promise.race([over, given])
    const cancelled = new Promise<undefined>((resolve) => {
      const cancel = () => resolve(this.#cancel(over, giveUp))
      turn.signal.addEventListener('abort', cancel, { once: true })
      // a turn may be aborted long after its end, such as by a reconnect: by then another one's prompt may run
      void over.then(() => turn.signal.removeEventListener('abort', cancel))
    })
    const ended = over
      .then(() => telling.said())
      .then(() => prompt)
      .then((response) => ({ ...response, context: telling.context }))
      .catch((err: unknown) => {
        // what has begun to answer had the session, whatever it says
        throw !telling.spoke && isGone(err, this.id) ? new SessionGone(messageOf(err)) : err
      })
    ended.catch(() => {}) // a cancelled turn does not look at it
    return Promise.race([ended, cancelled])
  }

  /** Asks the prompt to end, and waits for that: what it says until then is dropped. One that goes on is given up. */
  async #cancel(over: Promise<unknown>, giveUp: () => void): Promise<undefined> {
    this.#agent.cancel(this.id)
    if ((await Promise.race([over, pause(CANCEL_MS, 'late')])) !== 'late') return undefined
    this.#abandoned = true
    this.#prompt = undefined
    this.#agent.abandon(this.id)
    giveUp()
    return undefined
  }
}
