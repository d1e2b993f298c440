import { createRequire } from 'node:module'
import { Router, type RequestHandler, type Response } from 'express'
import { callOf } from '../http/call.js'

/** The page loads nothing from elsewhere and runs no script but these files. */
const POLICY =
  "default-src 'none';script-src 'self';style-src 'self' 'unsafe-inline';img-src 'self' data:;connect-src 'self';base-uri 'none';form-action 'none';frame-ancestors 'none'"

const FILES = ['swagger-ui.css', 'swagger-ui-bundle.js', 'favicon-32x32.png']

const PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Throughline API</title>
<link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<div id="api"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
`

const START = `SwaggerUIBundle({ url: '/api/v1/openapi.json', dom_id: '#api', deepLinking: true, validatorUrl: null })
`

/** The OpenAPI document at `/api/v1/openapi.json`, and a page that shows it at `/docs`. Open to all: neither is secret. */
export function docsSurface(document: object): Router {
  const router = Router()
  const resolve = createRequire(import.meta.url).resolve
  const body = JSON.stringify(document)
  const serve = (path: string, send: (res: Response) => unknown): void => {
    router.get(path, named(path), (_req, res) => void send(res))
  }
  serve('/api/v1/openapi.json', (res) => res.type('json').send(body))
  serve('/docs', (res) => res.set('Content-Security-Policy', POLICY).type('html').send(PAGE))
  serve('/docs/start.js', (res) => res.type('js').send(START))
  for (const file of FILES)
    serve(`/docs/${file}`, (res) => {
      res.removeHeader('Cache-Control') // these files change with the version only
      res.sendFile(resolve(`swagger-ui-dist/${file}`), { maxAge: 3600_000, dotfiles: 'allow' })
    })
  return router
}

const named =
  (path: string): RequestHandler =>
  (_req, res, next) => {
    callOf(res).route = path
    next()
  }
