import type { Router } from 'express'
import type { Core } from '../../core/core.js'
import { surface } from '../http/app.js'
import type { HttpParts } from '../http/parts.js'
import { chatRoutes } from './chat-completions.js'
import { renderOpenAi } from './errors.js'
import { modelRoutes } from './models.js'

export interface OpenAiParts extends HttpParts {
  core: Core
}

/** The OpenAI-compatible surface, to be hung under `/v1`. */
export const openAiSurface = (parts: OpenAiParts): Router =>
  surface(parts, { ...modelRoutes(parts), ...chatRoutes(parts) }, renderOpenAi)
