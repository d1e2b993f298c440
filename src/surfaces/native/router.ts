import type { Router } from 'express'
import type { Core } from '../../core/core.js'
import { surface } from '../http/app.js'
import { renderNative } from '../http/errors.js'
import type { HttpParts } from '../http/parts.js'
import { viewers } from './follow.js'
import { messageRoutes } from './messages.js'
import { sessionRoutes } from './sessions.js'

export interface NativeParts extends HttpParts {
  core: Core
}

/** The native surface, to be hung under `/api/v1`. */
export function nativeSurface(parts: NativeParts): Router {
  const view = viewers(parts)
  return surface(parts, { ...sessionRoutes(parts), ...messageRoutes(parts, view) }, renderNative)
}
