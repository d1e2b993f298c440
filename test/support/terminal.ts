import { fileURLToPath } from 'node:url'
import { eventually } from './eventually.js'
import { startProgram, type Program } from './program.js'

/** A program in a real terminal of its own: what it draws, and keys to press. */
export interface Terminal extends AsyncDisposable {
  /** All that was drawn so far, without colours and cursor movements. */
  readonly screen: string
  type(keys: string): void
  /** Waits until the screen, from what was last waited for on, shows this. */
  shows(text: string, limitMs?: number): Promise<void>
  /** Resolves with the program's exit code. */
  readonly exited: Program['exited']
}

const RUN = fileURLToPath(new URL('./terminal.py', import.meta.url))

/** Starts a program in a pseudo-terminal, which Python's standard library has. */
export function startTerminal(file: string, args: string[], env: Record<string, string> = {}): Terminal {
  const program = startProgram('python3', [RUN, file, ...args], { env: { TERM: 'xterm', ...env } })
  let seen = 0
  const drawn = () => program.stdout.replace(/\u001b\[[0-9;?]*[A-Za-z]/g, '').replaceAll('\r\n', '\n')
  return {
    get screen() {
      return drawn()
    },
    type: (keys) => void program.child.stdin.write(keys),
    async shows(text, limitMs = 15_000) {
      try {
        await eventually(() => drawn().indexOf(text, seen) >= 0, { limitMs })
      } catch {
        throw new Error(`"${text}" is not on the screen:\n${drawn()}\n${program.stderr}`)
      }
      seen = drawn().indexOf(text, seen) + text.length
    },
    exited: program.exited,
    [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
  }
}
