import { timingSafeEqual } from 'node:crypto'
import { keyIdIn, type ApiKey, type KeyKind } from '../protocol/api-key.js'
import { ThroughlineError } from '../protocol/errors.js'
import { hashKey } from './hash.js'
import type { EndOfAccess, Hold } from './hold.js'
import { remember } from './remember.js'

/** Where keys are kept. Each function throws `store_unavailable` while it cannot be asked. */
export interface KeyStore {
  readonly available: boolean
  read(id: string): Promise<(ApiKey & { hash: string }) | undefined>
  /** Which of these there are. */
  present(ids: readonly string[]): Promise<Set<string>>
  /** Notes the day of a key's last use. */
  used(id: string, day: string): Promise<void>
}

/** A key that is good, and how to hear of its end. */
export interface GoodKey {
  key: ApiKey
  hold: Hold
}

/** How long a key is taken for what it was when it was last read, ms: bounds how late a lost revocation is noticed. */
export const FRESH_MS = 5000
/** How long a key that was good is accepted while the store cannot be asked, ms. */
const LATELY_MS = 10 * 60_000
/** How long an id is remembered as unknown, ms. */
const UNKNOWN_MS = 30_000
/** Most ids that are remembered, of either sort. */
const MOST_KNOWN = 10_000
const MOST_UNKNOWN = 1000

interface Known {
  key: ApiKey
  hash: Buffer
  readAt: number
  freshUntil: number
}

/**
 * Stored keys as a replica sees them. What was read is believed for `FRESH_MS`; a revocation that is heard of counts at
 * once, also for what holds a key open. Redis away: a key that was good within the last ten minutes still is, so that
 * viewers may come back and wait (nothing can be read or written without Redis); of others nothing is known.
 */
export class StoredKeys {
  readonly #store: KeyStore
  readonly #known = new Map<string, Known>()
  /** Ids that do not exist, by until when that is believed. Ids are random: none comes to exist later. */
  readonly #unknown = new Map<string, number>()
  readonly #reading = new Map<string, Promise<Known | undefined>>()
  readonly #held = new Map<string, { expiresAt: number; ends: Set<(why: EndOfAccess) => void> }>()

  constructor(store: KeyStore) {
    this.#store = store
  }

  /** The key that this text is, if it is one of this kind. Throws `store_unavailable` when that cannot be known. */
  async verify(kind: KeyKind, text: string): Promise<GoodKey | undefined> {
    const id = keyIdIn(text)
    const known = id === undefined ? undefined : await this.#find(id)
    if (!known || !timingSafeEqual(known.hash, hashKey(text))) return undefined
    const { key } = known
    if (key.kind !== kind || key.expiresAt <= Date.now()) return undefined
    this.#note(key)
    return { key, hold: (end) => this.#hold(key, end) }
  }

  /** A key is gone: it opens nothing any more, and what it holds open is closed. */
  revoked(id: string): void {
    this.#known.delete(id)
    remember(this.#unknown, MOST_UNKNOWN, id, Date.now() + UNKNOWN_MS)
    this.#end(id, 'revoked')
  }

  /** Revocations may have been missed: believe nothing without asking, and ask for the keys that hold something open. */
  async recheck(): Promise<void> {
    for (const known of this.#known.values()) known.freshUntil = 0
    await this.check()
  }

  /** Closes what is held open by keys that are gone or have expired. To be called every few seconds. */
  async check(): Promise<void> {
    const now = Date.now()
    for (const [id, { expiresAt }] of this.#held) if (expiresAt <= now) this.#end(id, 'expired')
    if (this.#held.size === 0 || !this.#store.available) return
    const ids = [...this.#held.keys()]
    const present = await this.#store.present(ids)
    for (const id of ids) if (!present.has(id) && this.#held.has(id)) this.revoked(id)
  }

  async #find(id: string): Promise<Known | undefined> {
    const now = Date.now()
    const known = this.#known.get(id)
    if (known && known.freshUntil > now) return known
    if ((this.#unknown.get(id) ?? 0) > now) return undefined
    const lately = known && now - known.readAt < LATELY_MS ? known : undefined
    if (lately && !this.#store.available) return lately
    const reading = this.#reading.get(id) ?? this.#read(id).finally(() => this.#reading.delete(id))
    this.#reading.set(id, reading)
    try {
      return await reading
    } catch (err) {
      if (lately && err instanceof ThroughlineError && err.code === 'store_unavailable') return lately
      throw err
    }
  }

  async #read(id: string): Promise<Known | undefined> {
    const found = await this.#store.read(id)
    const now = Date.now()
    if ((this.#unknown.get(id) ?? 0) > now) return undefined // revoked while it was read
    if (!found) {
      this.#known.delete(id)
      remember(this.#unknown, MOST_UNKNOWN, id, now + UNKNOWN_MS)
      return undefined
    }
    const { hash, ...key } = found
    const known = { key, hash: Buffer.from(hash, 'hex'), readAt: now, freshUntil: now + FRESH_MS }
    this.#unknown.delete(id)
    remember(this.#known, MOST_KNOWN, id, known)
    return known
  }

  #note(key: ApiKey): void {
    const today = new Date().toISOString().slice(0, 10)
    if (key.usedOn === today || !this.#store.available) return
    key.usedOn = today
    this.#store.used(key.id, today).catch(() => {}) // a note of no consequence
  }

  #hold({ id, expiresAt }: ApiKey, end: (why: EndOfAccess) => void): Disposable {
    const held = this.#held.get(id) ?? { expiresAt, ends: new Set() }
    this.#held.set(id, held)
    held.ends.add(end)
    if (this.#unknown.has(id)) queueMicrotask(() => this.#end(id, 'revoked')) // revoked since it was verified
    return {
      [Symbol.dispose]: () => {
        held.ends.delete(end)
        if (held.ends.size === 0 && this.#held.get(id) === held) this.#held.delete(id)
      },
    }
  }

  #end(id: string, why: EndOfAccess): void {
    const held = this.#held.get(id)
    this.#held.delete(id)
    for (const end of held?.ends ?? []) end(why)
  }
}
