import { fileURLToPath } from 'node:url'
import { startProgram, type Program } from '../support/program.js'
import type { Network } from '../support/network.js'
import { eventually } from '../support/eventually.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** Runs `examples/<name>.ts` as its header says; it ends with the network. */
export function startExample(
  net: Network,
  name: string,
  args: string[] = [],
  env: Record<string, string> = {},
): Program {
  const program = startProgram(process.execPath, ['--import', 'tsx', `examples/${name}.ts`, ...args], {
    cwd: ROOT,
    env: { THROUGHLINE_URL: net.url(0), ...env },
  })
  net.onDispose(() => program[Symbol.asyncDispose]())
  return program
}

/** Waits until an agent of this pool has joined (the n-th time); gives the number of its replica. */
export async function joined(net: Network, pool: string, times = 1): Promise<number> {
  const joins = () =>
    net.replicas
      .flatMap(({ logs }, replica) => logs.map((line) => ({ line, replica })))
      .filter(({ line }) => line['event'] === 'agent_joined' && line['pool'] === pool)
      .sort((a, b) => String(a.line['time']).localeCompare(String(b.line['time'])))
  await eventually(() => joins().length >= times, { limitMs: 20_000 })
  return joins().at(-1)!.replica
}
