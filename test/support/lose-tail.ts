import type { InteractionId } from '../../src/protocol/ids.js'
import type { Network } from './network.js'

/**
 * Takes the last `events` events of a log away, as a failover of Redis does that loses acknowledged writes; the log then
 * says that it has `agentTip` of the agent's.
 */
export async function loseTail(
  net: Network,
  interaction: InteractionId,
  events: number,
  agentTip: number,
): Promise<void> {
  const key = `${net.prefix}{ses_${interaction.slice(4, 30)}}`
  const [turn, log] = [`${key}:interaction:${interaction}`, `${key}:log:${interaction}`]
  const tip = Number(await net.redis.hget(turn, 'tip'))
  await net.redis
    .multi()
    .xdel(log, ...Array.from({ length: events }, (_, i) => `${tip - i}-0`))
    .hset(turn, 'tip', tip - events, 'agentTip', agentTip)
    .exec()
  await net.redis.call('XSETID', log, `${tip - events}-0`)
}
