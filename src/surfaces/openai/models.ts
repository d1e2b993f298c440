import type { Core } from '../../core/core.js'
import { ThroughlineError } from '../../protocol/errors.js'
import type { Routes } from '../http/app.js'

/** `GET /v1/models`: the pools, also those without an agent at the moment. */
export const modelRoutes = ({ core }: { core: Core }): Routes => ({
  '/models': {
    async get(_call, _req, res) {
      res.json({ object: 'list', data: (await core.pools()).map(modelOf) })
    },
  },

  '/models/:id': {
    async get(_call, req, res) {
      const pool = (await core.pools()).find(({ name }) => name === req.params['id'])
      if (!pool) throw new ThroughlineError('model_not_found', { param: 'model' })
      res.json(modelOf(pool))
    },
  },
})

const modelOf = ({ name, createdAt }: { name: string; createdAt: number }) => ({
  id: name,
  object: 'model',
  created: Math.floor(createdAt / 1000),
  owned_by: 'throughline',
})
