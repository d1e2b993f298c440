import { ThroughlineError } from '../protocol/errors.js'
import { hashKey } from './hash.js'
import { NotGoodHere } from './jwt.js'
import { remember } from './remember.js'

/** Addresses that are kept in mind as blocked, and callers that came in; the oldest are forgotten first. */
const MOST = 10_000

/** Counts one failure of an address over all replicas: whether that is too many, and for how long (ms). */
export type CountFailure = (address: string) => Promise<{ exceeded: boolean; resetMs: number }>

/**
 * Slows down whoever tries out keys: an address from which too many failed is not listened to until its window ends.
 * Who came in from there before, with the same key, still does, so that one bad client behind a NAT or a balancer locks
 * out newcomers at most.
 */
export class Guesses {
  readonly #count: CountFailure
  readonly #tell: (address: string, forMs: number) => void
  readonly #now: () => number
  readonly #blocked = new Map<string, number>()
  readonly #known = new Map<string, true>()

  /** `tell` hears of every address that is blocked. */
  constructor(count: CountFailure, tell: (address: string, forMs: number) => void, now: () => number = Date.now) {
    this.#count = count
    this.#tell = tell
    this.#now = now
  }

  /**
   * What `verify` finds out about a credential. That it throws `unauthorized`, or gives undefined, counts as a failure.
   * Throws `rate_limit_exceeded` without asking it where too many have failed.
   */
  async attempt<T>(address: string, credential: string, verify: () => Promise<T>): Promise<T> {
    const caller = hashKey(`${address}\n${credential}`).toString('base64')
    const until = this.#blocked.get(address) ?? 0
    if (until > this.#now() && !this.#known.has(caller))
      throw new ThroughlineError('rate_limit_exceeded', {
        message: 'Too many failed attempts to authenticate from this address. Try again later, with a valid key.',
        retryAfterS: Math.ceil((until - this.#now()) / 1000),
      })
    try {
      const found = await verify()
      if (found === undefined) await this.#failed(address)
      else remember(this.#known, MOST, caller, true)
      return found
    } catch (thrown) {
      if (isGuess(thrown)) await this.#failed(address)
      throw thrown
    }
  }

  async #failed(address: string): Promise<void> {
    const { exceeded, resetMs } = await this.#count(address)
    if (!exceeded) return
    const known = (this.#blocked.get(address) ?? 0) > this.#now()
    remember(this.#blocked, MOST, address, this.#now() + resetMs)
    if (!known) this.#tell(address, resetMs)
  }
}

const isGuess = (thrown: unknown): boolean =>
  thrown instanceof ThroughlineError && thrown.code === 'unauthorized' && !(thrown instanceof NotGoodHere)
