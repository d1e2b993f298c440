import { realpathSync, statSync } from 'node:fs'
import { runBridge } from '../bridge/bridge.js'
import type { PermissionPolicy } from '../bridge/policy.js'
import { CannotRun } from '../bridge/worker.js'
import { AgentRefused } from '../sdk/agent.js'
import { EXIT_CONFIG } from './exit-codes.js'
import { version } from './version.js'

export interface AgentOptions {
  command: string[]
  url: string[]
  pool: string
  capacity: number
  key?: string
  agent?: string
  permission: PermissionPolicy
  permissionTimeoutS: number
  startTimeoutS: number
  cwd: string
  env: Record<string, string>
  allowFs: boolean
  allowTerminal: boolean
  stop: AbortSignal
  kill: AbortSignal
}

/** Our own key is none of the agent's business, nor of what it runs. */
const OURS = ['THROUGHLINE_AGENT_KEY']

/** `throughline agent`: an ACP agent as a child process joins a pool. Gives the exit code: 78 when it cannot. */
export async function agentCommand(options: AgentOptions): Promise<number> {
  const [command = '', ...args] = options.command
  try {
    const cwd = folder(options.cwd)
    const inherited = Object.entries(process.env).filter(([name]) => !OURS.includes(name))
    const env = { ...Object.fromEntries(inherited), ...options.env }
    await runBridge({
      serve: {
        url: options.url,
        pool: options.pool,
        capacity: options.capacity,
        ...(options.key !== undefined && { key: options.key }),
        ...(options.agent !== undefined && { agent: options.agent }),
      },
      program: { command, args, cwd, env },
      treatment: {
        cwd,
        env,
        permission: { policy: options.permission, timeoutMs: options.permissionTimeoutS * 1000 },
        allowFs: options.allowFs,
        allowTerminal: options.allowTerminal,
        startTimeoutMs: options.startTimeoutS * 1000,
        version,
      },
      log: { info: (message) => say('info', message), warn: (message) => say('warn', message) },
      stop: options.stop,
      kill: options.kill,
    })
    return 0
  } catch (err) {
    if (!(err instanceof CannotRun || err instanceof AgentRefused || err instanceof TypeError)) throw err
    say('error', err.message)
    return EXIT_CONFIG
  }
}

function folder(path: string): string {
  try {
    if (statSync(path).isDirectory()) return realpathSync(path)
  } catch {
    // said below
  }
  throw new CannotRun(`--cwd ${path}: there is no such folder.`)
}

const say = (level: string, message: string) => console.error(`${new Date().toISOString()} ${level} ${message}`)
