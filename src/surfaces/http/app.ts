import express, { Router, type Express, type Request, type RequestHandler, type Response } from 'express'
import helmet from 'helmet'
import { ThroughlineError } from '../../protocol/errors.js'
import { beginCall, callOf, type Call } from './call.js'
import { errorHandler, renderNative, type RenderError } from './errors.js'
import { jsonBody, refuseForeign } from './limits.js'
import type { HttpParts } from './parts.js'

/** A handler's word that the request is not its own but the next surface's under the same path. */
export const PASS = Symbol('pass')

/** Answers one route. May throw: the surface's error handler replies. */
export type Handler = (call: Call, req: Request, res: Response) => Promise<void | typeof PASS> | void

/** A surface's routes as data: pattern → method → handler. */
export type Routes = Record<string, Partial<Record<'get' | 'post' | 'delete', Handler>>>

/** A surface and where it hangs. Doors are tried in order; of two under one path the more particular comes first. */
export interface Door {
  path: string
  router: RequestHandler
}

/** The Express application: what all surfaces have in common, round the doors. */
export function httpApp(parts: HttpParts, doors: Door[]): Express {
  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.use(
    beginCall(parts),
    helmet({
      contentSecurityPolicy: { useDefaults: false, directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] } },
      strictTransportSecurity: false, // belongs to whoever ends TLS, and would bind their whole domain
    }),
  )
  if (parts.loopbackOnly) app.use(refuseForeign)
  for (const { path, router } of doors) app.use(path, router)
  app.use(refuseUnknown, errorHandler(parts, renderNative))
  return app
}

/**
 * A surface's router. Every route of it is authenticated and gets its body as JSON; a method a route does not have is
 * `method_not_allowed`, any other path `unknown_url`, and whatever is thrown goes out as `render` words it. With `passOn`
 * what it does not have is left to the next surface under the same path.
 */
export function surface(
  parts: HttpParts,
  routes: Routes,
  render: RenderError,
  { passOn = false }: { passOn?: boolean } = {},
): Router {
  const router = Router()
  const body = jsonBody(parts.limits.maxBodyBytes)
  for (const [path, handlers] of Object.entries(routes)) {
    const route = router.route(path).all(remember(path), authenticate(parts))
    const { get, post, delete: remove } = handlers
    if (get) route.get(run(get))
    if (post) route.post(...body, run(post))
    if (remove) route.delete(run(remove))
    if (!passOn) route.all(refuseMethod(Object.keys(handlers)))
  }
  if (!passOn) router.use(refuseUnknown)
  router.use(errorHandler(parts, render))
  return router
}

const authenticate =
  (parts: HttpParts): RequestHandler =>
  async (req, res, next) => {
    callOf(res).owner = (await parts.authenticate(req)).owner
    next()
  }

/** Kept at the time of matching: Express takes `baseUrl` back when a router gives a request away. */
const remember =
  (path: string): RequestHandler =>
  (req, res, next) => {
    callOf(res).route = req.baseUrl + path
    next()
  }

const run =
  (handle: Handler): RequestHandler =>
  async (req, res, next) => {
    if ((await handle(callOf(res), req, res)) === PASS) next('router')
  }

function refuseMethod(methods: string[]): RequestHandler {
  const allow = methods.map((method) => method.toUpperCase()).join(', ')
  return (req, res) => {
    res.set('Allow', allow)
    throw new ThroughlineError('method_not_allowed', { message: `${req.method} is not offered here, but ${allow}.` })
  }
}

const refuseUnknown: RequestHandler = () => {
  throw new ThroughlineError('unknown_url')
}
