import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** A program of `programs/` as a process of its own; ends with the test. */
export interface Program extends AsyncDisposable {
  child: ChildProcess
  pid: number
  /** The next line it prints that is JSON. @throws when it ends before. */
  says<T>(): Promise<T>
  /** All lines so far. */
  output: string[]
  /** Resolves with its exit code, null when a signal ended it. */
  exited: Promise<number | null>
}

/** Runs `programs/<name>.ts`; its own children run TypeScript as well. */
export function startProgram(name: string, args: string[] = [], env: NodeJS.ProcessEnv = {}): Program {
  const file = fileURLToPath(new URL(`./programs/${name}.ts`, import.meta.url))
  const child = spawn(process.execPath, [file, ...args], {
    env: { ...process.env, ...env, NODE_OPTIONS: '--import tsx' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const output: string[] = []
  const lines = createInterface({ input: child.stdout })
  lines.on('line', (line) => output.push(line))
  const exited = once(child, 'close').then(([code]) => code as number | null)
  return {
    child,
    pid: child.pid!,
    output,
    exited,
    says: async <T>() => {
      for (let from = 0; ;) {
        const found = output.slice(from).find((line) => line.startsWith('{'))
        if (found) return JSON.parse(found) as T
        from = output.length
        const more = await Promise.race([once(lines, 'line').then(() => true), exited.then(() => false)])
        if (!more) throw new Error(`${name} ended: ${output.join('\n')}`)
      }
    },
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL')
      await exited
    },
  }
}

/**
 * Whether the process does anything any more. One that waits for somebody to read its exit code does not; but while it
 * still has other threads its sockets are open, though its first thread is a zombie already.
 */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  try {
    const zombie = /^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
    return !zombie || readdirSync(`/proc/${pid}/task`).length > 1
  } catch {
    return process.platform !== 'linux'
  }
}
