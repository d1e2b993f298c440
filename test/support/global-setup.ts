import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

declare global {
  // What the teardown ends.
  var redisForTheRun: ChildProcess | undefined
}

/**
 * Gives the whole run one Redis, as `TEST_REDIS_URL`: that of TEST_REDIS_URL or REDIS_URL where somebody named one, else
 * one of our own on rung 2 or 3. Jest compiles this file alone, not what it imports, so the work is done by a child.
 */
export default async function globalSetup({ rootDir }: { rootDir: string }): Promise<void> {
  const given = process.env.TEST_REDIS_URL ?? process.env.REDIS_URL
  if (given !== undefined) {
    process.env.TEST_REDIS_URL = given
    return
  }
  const child = fork(join(rootDir, 'test', 'support', 'redis-for-the-run.ts'), {
    detached: true, // Ctrl-C reaches only jest
    execArgv: ['--import', 'tsx'],
  })
  globalThis.redisForTheRun = child
  const [answer] = (await once(child, 'message')) as [{ url: string } | { failed: string }]
  if ('failed' in answer) throw new Error(answer.failed)
  process.env.TEST_REDIS_URL = answer.url
  child.channel?.unref()
}
