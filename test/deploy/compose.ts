import { spawnSync } from 'node:child_process'

/** Says what is wrong with compose files, put together in their order; empty when nothing is. */
export type ComposeChecker = (...files: string[]) => string

const run = (program: string, ...args: string[]) => spawnSync(program, args, { encoding: 'utf8' })

/** `docker compose`, or the reader of compose files that it is made of (`.ci/run` builds it); undefined where neither is. */
export function composeChecker(): ComposeChecker | undefined {
  if (run('docker', 'compose', 'version').status === 0)
    return (...files) => complaint('docker', 'compose', ...files.flatMap((file) => ['-f', file]), 'config', '--quiet')
  if (!run('compose-spec').error) return (...files) => complaint('compose-spec', ...files)
  return undefined
}

function complaint(program: string, ...args: string[]): string {
  const { status, stderr } = run(program, ...args)
  return status === 0 ? '' : stderr || `${program} failed`
}
