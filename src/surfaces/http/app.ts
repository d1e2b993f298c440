import express, { Router, type Express, type Request, type RequestHandler, type Response } from 'express'
import helmet from 'helmet'
import { ThroughlineError } from '../../protocol/errors.js'
import { beginCall, callOf, type Call } from './call.js'
import { errorHandler, renderNative, type RenderError } from './errors.js'
import { jsonBody } from './limits.js'
import { crossOrigin, refuseForeign } from './origins.js'
import { pace, type TellCounts } from './pace.js'
import type { HttpParts } from './parts.js'
import type { Paced } from './quotas.js'

/** A handler's word that the request is not its own but the next surface's under the same path. */
export const PASS = Symbol('pass')

/** Answers one route. May throw: the surface's error handler replies. */
export type Handler = (call: Call, req: Request, res: Response) => Promise<void | typeof PASS> | void

/** Lets a caller in another way than by a key: true when it did, else the key is asked for. Throws `unauthorized`. */
export type Admit = (call: Call, req: Request) => Promise<boolean>

/** A surface's routes as data: pattern → method → handler. */
export type Routes = Record<string, Partial<Record<'get' | 'post' | 'delete', Handler>> & RouteTraits>

export interface RouteTraits {
  admit?: Admit
  /** What is posted here goes to an agent. */
  message?: true
  /** Read by EventSource, which stays away for good after any refusal: its handler counts it, and says so in the stream. */
  stream?: true
}

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
    leaveElsewhere(parts.draining),
    helmet({
      contentSecurityPolicy: { useDefaults: false, directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] } },
      strictTransportSecurity: false, // belongs to whoever ends TLS, and would bind their whole domain
    }),
  )
  if (parts.origins.origins.length > 0) app.use(crossOrigin(parts.origins))
  if (parts.origins.loopbackOnly) app.use(refuseForeign(parts.origins))
  for (const { path, router } of doors) app.use(path, router)
  app.use(refuseUnknown, errorHandler(parts, renderNative))
  return app
}

/** Every route of the application as Express itself has them, such as `GET /api/v1/sessions/:session`. */
export function routesOf(app: Express, doors: Door[]): string[] {
  return (app.router.stack as unknown as Layer[]).flatMap(({ route, handle }) => {
    if (route) return spell('', route)
    if (!('stack' in handle)) return []
    const door = doors.find(({ router }) => (router as unknown) === handle)
    return handle.stack.flatMap((layer) => {
      if (!door || 'stack' in layer.handle) throw new Error('a router that is no door: its path cannot be told')
      return layer.route ? spell(door.path, layer.route) : []
    })
  })
}

/** What Express keeps of a route or of what is hung under a path. */
interface Layer {
  route?: { path: string; methods: Record<string, boolean> }
  handle: { stack: Layer[] } | (() => void)
}

const spell = (under: string, { path, methods }: NonNullable<Layer['route']>): string[] =>
  Object.keys(methods)
    .filter((method) => method !== '_all')
    .map((method) => `${method.toUpperCase()} ${under === '/' ? '' : under}${path}`)

/**
 * A surface's router. Every route of it is authenticated and gets its body as JSON; a method a route does not have is
 * `method_not_allowed`, any other path `unknown_url`, and whatever is thrown goes out as `render` words it. With `passOn`
 * what it does not have is left to the next surface under the same path.
 */
export function surface(
  parts: HttpParts,
  routes: Routes,
  render: RenderError,
  { passOn = false, tellCounts }: { passOn?: boolean; tellCounts?: TellCounts } = {},
): Router {
  const router = Router()
  const body = jsonBody(parts.limits.maxBodyBytes)
  for (const [path, handlers] of Object.entries(routes)) {
    const { admit, message, stream, get, post, delete: remove } = handlers
    const allow = allowed({ get, post, delete: remove })
    const route = router.route(path).all(remember(path))
    if (!passOn) route.options(tellMethods(allow))
    route.all(authenticate(parts, admit))
    if (!stream) route.all(paced(parts, 'requests', tellCounts))
    if (get) route.get(run(get))
    if (post && message) route.post(paced(parts, 'messages', tellCounts))
    if (post) route.post(...body, run(post))
    if (remove) route.delete(run(remove))
    if (!passOn) route.all(refuseMethod(allow))
  }
  if (!passOn) router.use(refuseUnknown)
  router.use(errorHandler(parts, render))
  return router
}

/** A balancer that keeps its connection open would go on sending requests to a replica that leaves. */
const leaveElsewhere =
  (draining: AbortSignal): RequestHandler =>
  (req, res, next) => {
    if (draining.aborted && req.httpVersionMajor === 1) res.set('Connection', 'close')
    next()
  }

const authenticate =
  (parts: HttpParts, admit?: Admit): RequestHandler =>
  async (req, res, next) => {
    const call = callOf(res)
    if (!(await admit?.(call, req))) {
      const { owner, hold } = await parts.authenticate(req)
      call.owner = owner
      if (hold) call.hold = hold
    }
    next()
  }

const paced =
  (parts: HttpParts, what: Paced, tell: TellCounts | undefined): RequestHandler =>
  async (_req, res, next) => {
    await pace(parts, callOf(res), res, what, { tell })
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

/** The `Allow` header of a route: Express answers HEAD by what GET does. */
const allowed = (handlers: Record<string, Handler | undefined>): string =>
  Object.keys(handlers)
    .filter((method) => handlers[method])
    .flatMap((method) => (method === 'get' ? ['GET', 'HEAD'] : [method.toUpperCase()]))
    .concat('OPTIONS')
    .join(', ')

const tellMethods =
  (allow: string): RequestHandler =>
  (_req, res) =>
    void res.set('Allow', allow).status(204).end()

const refuseMethod =
  (allow: string): RequestHandler =>
  (req, res) => {
    res.set('Allow', allow)
    throw new ThroughlineError('method_not_allowed', { message: `${req.method} is not offered here, but ${allow}.` })
  }

const refuseUnknown: RequestHandler = () => {
  throw new ThroughlineError('unknown_url')
}
