import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import {
  RequestError,
  type CreateTerminalRequest,
  type CreateTerminalResponse,
  type TerminalOutputResponse,
  type WaitForTerminalExitResponse,
} from '@agentclientprotocol/sdk'
import { inside } from './files.js'
import { endGroup, killGroup } from './group.js'
import type { Watch } from './process.js'

/** Terminals at a time, bytes of output that one keeps, and how long it may run, ms. */
const LIMITS = { terminals: 32, bytes: 1024 * 1024, runMs: 3600_000 }
/** How long a command may take to end when it is killed, ms. */
const KILL_MS = 2000

interface Terminal {
  title: string
  group: number
  output: Buffer
  limit: number
  truncated: boolean
  exit: { exitCode: number | null; signal: string | null } | undefined
  exited: Promise<void>
}

/** Commands that the agent runs through the bridge, each in a process group of its own, in the working folder. */
export class Terminals {
  readonly #root: string
  readonly #env: Record<string, string | undefined>
  readonly #watch: Watch
  readonly #all = new Map<string, Terminal>()
  /** What released terminals showed: tool calls still refer to them. */
  readonly #released = new Map<string, string>()
  #closed = false

  constructor(root: string, env: Record<string, string | undefined>, watch: Watch) {
    this.#root = root
    this.#env = env
    this.#watch = watch
  }

  async create(request: CreateTerminalRequest): Promise<CreateTerminalResponse> {
    if (this.#all.size >= LIMITS.terminals)
      throw RequestError.invalidRequest(undefined, `there are ${LIMITS.terminals} terminals; release some`)
    const { command, args = [], env = [], cwd, outputByteLimit } = request
    const added = Object.fromEntries(env.map(({ name, value }) => [name, value]))
    const options = {
      cwd: await inside(this.#root, cwd ?? this.#root),
      env: { ...this.#env, ...added },
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'] as ['ignore', 'pipe', 'pipe'],
    }
    // without arguments it is a line for a shell, as agents send it
    const child = args.length > 0 ? spawn(command, args, options) : spawn('/bin/sh', ['-c', command], options)
    const terminal: Terminal = {
      title: [command, ...args].join(' '),
      group: 0,
      output: Buffer.alloc(0),
      limit: Math.min(outputByteLimit ?? LIMITS.bytes, LIMITS.bytes),
      truncated: false,
      exit: undefined,
      exited: new Promise((resolve) =>
        child.once('close', (exitCode, signal) => {
          terminal.exit = { exitCode, signal }
          resolve()
        }),
      ),
    }
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => keep(terminal, chunk))
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve)
      child.once('error', (err) => reject(RequestError.invalidParams({ command }, err.message)))
    })
    terminal.group = child.pid!
    this.#watch.add(terminal.group)
    const timer = setTimeout(() => killGroup(terminal.group, 'SIGKILL'), LIMITS.runMs)
    timer.unref()
    child.once('exit', () => {
      clearTimeout(timer)
      killGroup(terminal.group, 'SIGKILL') // what it left running holds its output open
      this.#watch.remove(terminal.group)
    })
    const terminalId = `term-${randomUUID()}`
    this.#all.set(terminalId, terminal)
    if (this.#closed) killGroup(terminal.group, 'SIGKILL') // who asked for it was gone before it was there
    return { terminalId }
  }

  output(id: string): TerminalOutputResponse {
    const { output, truncated, exit } = this.#find(id)
    return { output: output.toString('utf8'), truncated, ...(exit && { exitStatus: exit }) }
  }

  async wait(id: string): Promise<WaitForTerminalExitResponse> {
    const terminal = this.#find(id)
    await terminal.exited
    return terminal.exit!
  }

  async kill(id: string): Promise<Record<string, never>> {
    const terminal = this.#find(id)
    if (!terminal.exit) await endGroup(terminal.group, terminal.exited, KILL_MS)
    return {}
  }

  async release(id: string): Promise<Record<string, never>> {
    const terminal = this.#find(id)
    this.#all.delete(id)
    if (!terminal.exit) await endGroup(terminal.group, terminal.exited, KILL_MS)
    this.#released.set(id, show(terminal))
    if (this.#released.size > LIMITS.terminals) this.#released.delete(this.#released.keys().next().value!)
    return {}
  }

  /** What a terminal shows, for people: its command, its output, how it ended. */
  text(id: string): string | undefined {
    const terminal = this.#all.get(id)
    return terminal ? show(terminal) : this.#released.get(id)
  }

  /** Ends whatever still runs. */
  async close(): Promise<void> {
    this.#closed = true
    const running = [...this.#all.values()].filter((it) => !it.exit)
    await Promise.all(running.map((it) => endGroup(it.group, it.exited, KILL_MS)))
  }

  #find(id: string): Terminal {
    const terminal = this.#all.get(id)
    if (!terminal) throw RequestError.resourceNotFound(id)
    return terminal
  }
}

/** Keeps the end of the output, cut at the beginning of a character. */
function keep(terminal: Terminal, chunk: Buffer): void {
  let output = Buffer.concat([terminal.output, chunk])
  if (output.length > terminal.limit) {
    let from = output.length - terminal.limit
    while (from < output.length && (output[from]! & 0xc0) === 0x80) from++ // inside a character of UTF-8
    output = output.subarray(from)
    terminal.truncated = true
  }
  terminal.output = output
}

function show({ title, output, truncated, exit }: Terminal): string {
  const end = exit ? `(${exit.signal ? `ended by ${exit.signal}` : `exit code ${exit.exitCode}`})` : ''
  return [`$ ${title}`, `${truncated ? '… ' : ''}${output.toString('utf8').trimEnd()}`, end].filter(Boolean).join('\n')
}
