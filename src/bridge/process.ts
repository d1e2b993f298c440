import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Writable } from 'node:stream'
import { endGroup, killGroup } from './group.js'
import { lineReader, strayLines } from './lines.js'

/** The command that is the agent. */
export interface Program {
  command: string
  args: string[]
  cwd: string
  env: Record<string, string | undefined>
}

/** A running agent program, in a process group of its own. */
export interface Running {
  readonly pid: number
  readonly stdin: Writable
  readonly stdout: AsyncIterable<Uint8Array>
  /** Resolves when it has ended, with a sentence that says how. */
  readonly exited: Promise<string>
  /** Asks it to end (end of input, then SIGTERM), kills its whole group after `graceMs`. */
  end(graceMs: number): Promise<void>
}

/** Keeps process groups from outliving us; see `watcher.ts`. */
export interface Watch {
  add(group: number): void
  remove(group: number): void
}

/** Starts the program; its stderr goes to `say` line by line, and what else than JSON it prints on stdout. Throws what `spawn` throws, `ENOENT` above all. */
export async function startProgram(program: Program, say: (line: string) => void, watch: Watch): Promise<Running> {
  const child = spawn(program.command, program.args, {
    cwd: program.cwd,
    env: program.env,
    detached: true, // its own group, so that what it starts ends with it
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  for (const stream of [child.stdin, child.stdout, child.stderr]) stream.on('error', () => {}) // it is ending; `exit` says so
  const exited = new Promise<string>((resolve) => child.once('exit', (code, signal) => resolve(sentence(code, signal))))
  await once(child, 'spawn')
  const pid = child.pid!
  let over = false
  watch.add(pid)
  void exited.then(() => {
    over = true
    killGroup(pid, 'SIGKILL') // what it started and left behind
    watch.remove(pid)
  })
  const reader = lineReader(say)
  child.stderr.on('data', (chunk: Buffer) => reader.read(chunk)).once('close', () => reader.end())
  return {
    pid,
    stdin: child.stdin,
    stdout: strayLines(child.stdout, say),
    exited,
    async end(graceMs) {
      child.stdin.end()
      if (!over) await endGroup(pid, exited, graceMs)
    },
  }
}

const sentence = (code: number | null, signal: string | null): string =>
  signal ? `it was ended by ${signal}` : `it ended with exit code ${code}`
