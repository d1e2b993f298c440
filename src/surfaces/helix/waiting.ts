import { interactionOf, isRequestId, type InteractionId, type RequestId } from '../../protocol/ids.js'
import type { Typed } from './typed.js'

/** A prompt that stepped back for what a person typed. The agent has it, unless it bounced it: it waits there as well. */
export interface Aside {
  interaction: InteractionId
  request: string
  bounced: boolean
}

/** How long what an agent says waits for its turn to be named, ms. */
const NAMING_MS = 5000

/** What the agent has besides the turn that runs: what a person typed and core has not named, and a prompt that stepped back. */
export class Waiting {
  /** In their order. */
  #typed: Typed[]
  /** Of those, the ones that an earlier connection heard of. */
  readonly #inherited: ReadonlySet<InteractionId>
  #aside: Aside | null
  /** A prompt was sent although what waits was to go before it: a client may have ended that. */
  #overdue = false
  #named = (): void => {}
  readonly #open: () => Promise<InteractionId[]>

  /** `open`: the turns of the session that are not over. */
  constructor(typed: Typed[], aside: RequestId | '', open: () => Promise<InteractionId[]>) {
    this.#typed = typed
    this.#inherited = new Set(typed.map(({ interaction }) => interaction))
    this.#aside = aside === '' ? null : { interaction: interactionOf(aside), request: aside, bounced: false }
    this.#open = open
  }

  get aside(): Aside | null {
    return this.#aside
  }

  /** Whether a request is a delivery of the prompt that stepped back. */
  isAside(request: string): boolean {
    return this.#aside !== null && isRequestId(request) && interactionOf(request) === this.#aside.interaction
  }

  /** Whether an entry stands after what a person typed next. An agent numbers its entries in order. */
  isPassedBy(entry: string): boolean {
    return entry !== '' && Number(entry) > (this.#typed[0]?.entry ?? NaN)
  }

  get hasTyped(): boolean {
    return this.#typed.length > 0
  }

  /** A turn that the agent begins is on its way: what is said meanwhile waits for it. */
  expect(typed: Typed): void {
    this.#typed.push(typed)
  }

  expects(typed: Typed): boolean {
    return this.#typed.includes(typed)
  }

  /** It did not come to be after all. */
  unexpect(typed: Typed): void {
    this.#typed = this.#typed.filter((it) => it !== typed)
    this.#named()
  }

  /** Core names a turn that the agent began. Those before it, a client has ended. */
  name(interaction: InteractionId): { request: string; entry: number; inherited: boolean } {
    const at = this.#typed.findIndex((typed) => typed.interaction === interaction)
    const { request, entry } = this.#typed[at] ?? { request: '', entry: NaN }
    this.#typed = this.#typed.slice(at + 1)
    this.#named()
    return { request, entry, inherited: this.#inherited.has(interaction) }
  }

  /** Core hands out a client's prompt. If that is the one that stepped back, it waits no more, and is returned. */
  prompted(interaction: InteractionId): Aside | null {
    const aside = this.#aside?.interaction === interaction ? this.#aside : null
    if (aside) this.#aside = null
    this.#overdue = this.hasTyped || this.#aside !== null
    this.#named()
    return aside
  }

  /** A prompt that the agent has steps back. */
  stepAside(interaction: InteractionId, request: string): void {
    this.#aside = { interaction, request, bounced: false }
  }

  /**
   * Waits, as long as nothing is `running`, for a turn that is on its way: the agent has begun it and it is not named yet, or
   * it had stepped back and the agent has come to it, as its `request` tells. What is over meanwhile goes to `over`.
   */
  async turnComes(running: () => boolean, request: string, over: (request: string) => void): Promise<void> {
    const awaited = () => !running() && (this.hasTyped || this.isAside(request))
    while (this.#overdue || awaited()) {
      await this.#review(over)
      if (awaited() && !(await this.#naming())) break
    }
  }

  /** Resolves when a turn is named; false when that takes too long. */
  #naming(): Promise<boolean> {
    return new Promise((resolve) => {
      this.#named = () => resolve(true)
      setTimeout(resolve, NAMING_MS, false).unref()
    })
  }

  /**
   * What is expected, or stepped back, may be over by now: a client can cancel what waits, of which no connection is told.
   * The agent has it all the same, and what it says of it is nobody's.
   */
  async #review(over: (request: string) => void): Promise<void> {
    const open = await this.#open()
    this.#overdue = false
    const isOver = ({ interaction }: { interaction: InteractionId }) => !open.includes(interaction)
    for (const { request } of this.#typed.filter(isOver)) over(request)
    this.#typed = this.#typed.filter((typed) => !isOver(typed))
    if (!this.#aside || !isOver(this.#aside)) return
    over(this.#aside.request)
    this.#aside = null
  }
}
