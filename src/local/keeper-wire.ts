import type { FoundRedis } from './redis-binary.js'

/** What a keeper is started with, as JSON in its first argument. */
export interface KeeperOrder {
  server: Pick<FoundRedis, 'file' | 'name' | 'env'>
  /** 0: any free one. */
  port: number
  /** Where the data is kept between starts; null: a temporary folder and nothing kept. */
  dataDir: string | null
  /** Further arguments of the server; they win over the keeper's own. */
  args: string[]
  /** A configuration file, read before all arguments. */
  configFile?: string
  /** Start the server again, on the same port and data, when it ends by itself. */
  restart: boolean
}

/** What a keeper tells its parent over the IPC channel. To stop it, close the channel. */
export type KeeperNews = { ready: KeptServer } | { restarted: { pid: number } } | { failed: string }

export interface KeptServer {
  port: number
  /** The server's own process. */
  pid: number
  /** The folder the data is kept in; null when nothing is. */
  dataDir: string | null
  /** What the reader should know: a folder in use, data set aside. */
  notes: string[]
}
