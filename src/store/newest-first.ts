import type { Database } from './redis.js'

/** A member of a sorted set and its score, a time in ms. */
export interface Listed<Id extends string> {
  id: Id
  at: number
}

/** Where a listing goes on: after this one. */
export const cursorOf = ({ id, at }: Listed<string>): string => `${at}.${id}`

/** The order of a listing: the newest first, those of the same millisecond by their ids. */
export const byNewest = (a: Listed<string>, b: Listed<string>): number =>
  b.at - a.at || (a.id < b.id ? 1 : a.id > b.id ? -1 : 0)

/** At most `limit` members of a sorted set of times, newest first, after the one that `before` names (`cursorOf`). */
export async function newestFirst<Id extends string>(
  db: Database,
  key: string,
  limit: number,
  before?: string,
): Promise<Listed<Id>[]> {
  const [score = '+inf', last = ''] = before?.split('.') ?? []
  // those of the same millisecond stand in order of their ids: the page may begin among them
  const same = before === undefined ? 0 : await db.run((redis) => redis.zcount(key, score, score))
  const rows = await db.run((redis) =>
    redis.zrevrangebyscore(key, score, '-inf', 'WITHSCORES', 'LIMIT', 0, limit + same),
  )
  const flat = rows.flat().map(String)
  const found: Listed<Id>[] = []
  for (let i = 0; i < flat.length; i += 2) found.push({ id: flat[i] as Id, at: Number(flat[i + 1]) })
  return found.filter(({ id, at }) => String(at) !== score || id < last).slice(0, limit)
}
