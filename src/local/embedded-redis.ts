import { join } from 'node:path'

import { keep, type Kept } from './keep.js'
import { onPath, redisOnPath, type FoundRedis } from './redis-binary.js'
import { privateRedis } from './redis-private-copy.js'
import { sentenceOf, SetUpError } from './set-up-error.js'

/** The ways to a Redis when nobody named one, best first. (A Redis that was named comes before all: `checkRedis`.) */
export const RUNGS = ['path', 'private-copy', 'javascript'] as const
export type Rung = (typeof RUNGS)[number]

export interface EmbeddedRedisOptions {
  /** Data is kept in `redis/` under it; null: keep nothing. */
  dataDir: string | null
  /** The private copy of the program lies in `redis/` under it. */
  cacheDir: string
  log: (line: string) => void
  /** The rungs that may be tried; all by default. */
  allow?: readonly Rung[]
  /** Ends a start that is under way. */
  signal?: AbortSignal
}

export interface EmbeddedRedis extends Pick<Kept, 'pid' | 'dataDir' | 'lost' | 'stop' | 'kill'> {
  url: string
  rung: Rung
  /** One line: which rung, the URL, where the data lies, how to bring another Redis. */
  describe: string
}

/**
 * Starts a Redis of our own on loopback by the first rung that works. It ends with this process, also when that is
 * killed with -9, and starts again by itself, with its data, when it is killed alone (rungs with a real server).
 * @throws SetUpError that lists each rung with why it failed, and the command that installs Redis here.
 */
export async function startEmbeddedRedis(options: EmbeddedRedisOptions): Promise<EmbeddedRedis> {
  return await firstThatWorks(options.allow ?? RUNGS, options.signal, async (rung) => {
    if (rung === 'javascript') {
      const kept = await keep('redis-javascript', null, options)
      return embedded(rung, kept, 'a stand-in written in JavaScript, for trying out only')
    }
    const found = await FIND[rung](options)
    const dataDir = options.dataDir && join(options.dataDir, 'redis')
    const kept = await keep('redis-keeper', { server: found, port: 0, dataDir, args: [], restart: true }, options)
    for (const note of kept.notes) options.log(`Redis: ${note}.`)
    return embedded(rung, kept, `${found.name} ${found.version} ${found.origin}`)
  })
}

/**
 * The best real server program that this machine has or can get; starts nothing that stays.
 * @throws SetUpError as `startEmbeddedRedis`.
 */
export async function findRedis(options: Omit<EmbeddedRedisOptions, 'dataDir'>): Promise<FoundRedis> {
  const real = (options.allow ?? RUNGS).filter((rung) => rung !== 'javascript')
  return await firstThatWorks(real, options.signal, async (rung) => await FIND[rung](options))
}

type Find = (options: Omit<EmbeddedRedisOptions, 'dataDir'>) => Promise<FoundRedis>
const FIND: Record<Exclude<Rung, 'javascript'>, Find> = {
  path: ({ signal }) => redisOnPath(signal),
  'private-copy': privateRedis,
}

async function firstThatWorks<R extends Rung, T>(
  rungs: readonly R[],
  signal: AbortSignal | undefined,
  climb: (rung: R) => Promise<T>,
): Promise<T> {
  const failures: string[] = []
  for (const rung of rungs) {
    try {
      return await climb(rung)
    } catch (err) {
      signal?.throwIfAborted()
      failures.push(`  ${rung}: ${sentenceOf(err)}`)
    }
  }
  throw new SetUpError(
    [
      'No Redis to work with. Tried:',
      ...failures,
      `Install one: ${await installCommand()}`,
      'or name one: REDIS_URL=redis://host:6379',
    ].join('\n'),
  )
}

function embedded(rung: Rung, kept: Kept, what: string): EmbeddedRedis {
  const url = `redis://127.0.0.1:${kept.port}`
  const data = kept.dataDir ? `data in ${kept.dataDir}` : 'nothing is kept'
  const describe =
    `Redis: ${what}, at ${url}, ${data}. ` +
    `Another replica joins it with REDIS_URL=${url}; to use your own Redis, set REDIS_URL.`
  const { dataDir, lost, stop, kill } = kept
  return {
    url,
    rung,
    describe,
    dataDir,
    lost,
    stop,
    kill,
    get pid() {
      return kept.pid
    },
  }
}

const INSTALL: [tool: string, command: string][] = [
  ['apt-get', 'apt-get install redis-server'],
  ['brew', 'brew install valkey'],
  ['dnf', 'dnf install valkey'],
  ['apk', 'apk add valkey'],
]

async function installCommand(): Promise<string> {
  for (const [tool, command] of INSTALL) if (await onPath(tool)) return command
  return INSTALL.map(([, command]) => command).join(' | ')
}
