import { homedir } from 'node:os'
import { join } from 'node:path'

export interface Folders {
  /** What must survive a restart: the embedded Redis' append-only file. */
  dataDir: string
  /** What can be fetched again: the private copy of Redis. */
  cacheDir: string
}

/** Where this system wants a user's data and caches to lie; XDG variables win everywhere. Creates nothing. */
export function userFolders(env: NodeJS.ProcessEnv = process.env, platform = process.platform): Folders {
  const home = homedir()
  const [data, cache] =
    platform === 'darwin'
      ? [join(home, 'Library', 'Application Support'), join(home, 'Library', 'Caches')]
      : platform === 'win32'
        ? [env.LOCALAPPDATA ?? join(home, 'AppData', 'Local'), env.LOCALAPPDATA ?? join(home, 'AppData', 'Local')]
        : [join(home, '.local', 'share'), join(home, '.cache')]
  return {
    dataDir: join(env.XDG_DATA_HOME || data, 'throughline'),
    cacheDir: join(env.XDG_CACHE_HOME || cache, 'throughline'),
  }
}
