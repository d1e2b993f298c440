import type {
  PromptResponse,
  RequestPermissionRequest,
  RequestPermissionResponse,
  SessionUpdate,
} from '@agentclientprotocol/sdk'
import type { Turn } from '../sdk/agent.js'
import type { Telling } from './telling.js'
import { pause, tick } from './wait.js'

/** What a session asks of the agent whose it is. */
export interface Peer {
  prompt(session: string, text: string): Promise<PromptResponse>
  cancel(session: string): void
  /** The session's prompt does not end though it was cancelled: nobody may be shown what it still says. */
  abandon(session: string): void
  telling(turn: Turn): Telling
}

/** How long a cancelled prompt may take to end, ms. */
const CANCEL_MS = 15_000

/** One session of the agent. One prompt at a time; what it says between prompts is for nobody. */
export class AcpSession {
  readonly id: string
  readonly #agent: Peer
  #telling: Telling | undefined
  #prompt: Promise<unknown> | undefined

  constructor(agent: Peer, id: string) {
    this.#agent = agent
    this.id = id
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
   * still says is not shown in this turn.
   */
  async prompt(turn: Turn): Promise<PromptResponse | undefined> {
    while (this.#prompt) await this.#prompt
    if (turn.signal.aborted) return undefined
    const telling = (this.#telling = this.#agent.telling(turn))
    const prompt = this.#agent.prompt(this.id, turn.input)
    const over = prompt
      .catch(() => {}) // told to the turn below
      .then(tick) // updates that came before the end belong to it
      .finally(() => {
        this.#telling = undefined
        this.#prompt = undefined
      })
    this.#prompt = over
    const cancelled = new Promise<undefined>((resolve) =>
      turn.signal.addEventListener('abort', () => resolve(this.#cancel(over)), { once: true }),
    )
    const ended = over.then(() => telling.said()).then(() => prompt)
    ended.catch(() => {}) // a cancelled turn does not look at it
    return Promise.race([ended, cancelled])
  }

  /** Asks the prompt to end, and waits for that: what it says until then is dropped. */
  async #cancel(over: Promise<unknown>): Promise<undefined> {
    this.#agent.cancel(this.id)
    const late = await Promise.race([over, pause(CANCEL_MS, 'late')])
    if (late === 'late') this.#agent.abandon(this.id)
    return undefined
  }
}
