import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { ask, startRedisSentinels, type RedisSentinels } from '../support/redis-server.js'

const conf = (name: string): string =>
  readFileSync(fileURLToPath(new URL(`../../infra/redis/${name}`, import.meta.url)), 'utf8')

/** The value of a directive of a file in `infra/redis`. */
function valueOf(file: string, directive: string): string {
  const value = new RegExp(`^${directive} (\\S+)$`, 'm').exec(conf(file))?.[1]
  if (value === undefined) throw new Error(`${file} has no ${directive}`)
  return value
}

/** Directives of a file in `infra/redis`, as arguments of redis-server. */
export const argsOf = (file: string, ...directives: string[]): string[] =>
  directives.flatMap((directive) => [`--${directive}`, valueOf(file, directive)])

/** A master, two replicas and three Sentinels, as patient as those of `infra/`. */
export async function startSentinelsAsInInfra(): Promise<RedisSentinels> {
  const redis = await startRedisSentinels({
    args: argsOf('replicated.conf', 'min-replicas-to-write', 'min-replicas-max-lag'),
  })
  for (const option of ['down-after-milliseconds', 'failover-timeout'])
    for (const sentinel of redis.sentinels)
      await ask(sentinel, (it) =>
        it.call('SENTINEL', 'SET', redis.name, option, valueOf('sentinel.conf', `sentinel ${option} throughline`)),
      )
  return redis
}
