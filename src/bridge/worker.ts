import { AcpAgent, Mute, type Treatment } from './agent.js'
import { startProgram, type Program } from './process.js'
import { orAborted, pause } from './wait.js'

export interface BridgeLog {
  info(message: string): void
  warn(message: string): void
}

/** The command cannot be run at all: starting it again will not help. */
export class CannotRun extends Error {}

/** Crashes in a row, without an answered prompt between them, after which the bridge takes no turns for the time being. */
const PATIENCE = 5
/** Back-off between starts, ms, doubling; a program that ran for so long begins anew. */
const BACK_OFF = { least: 250, most: 30_000 }
const STEADY_MS = 60_000
/** How long the program may take to end when the bridge leaves, ms. */
const KILL_MS = 5000

/** One agent program, started again whenever it ends; with more and more delay while it keeps ending. */
export class Worker {
  readonly #program: Program
  readonly #treatment: Treatment
  readonly #log: BridgeLog
  readonly #stop = new AbortController()
  #agent: AcpAgent | undefined
  #crashes = 0
  #changed: (() => void)[] = []
  /** Settles when it has been closed; rejects with `CannotRun`. */
  readonly ended: Promise<void>

  constructor(program: Program, treatment: Treatment, log: BridgeLog) {
    this.#program = program
    this.#treatment = treatment
    this.#log = log
    this.ended = this.#run()
    this.ended.catch(() => {}) // whoever runs the bridge awaits it
  }

  /** The running agent; waits while it is being started. Rejects with the signal's reason. */
  async ready(signal: AbortSignal): Promise<AcpAgent> {
    while (!this.#agent || this.#agent.closed) await orAborted(this.#change(), signal)
    return this.#agent
  }

  /** Resolves when the program has ended so often that nobody should be sent to it. */
  async failing(signal: AbortSignal): Promise<void> {
    while (this.#crashes < PATIENCE || this.#agent) await orAborted(this.#change(), signal)
  }

  /** Ends the program, and what it has started. */
  async close(): Promise<void> {
    this.#stop.abort(new Error('closed'))
    await this.ended.catch(() => {}) // that it could not be run has been told
  }

  async #run(): Promise<void> {
    for (let first = true; !this.#stop.signal.aborted; first = false) {
      const why = await this.#live(first)
      if (this.#stop.signal.aborted) return
      this.#crashes++
      const delay = Math.min(BACK_OFF.least * 2 ** this.#crashes, BACK_OFF.most) * (0.5 + Math.random() / 2)
      this.#log.warn(`the agent is gone: ${why}; starting it again in ${Math.round(delay)} ms`)
      if (this.#crashes === PATIENCE) this.#log.warn(`no turns are taken until it runs again`)
      this.#tell()
      await orAborted(pause(delay), this.#stop.signal).catch(() => {}) // closed meanwhile
    }
  }

  /** One life of the program; gives a sentence that says how it ended. */
  async #live(first: boolean): Promise<string> {
    const { command } = this.#program
    try {
      const running = await startProgram(
        this.#program,
        (line) => this.#log.info(`[agent] ${line}`),
        this.#treatment.watch,
      )
      const end = () => void running.end(KILL_MS)
      this.#stop.signal.addEventListener('abort', end)
      void running.exited.then(() => this.#stop.signal.removeEventListener('abort', end))
      if (this.#stop.signal.aborted) end()
      this.#agent = await AcpAgent.open(running, this.#treatment)
      this.#log.info(`the agent runs (${command}, process ${running.pid})`)
      this.#tell()
      const since = performance.now()
      const why = await this.#agent.gone
      if (this.#agent.proved || performance.now() - since > STEADY_MS) this.#crashes = 0
      return why
    } catch (err) {
      if (err instanceof Mute) this.#crashes = PATIENCE - 1 // turns have waited long enough for it
      const { code } = err as NodeJS.ErrnoException
      if (first && (code === 'ENOENT' || code === 'EACCES'))
        throw new CannotRun(
          `"${command}" cannot be run: ${code === 'ENOENT' ? 'there is no such command, or no such --cwd' : 'it is not executable'}.`,
        )
      return (err as Error).message
    } finally {
      this.#agent = undefined
    }
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#changed.push(resolve))
  }

  #tell(): void {
    for (const go of this.#changed.splice(0)) go()
  }
}
