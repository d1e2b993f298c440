import { openAdmin } from '../../src/admin.js'
import { mintKey } from '../../src/auth/mint-key.js'
import { readConfig } from '../../src/config.js'
import type { Network } from './network.js'

export interface Made {
  id: string
  /** What stands after `Bearer`. */
  text: string
  headers: { authorization: string }
}

/** Puts a key into a network's store, as `throughline keys create` does. */
export async function storedKey(
  net: Pick<Network, 'redisUrl' | 'prefix'>,
  whose: { owner: string } | { pools: string[] },
  ttlMs = 3600_000,
): Promise<Made> {
  await using admin = await openAdmin(readConfig({ REDIS_URL: net.redisUrl, KEY_PREFIX: net.prefix }), 'test')
  const { store } = admin.parts
  const createdAt = await store.replicas.now()
  const { id, text, hash } = mintKey()
  const rest = { name: '', createdAt, expiresAt: createdAt + ttlMs, usedOn: '' }
  if ('owner' in whose) await store.apiKeys.add({ id, hash, kind: 'client', owner: whose.owner, pools: [], ...rest })
  else await store.apiKeys.add({ id, hash, kind: 'agent', owner: '', pools: whose.pools, ...rest })
  return { id, text, headers: { authorization: `Bearer ${text}` } }
}

/** Revokes it, as `throughline keys revoke` does. */
export async function revokeKey(net: Pick<Network, 'redisUrl' | 'prefix'>, id: string): Promise<void> {
  await using admin = await openAdmin(readConfig({ REDIS_URL: net.redisUrl, KEY_PREFIX: net.prefix }), 'test')
  await admin.parts.store.apiKeys.revoke(id)
}
