import type { Router } from 'express'
import { surface } from '../http/app.js'
import { chatRoutes } from './chat-completions.js'
import { conversationRoutes } from './conversations.js'
import { openAiCounts } from './counts.js'
import { renderOpenAi } from './errors.js'
import { modelRoutes } from './models.js'
import type { OpenAiParts } from './parts.js'
import { responseRoutes } from './responses.js'

/** The OpenAI-compatible surface, to be hung under `/v1`. */
export const openAiSurface = (parts: OpenAiParts): Router =>
  surface(
    parts,
    { ...modelRoutes(parts), ...chatRoutes(parts), ...responseRoutes(parts), ...conversationRoutes(parts) },
    renderOpenAi,
    { tellCounts: openAiCounts },
  )
