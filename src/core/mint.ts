import { randomBytes } from 'node:crypto'
import { interactionId, nameOf, sessionId, type InteractionId, type SessionId } from '../protocol/ids.js'

/** Where new ids come from; the pure half is `protocol/ids.ts`. */
export const newSessionId = (): SessionId => sessionId(Date.now(), randomBytes(16))
export const newInteractionId = (session: SessionId): InteractionId => interactionId(session, randomBytes(10))
export const newName = (prefix: string): string => nameOf(prefix, randomBytes(12))
