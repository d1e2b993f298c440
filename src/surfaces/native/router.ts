import type { Router } from 'express'
import { surface } from '../http/app.js'
import { renderNative } from '../http/errors.js'
import { viewers } from './follow.js'
import { messageRoutes } from './messages.js'
import type { NativeParts } from './parts.js'
import { sessionRoutes } from './sessions.js'

/** The native surface, to be hung under `/api/v1`. */
export function nativeSurface(parts: NativeParts): Router {
  const view = viewers(parts)
  return surface(parts, { ...sessionRoutes(parts), ...messageRoutes(parts, view) }, renderNative)
}
