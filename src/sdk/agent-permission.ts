import { MAX_PERMISSION_MS, type AgentEvent, type PermissionOption, type SettledBy } from '../protocol/events.js'

/** A question to the client. */
export interface Ask {
  title: string
  /** 1 to 16 ways to answer. */
  options: PermissionOption[]
  /** Id of the tool call that it is about. */
  entry?: string
  /** How long to wait for an answer, ms. Default: 5 minutes. */
  timeoutMs?: number
  /** The option that is taken without an answer in time. Default: null, which is a no. */
  fallback?: string | null
  /** Decided already, by a rule of the agent's own: readers see what was asked and how it was answered. */
  policy?: string | null
  /** Withdraws the question. */
  signal?: AbortSignal
}

/** How it was answered. `cancel`: it was withdrawn, or the turn is over. */
export interface Decision {
  option: string | null
  by: SettledBy
}

const TIMEOUT_MS = 300_000

/** The open questions of one turn. Whatever comes first settles one: an answer, the time-out, a withdrawal. */
export class Permissions {
  readonly #open = new Map<string, (decision: Decision) => void>()
  readonly #attempt: number
  #count = 0

  constructor(attempt: number) {
    this.#attempt = attempt
  }

  /** `put` says an event; `over` aborts when nobody waits for the turn any more. */
  async ask(ask: Ask, put: (event: AgentEvent) => Promise<void>, over: AbortSignal): Promise<Decision> {
    // not the name of another attempt's question: a late answer to that one must not be taken for this one's
    const permission = `permission-${this.#attempt}-${++this.#count}`
    const { title, options, entry, policy, fallback = null } = ask
    const timeoutMs = Math.min(ask.timeoutMs ?? TIMEOUT_MS, MAX_PERMISSION_MS)
    const asked = put({ type: 'permission', permission, title, options, entry, timeoutMs })
    const decision = policy === undefined ? this.#wait(permission, timeoutMs, fallback, ask.signal, over) : undefined
    await asked.catch((err: unknown) => {
      this.#open.get(permission)?.({ option: null, by: 'cancel' })
      if (!over.aborted) throw err
    })
    const settled: Decision = (await decision) ?? { option: policy ?? null, by: 'policy' }
    if (!over.aborted)
      await put({ type: 'permission.settled', permission, ...settled }).catch((err: unknown) => {
        if (!over.aborted) throw err
      })
    return over.aborted ? { option: null, by: 'cancel' } : settled
  }

  /** For the connection: a client's answer. One that was heard before, or comes too late, is nothing new. */
  answer(permission: string, option: string): void {
    this.#open.get(permission)?.({ option, by: 'client' })
  }

  #wait(
    permission: string,
    timeoutMs: number,
    fallback: string | null,
    withdrawn: AbortSignal | undefined,
    over: AbortSignal,
  ): Promise<Decision> {
    return new Promise((resolve) => {
      const cancel = () => settle({ option: null, by: 'cancel' })
      const signals = withdrawn ? [withdrawn, over] : [over]
      const timer = setTimeout(() => settle({ option: fallback, by: 'timeout' }), timeoutMs)
      const settle = (decision: Decision) => {
        clearTimeout(timer)
        for (const signal of signals) signal.removeEventListener('abort', cancel)
        this.#open.delete(permission)
        resolve(decision)
      }
      this.#open.set(permission, settle)
      for (const signal of signals) signal.addEventListener('abort', cancel)
      if (signals.some((signal) => signal.aborted)) cancel()
    })
  }
}
