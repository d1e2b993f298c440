import { ThroughlineError } from '../../protocol/errors.js'
import type { RenderError } from '../http/errors.js'

/** OpenAI's error object. SDKs choose the class by status; `code` is the part to rely on. */
export interface OpenAiError {
  message: string
  type: string
  param: string | null
  code: string | null
}

/** A turn that did not complete, shown with its own code (`agent_disconnected`, `cancelled`, an agent's own …). */
export class TurnFailed extends ThroughlineError {
  readonly turnCode: string

  constructor(error: { code: string; message: string }) {
    super('turn_failed', { message: error.message })
    this.turnCode = error.code
  }
}

/** How a turn that was cancelled is reported on an API that has no such outcome. */
export const CANCELLED = { code: 'cancelled', message: 'The turn was cancelled.' }

/** Any error in OpenAI's words. */
export function openAiError(error: ThroughlineError): OpenAiError {
  return { message: error.message, type: typeOf(error.kind.status), param: error.param ?? null, code: codeOf(error) }
}

/** OpenAI's shape, and in `x-should-retry` the catalogue's word: without it SDKs send every 5xx again. */
export const renderOpenAi: RenderError = (error) => ({
  body: { error: openAiError(error) },
  headers: { 'x-should-retry': String(error.kind.retry) },
})

function codeOf(error: ThroughlineError): string {
  if (error instanceof TurnFailed) return error.turnCode
  return error.code === 'unauthorized' ? 'invalid_api_key' : error.code
}

function typeOf(status: number): string {
  if (status === 429) return 'rate_limit_error'
  if (status === 403) return 'permission_error'
  return status < 500 ? 'invalid_request_error' : 'server_error'
}
