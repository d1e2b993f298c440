import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { outputText } from '../../src/protocol/fold.js'
import type { SessionId } from '../../src/protocol/ids.js'
import { post, watch, type Seen } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import type { Network } from '../support/network.js'

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
const SCRIPTED = fileURLToPath(new URL('./programs/scripted-agent.js', import.meta.url))
export const EXAMPLE = fileURLToPath(
  new URL('../../node_modules/acp-example-agent/dist/examples/agent.js', import.meta.url),
)

export interface Bridge {
  /** What it has said so far, its agent's stderr included. */
  log(): string
  /** Process ids of the agents it has run, the last one last. */
  agents(): number[]
  /** Joined the pool. */
  joined(times?: number): Promise<void>
  end(signal: NodeJS.Signals): Promise<number | null>
}

export interface BridgeOptions {
  url?: string[]
  /** Options of `throughline agent`. */
  options?: string[]
  /** Options of the scripted agent, or another command. */
  agent?: string[]
  command?: string[]
  cwd?: string
  env?: Record<string, string>
}

/** `throughline agent` as a process, in front of the scripted agent unless told otherwise. */
export function startBridge(net: Network, given: BridgeOptions = {}): Bridge {
  const { url = net.replicas.map((replica) => replica.url), options = [], agent = [] } = given
  const command = given.command ?? [process.execPath, SCRIPTED, ...agent]
  const urls = url.flatMap((each) => ['--url', each])
  const child: ChildProcess = spawn(
    process.execPath,
    [MAIN, 'agent', '--pool', 'coder', ...urls, ...options, '--', ...command],
    { stdio: ['ignore', 'inherit', 'pipe'], env: { ...process.env, NODE_OPTIONS: '', ...given.env }, cwd: given.cwd },
  )
  const gone = once(child, 'exit').then(([code]) => code as number | null)
  let log = ''
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (log += text))
  const bridge: Bridge = {
    log: () => log,
    agents: () => [...log.matchAll(/the agent runs \(.*, process (\d+)\)/g)].map(([, pid]) => Number(pid)),
    async joined(times = 1) {
      await eventually(() => (log.match(/info connected to/g) ?? []).length >= times, { limitMs: 20_000 })
    },
    async end(signal) {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal)
      return gone
    },
  }
  net.onDispose(() => bridge.end('SIGKILL'))
  return bridge
}

/** Posts a message and follows its turn. */
export async function ask(net: Network, text: string, session?: SessionId) {
  const urls = net.replicas.map((replica) => replica.url)
  const posted = await post(urls[0]!, session ? { session } : { pool: 'coder' }, text)
  return { ...posted, seen: watch(urls, posted.interaction) }
}

/** The text of a turn that completed. Throws what it failed with. */
export async function answered(seen: Seen): Promise<string> {
  await seen.done
  if (seen.turn.status !== 'completed') throw new Error(`${seen.turn.status}: ${JSON.stringify(seen.turn.error)}`)
  return outputText(seen.turn)
}

export const alive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

/** A folder that goes with the network. */
export function folder(net: Network): string {
  const path = mkdtempSync(join(tmpdir(), 'throughline-bridge-'))
  net.onDispose(() => rmSync(path, { recursive: true, force: true }))
  return path
}
