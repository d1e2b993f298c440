import { channelsAllowed, commandsOf, sampleOf, type Needs } from './commands.js'
import type { Keys } from './keys.js'
import { isCluster, type Connection } from './redis.js'
import { RedisRequired, whereIs, type RedisSettings } from './redis-where.js'

/**
 * Tries on every master whether our user may do all that a deployment does, in transactions that are discarded. Throws
 * RedisRequired with what is missing.
 */
export async function requireRights(
  redis: Connection,
  settings: RedisSettings | string,
  keys: Keys,
  safe: Needs['safe'],
): Promise<void> {
  const { shown, kind } = whereIs(typeof settings === 'string' ? { url: settings } : settings)
  const needs: Needs = { cluster: kind === 'cluster', ...(safe && { safe }) }
  const samples = Object.entries(commandsOf(needs)).filter(([name]) => !['multi', 'exec', 'discard'].includes(name))
  const elsewhere: [string, string][] = [
    ['exists', `${keys.bullmq}:nothing`],
    ...channelsAllowed(keys)
      .slice(1)
      .map((pattern): [string, string] => ['psubscribe', pattern]),
  ]
  for (const master of isCluster(redis) ? redis.nodes('master') : [redis]) {
    const tried = await Promise.all([
      refusal(master.call('MULTI')),
      ...samples.map(([name, args]) => refusal(master.call(...sampleOf(name, args, keys)))),
      ...elsewhere.map((sample) => refusal(master.call(...sample))),
      refusal(master.call('DISCARD')),
    ])
    const refused = [...new Set(tried.filter((message) => message !== undefined))]
    if (refused.length === 0) continue
    const { host, port } = master.options
    throw new RedisRequired(
      `Redis at ${shown} refuses our user what a deployment needs. ${host}:${port}: ${refused.join('; ')}. Give it the rights in docs/operations.md.`,
    )
  }
}

/** What Redis says of a right that is missing; the sample itself may fail as it likes. */
const refusal = (work: Promise<unknown>): Promise<string | undefined> =>
  work.then(
    () => undefined,
    ({ message }: Error) => (message.startsWith('NOPERM') ? message.slice('NOPERM '.length) : undefined),
  )
