import type { Core } from '../../core/core.js'
import type { HttpParts } from '../http/parts.js'

export interface NativeParts extends HttpParts {
  core: Core
}
