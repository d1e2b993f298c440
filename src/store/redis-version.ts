/** Sharded pub/sub came with 7.0; Valkey starts at 7.2. */
export const OLDEST_REDIS = '7.0'

/** Whether a version as Redis prints it (`7.0.15`) is one we can work with. */
export const isNewEnough = (version: string): boolean =>
  Number.parseInt(version, 10) >= Number.parseInt(OLDEST_REDIS, 10)

/** The version that a server tells in INFO; undefined when it tells none. */
export const versionIn = (info: string): string | undefined =>
  /^valkey_version:(\S+)/m.exec(info)?.[1] ?? /^redis_version:(\S+)/m.exec(info)?.[1]
