import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

export interface Command {
  file: string
  args: readonly string[]
  env?: NodeJS.ProcessEnv
}

export interface SuperviseOptions {
  /** In front of each line that the process prints. */
  name: string
  command: Command
  log: (line: string) => void
}

/** One process that is always up. */
export interface Supervised {
  name: string
  /** The process that runs now; undefined between two. */
  readonly pid: number | undefined
  /** How often it was started again. */
  readonly restarts: number
  /** Resolves when the process says that its settings are wrong (exit 78): to start it again would change nothing. */
  misconfigured: Promise<void>
  /** SIGTERM, after `limitMs` SIGKILL; resolves when it has gone, and it does not come back. */
  stop(limitMs?: number): Promise<void>
  /** SIGKILL; it does not come back. */
  kill(): void
}

const BACK_OFF_MS = { first: 200, most: 5_000 }
/** Who was up this long did not crash at its start. */
const STEADY_MS = 10_000
const EX_CONFIG = 78

/**
 * Starts `command` and starts it again whenever it ends by itself: 200 ms later, then twice as late each time up to 5 s
 * while it does not stay up for 10 s. The process gets an IPC channel, so that it can end with us (`exitWithParent`),
 * and a session of its own, so that Ctrl-C at the terminal reaches only us, and the order of leaving is ours.
 */
export function supervise({ name, command, log }: SuperviseOptions): Supervised {
  let child: ChildProcess | undefined
  let gone: Promise<unknown> = Promise.resolve()
  let stopping = false
  let restarts = 0
  let delayMs = BACK_OFF_MS.first
  let timer: NodeJS.Timeout | undefined
  let giveUp!: () => void
  const misconfigured = new Promise<void>((resolve) => (giveUp = resolve))

  function start(): void {
    const startedAt = performance.now()
    const running = spawn(command.file, command.args, {
      detached: true,
      env: command.env,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    })
    child = running
    for (const output of [running.stdout!, running.stderr!]) {
      createInterface({ input: output }).on('line', (line) => log(`[${name}] ${line}`))
    }
    gone = once(running, 'exit').then(
      ([code, signal]) => ended(code as number | null, String(signal ?? `code ${code}`), performance.now() - startedAt),
      (err: Error) => ended(null, err.message, 0), // it could not be started
    )
  }

  function ended(code: number | null, how: string, upMs: number): void {
    child = undefined
    if (stopping) return
    if (code === EX_CONFIG) return giveUp()
    if (upMs >= STEADY_MS) delayMs = BACK_OFF_MS.first
    log(`[${name}] ended (${how}); starts again in ${delayMs} ms`)
    timer = setTimeout(() => {
      restarts++
      start()
    }, delayMs)
    delayMs = Math.min(delayMs * 2, BACK_OFF_MS.most)
  }

  function kill(): void {
    stopping = true
    clearTimeout(timer)
    child?.kill('SIGKILL')
  }

  start()
  return {
    name,
    get pid() {
      return child?.pid
    },
    get restarts() {
      return restarts
    },
    misconfigured,
    kill,
    stop: async (limitMs = 10_000) => {
      stopping = true
      clearTimeout(timer)
      child?.kill('SIGTERM')
      const hard = setTimeout(kill, limitMs)
      await gone
      clearTimeout(hard)
    },
  }
}
