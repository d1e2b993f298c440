import express, { type Express } from 'express'
import type { Registry } from 'prom-client'

/** What readiness depends on; each gives null when well, else what is wrong. */
export type Check = () => string | null

/**
 * The operator's door, on a port of its own: `/livez` (the process runs; never asks Redis), `/readyz` (may get traffic:
 * Redis answers, the bus delivers, not draining) and `/metrics` (Prometheus).
 */
export function opsApp(parts: { registry: Registry; checks: Record<string, Check> }): Express {
  const app = express().disable('x-powered-by')
  app.get('/livez', (_req, res) => void res.type('text/plain').send('ok\n'))
  app.get('/readyz', (_req, res) => {
    const problems = Object.entries(parts.checks)
      .map(([name, check]) => [name, check()] as const)
      .filter(([, problem]) => problem !== null)
    res
      .status(problems.length ? 503 : 200)
      .type('text/plain')
      .send(problems.length ? problems.map(([name, problem]) => `${name}: ${problem}\n`).join('') : 'ok\n')
  })
  app.get('/metrics', async (_req, res) => {
    res.type(parts.registry.contentType).send(await parts.registry.metrics())
  })
  return app
}
