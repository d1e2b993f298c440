import type { Tokens } from '../../auth/token.js'
import type { Core } from '../../core/core.js'
import type { HttpParts } from '../http/parts.js'

export interface NativeParts extends HttpParts {
  core: Core
  /** Undefined: no TOKEN_SECRET is set. */
  tokens: Tokens | undefined
}
