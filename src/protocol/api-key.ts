import { nameOf } from './ids.js'

/** Whose key it is: of a client, or of agents. */
export type KeyKind = 'client' | 'agent'

/** What is known of a stored key; never its secret. Times in ms since 1970. */
export interface ApiKey {
  /** Ten characters; they stand in the key itself and may be logged. */
  id: string
  kind: KeyKind
  /** Whose sessions a client's key opens; '' for an agent's. */
  owner: string
  /** Pools that an agent's key may join, `*` for any; none for a client's. */
  pools: string[]
  /** What people call it; '' for none. */
  name: string
  createdAt: number
  expiresAt: number
  /** The last day of use (UTC), such as `2026-11-27`; '' for never. */
  usedOn: string
}

const KEY = /^tl_([0-9a-hjkmnp-tv-z]{10})_[0-9a-hjkmnp-tv-z]{32}$/
const ID = /^[0-9a-hjkmnp-tv-z]{10}$/

/** How many random bytes make a key: its id, and its secret of 160 bits. */
export const KEY_BYTES = { id: 10, secret: 32 }

/** `tl_<id>_<secret>`, of random bytes as many as `KEY_BYTES` says. */
export function spellKey(random: { id: Uint8Array; secret: Uint8Array }): { id: string; text: string } {
  const id = nameOf('tl', random.id)
  return { id: id.slice('tl_'.length), text: nameOf(id, random.secret) }
}

/** The id of what has the form of a stored key, whether it exists or not. */
export const keyIdIn = (text: string): string | undefined => KEY.exec(text)?.[1]

export const isKeyId = (text: string): boolean => ID.test(text)

/** Longest name of an owner, UTF-16 units. */
export const MAX_OWNER = 256

/** Whether a text may name an owner: 1 to 256 printable characters, no blank at either end. */
export const isOwner = (text: string): boolean =>
  text.length > 0 && text.length <= MAX_OWNER && text === text.trim() && !/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u.test(text)
