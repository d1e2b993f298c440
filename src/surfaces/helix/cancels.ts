/** How long a cancelled turn may take to stop before the next prompt is sent all the same, ms. */
const CANCEL_MS = 3000
const MOST_TOLD = 1000

/** What an agent was told to stop, by request, and what it says of that. */
export class Cancels {
  readonly #send: (request: string) => void
  readonly #told = new Set<string>()
  /** A turn that it has not confirmed to have stopped, by the deliveries of that. */
  #stopping: { open: Set<string>; done: Promise<void>; confirm: () => void } | null = null
  /** Deliveries of a turn past its deadline of which the agent has not said yet whether it is at them. */
  #asked = new Set<string>()

  constructor(send: (request: string) => void) {
    this.#send = send
  }

  #tell(request: string): void {
    if (this.#told.size >= MOST_TOLD) this.#told.clear()
    this.#told.add(request)
    this.#send(request)
  }

  /** Unless it was told so already. */
  once(request: string): void {
    if (!this.#told.has(request)) this.#tell(request)
  }

  /** A turn is over for the gateway, and the agent may be at any of its deliveries. */
  stop(deliveries: string[]): void {
    const it = { open: new Set(deliveries), done: Promise.resolve(), confirm: () => {} }
    it.done = new Promise<void>((resolve) => {
      it.confirm = resolve
      setTimeout(resolve, CANCEL_MS).unref()
    }).finally(() => {
      if (this.#stopping === it) this.#stopping = null
    })
    this.#stopping = it
    for (const delivery of it.open) this.#tell(delivery)
  }

  /** Resolves when the agent has stopped, or had time enough to; null when nothing is to stop. */
  get stopping(): Promise<void> | null {
    return this.#stopping?.done ?? null
  }

  /** A turn is past its deadline: the answer to a cancel tells whether the agent was still at it. */
  ask(deliveries: string[]): void {
    if (this.#asked.size > 0) return
    this.#asked = new Set(deliveries)
    for (const delivery of this.#asked) this.#tell(delivery)
  }

  /** The turn that was asked about, if any, is at work, or another one runs. */
  unask(): void {
    this.#asked.clear()
  }

  /**
   * The agent's answer to a cancel, `noop` when it was not at that delivery. What it tells of the turn that was asked about:
   * `noop` the agent is done with it, `stopped` it was at it until now, undefined nothing yet.
   */
  answered(request: string, noop: boolean): 'noop' | 'stopped' | undefined {
    const stopping = this.#stopping
    if (stopping?.open.delete(request) && (!noop || stopping.open.size === 0)) stopping.confirm()
    if (!this.#asked.delete(request) || (noop && this.#asked.size > 0)) return undefined
    return noop ? 'noop' : 'stopped'
  }
}
