import { createHash, timingSafeEqual } from 'node:crypto'

/** Keys are kept and compared as SHA-256. */
export const hashKey = (key: string): Buffer => createHash('sha256').update(key).digest()

/** The first of the named keys that `key` is, compared in constant time, all of them every time. */
export function matchKey<T>(known: { hash: Buffer; value: T }[], key: string): T | undefined {
  const hash = hashKey(key)
  let found: T | undefined
  for (const candidate of known) if (timingSafeEqual(candidate.hash, hash)) found ??= candidate.value
  return found
}
