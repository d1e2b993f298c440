import { ThroughlineError } from '../protocol/errors.js'
import type { InteractionId } from '../protocol/ids.js'
import { ownedInteraction } from './interactions.js'
import type { Parts } from './parts.js'
import { foldLog } from './seal.js'

/**
 * A client's answer to a permission. Stored at once, whoever has the agent; the script wakes the holder of the lease,
 * which passes it on, again after every reconnect, until the agent has settled the permission.
 */
export async function answer(
  parts: Pick<Parts, 'store' | 'clock' | 'observe'>,
  owner: string,
  id: InteractionId,
  permission: string,
  option: string,
): Promise<void> {
  await ownedInteraction(parts, owner, id)
  const given = await parts.store.turns.answer(id, permission, option)
  switch (given.word) {
    case 'ok':
      return parts.store.durability.answer(id, permission)
    case 'answered':
      throw over(`Permission ${permission} was answered with ${given.option} before. The first answer counts.`)
    case 'gone':
      throw new ThroughlineError('not_found')
    case 'option': {
      const { permissions = [] } = await foldLog(parts.store.log, id)
      const ids = permissions.find((it) => it.id === permission)?.options.map((it) => it.id) ?? []
      throw new ThroughlineError('invalid_request', {
        param: 'option',
        message: `option: must be one of ${ids.join(', ')}`,
      })
    }
    case 'ended':
    case 'unknown': {
      const { permissions = [] } = await foldLog(parts.store.log, id)
      const asked = permissions.find((it) => it.id === permission)
      // The agent goes by an answer within milliseconds: a client that did not hear ours must be able to ask again.
      if (asked?.by === 'client' && asked.option === option) return parts.store.durability.answer(id, permission)
      if (given.word === 'ended') throw over('The turn has ended; nobody asks any more.')
      if (!asked) throw new ThroughlineError('not_found', { param: 'permission' })
      throw over(`Permission ${permission} is settled${asked.by ? ` (by ${asked.by})` : ''}.`)
    }
  }
}

const over = (message: string) => new ThroughlineError('permission_settled', { param: 'permission', message })
