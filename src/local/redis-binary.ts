import { execFile } from 'node:child_process'
import { access, constants } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'

import { isNewEnough, OLDEST_REDIS } from '../store/redis-version.js'

const run = promisify(execFile)

/** A server program that is new enough and starts here. */
export interface FoundRedis {
  /** The program; not resolved, as it may be a link to a program of several names that looks at the one it is called by. */
  file: string
  /** `redis-server` or `valkey-server`. */
  name: string
  version: string
  /** What its environment needs beside ours. */
  env: Record<string, string>
  /** Where it came from, as part of a sentence. */
  origin: string
}

/**
 * Rung 2: the first `redis-server` or `valkey-server` on PATH that is new enough.
 * @throws Error that says what was found instead.
 */
export async function redisOnPath(signal?: AbortSignal): Promise<FoundRedis> {
  const tooOld: string[] = []
  for (const name of ['redis-server', 'valkey-server']) {
    const file = await onPath(name)
    if (!file) continue
    const found = await probe({ file, name, env: {}, origin: `on PATH (${file})` }, signal)
    if (isNewEnough(found.version)) return found
    tooOld.push(`${file} is ${found.version}, older than ${OLDEST_REDIS}`)
  }
  throw new Error(tooOld.join('; ') || 'neither redis-server nor valkey-server is on PATH')
}

/**
 * Runs `--version` (at most 5 s).
 * @throws Error when it does not start (a library is missing) or prints no version.
 */
export async function probe(program: Omit<FoundRedis, 'version'>, signal?: AbortSignal): Promise<FoundRedis> {
  const { stdout } = await run(program.file, ['--version'], {
    env: { ...process.env, ...program.env },
    timeout: 5_000,
    ...(signal && { signal }),
  })
  const version = /\bv=(\d+\.\d+\.\d+)/.exec(stdout)?.[1]
  if (!version) throw new Error(`${program.file} --version printed no version: ${stdout.trim().slice(0, 100)}`)
  return { ...program, version }
}

/** The full path of a program, or null. */
export async function onPath(name: string): Promise<string | null> {
  for (const folder of (process.env.PATH ?? '').split(delimiter).filter(Boolean)) {
    const file = join(folder, name)
    const found = await access(file, constants.X_OK).then(
      () => true,
      () => false,
    )
    if (found) return file
  }
  return null
}
