import { randomBytes } from 'node:crypto'
import { KEY_BYTES, spellKey } from '../protocol/api-key.js'
import { hashKey } from './hash.js'

/** A new key: its text, which is shown once, and what is kept of it. */
export function mintKey(): { id: string; text: string; hash: string } {
  const { id, text } = spellKey({ id: randomBytes(KEY_BYTES.id), secret: randomBytes(KEY_BYTES.secret) })
  return { id, text, hash: hashKey(text).toString('hex') }
}
