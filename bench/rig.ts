import { findRedis } from '../src/local/embedded-redis.js'
import { userFolders } from '../src/local/folders.js'
import { keep, type Kept } from '../src/local/keep.js'
import type { Child } from './processes.js'

/** A way from an agent to viewers, built of processes, to be measured. */
export interface Rig {
  name: RigName
  speaker: Child
  listener: Child
  /** Every process on the way, by what it is. */
  pids: Partial<Record<Part, number>>
  redisUrl: string
  stop(): Promise<void>
}

export type RigName = 'Throughline' | 'Redis pub/sub' | 'Socket.IO relay'
export type Part = 'agent' | 'replica A' | 'Redis' | 'replica B' | 'viewers'

/**
 * A Redis of its own for each rig, so that none pays for another. It writes its append-only file once a second, as
 * infra/redis says it should; the rewriting of a grown file is off, because it comes at a time nobody can choose.
 */
export async function startRedis(): Promise<Kept & { url: string }> {
  const server = await findRedis({ ...userFolders(), allow: ['path', 'private-copy'], log: console.log })
  const args = ['--appendonly', 'yes', '--appendfsync', 'everysec', '--auto-aof-rewrite-percentage', '0']
  const kept = await keep('redis-keeper', { server, port: 0, dataDir: null, args, restart: false })
  return Object.assign(kept, { url: `redis://127.0.0.1:${kept.port}` })
}
