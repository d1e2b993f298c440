import type { Router } from 'express'
import { surface } from '../http/app.js'
import { renderNative } from '../http/errors.js'
import { exportRoutes } from './export.js'
import { sessionStreamRoutes } from './follow-session.js'
import { viewers } from './follow.js'
import { messageRoutes } from './messages.js'
import type { NativeParts } from './parts.js'
import { sessionRoutes } from './sessions.js'
import { tokenRoutes } from './tokens.js'

/** The native surface, to be hung under `/api/v1`. */
export function nativeSurface(parts: NativeParts): Router {
  const view = viewers(parts)
  const routes = {
    ...sessionRoutes(parts),
    ...messageRoutes(parts, view),
    ...sessionStreamRoutes(parts),
    ...exportRoutes(parts),
    ...tokenRoutes(parts),
  }
  return surface(parts, routes, renderNative)
}
