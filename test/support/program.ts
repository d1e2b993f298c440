import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { once } from 'node:events'

/** A program that runs as a process of its own. Killed when it is disposed of. */
export interface Program extends AsyncDisposable {
  readonly child: ChildProcessWithoutNullStreams
  /** What it has printed so far. */
  readonly stdout: string
  readonly stderr: string
  /** Its exit code, null when a signal ended it; resolves when its pipes are closed too. */
  readonly exited: Promise<number | null>
}

export interface ProgramOptions {
  cwd?: string
  /** On top of this process's environment; undefined takes a variable away. */
  env?: Record<string, string | undefined>
  /** It is one of ours, which leaves when this process has gone, however that goes. */
  withParent?: boolean
}

/** Runs a program. Its stdin is open until the test ends it. */
export function startProgram(file: string, args: string[], { cwd, env, withParent }: ProgramOptions = {}): Program {
  // jest's own options (experimental-vm-modules) are none of the program's
  const child = spawn(file, args, {
    cwd,
    env: { ...process.env, NODE_OPTIONS: '', ...env },
    stdio: ['pipe', 'pipe', 'pipe', ...(withParent ? ['ipc' as const] : [])],
  }) as ChildProcessWithoutNullStreams
  const said = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'] as const)
    child[stream].setEncoding('utf8').on('data', (text: string) => void (said[stream] += text))
  child.stdin.on('error', () => {}) // it may have ended before it read everything
  const exited = once(child, 'close').then(([code]) => code as number | null)
  exited.catch(() => {}) // who waits for it hears that it could not be started
  return {
    child,
    get stdout() {
      return said.stdout
    },
    get stderr() {
      return said.stderr
    },
    exited,
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
      await exited.catch(() => {})
    },
  }
}

/** Runs a program to its end and gives what it printed. @throws with its output when it fails. */
export async function runProgram(file: string, args: string[], options: ProgramOptions = {}): Promise<string> {
  const program = startProgram(file, args, options)
  program.child.stdin.end()
  const code = await program.exited
  if (code !== 0) throw new Error(`${file} ${args.join(' ')}: ${code}\n${program.stdout}\n${program.stderr}`)
  return program.stdout
}
