import type { SessionId } from '../protocol/ids.js'
import type { GatewayError } from '../sdk/client.js'

export interface ChatOptions {
  url: string
  key?: string | undefined
  /** Who answers, when a new session is made. */
  pool: string
  /** Go on with this session. */
  session?: SessionId | undefined
}

export const EXIT = { ok: 0, failed: 1, usage: 64, interrupted: 130 }

/** How long a message is tried to be sent, ms. */
export const GIVE_UP_MS = 60_000

export const wording = ({ code, message }: GatewayError): string => `${message} (${code})`
