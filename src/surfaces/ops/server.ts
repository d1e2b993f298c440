import express, { type Express } from 'express'
import type { Registry } from 'prom-client'

/** What is wrong, in words, and whether traffic should go elsewhere for it. */
export interface Trouble {
  what: string
  ready: boolean
}

/** What readiness depends on; each gives null when well. */
export type Check = () => Trouble | null

/**
 * The operator's door, on a port of its own: `/livez` (the process runs; never asks Redis), `/readyz` (may get traffic:
 * Redis has answered lately, the bus delivers, not draining; the body tells any trouble, also what is borne) and `/metrics`
 * (Prometheus).
 */
export function opsApp(parts: { registry: Registry; checks: Record<string, Check> }): Express {
  const app = express().disable('x-powered-by')
  app.get('/livez', (_req, res) => void res.type('text/plain').send('ok\n'))
  app.get('/readyz', (_req, res) => {
    const troubles = Object.entries(parts.checks).flatMap(([name, check]) => {
      const trouble = check()
      return trouble ? [{ name, ...trouble }] : []
    })
    res
      .status(troubles.every(({ ready }) => ready) ? 200 : 503)
      .type('text/plain')
      .send(troubles.map(({ name, what }) => `${name}: ${what}\n`).join('') || 'ok\n')
  })
  app.get('/metrics', async (_req, res) => {
    res.type(parts.registry.contentType).send(await parts.registry.metrics())
  })
  return app
}
