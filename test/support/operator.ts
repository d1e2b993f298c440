import { fileURLToPath } from 'node:url'
import type { Network } from './network.js'
import { startProgram } from './program.js'

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))

/** What a command of the command line gave. */
export interface Ran {
  code: number | null
  stdout: string
  stderr: string
}

/** Runs `throughline …` as an operator would, in the environment of a replica of this network. */
export async function operator(
  net: Pick<Network, 'redisUrl' | 'prefix'>,
  args: string[],
  env: Record<string, string | undefined> = {},
): Promise<Ran> {
  await using program = startProgram(process.execPath, [MAIN, ...args], {
    env: { REDIS_URL: net.redisUrl, KEY_PREFIX: net.prefix, POOLS: 'coder', ...env },
  })
  program.child.stdin.end()
  const code = await program.exited
  return { code, stdout: program.stdout, stderr: program.stderr }
}
