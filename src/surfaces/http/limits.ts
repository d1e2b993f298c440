import express, { type RequestHandler } from 'express'
import { ThroughlineError } from '../../protocol/errors.js'

/** A body that is too large is read and thrown away up to this size, so that its sender gets the 413. */
const DISCARD_BYTES = 64 * 1024 * 1024

/** Deepest nesting of a body: what walks through it later may do so by recursion. */
const MAX_DEPTH = 100

/** Reads a JSON object of at most `maxBytes`. Other content is refused unread. */
export const jsonBody = (maxBytes: number): RequestHandler[] => [
  refuseUnread(maxBytes),
  express.json({ limit: maxBytes }),
  refuseDeep,
]

/**
 * A foreign web page can post forms and plain text to this machine without asking; for JSON its browser must ask first,
 * and is told nothing. Hence a body with any other content type is refused, not guessed at.
 */
function refuseUnread(maxBytes: number): RequestHandler {
  return (req, res, next) => {
    const length = Number(req.headers['content-length'] ?? 0)
    if (length > maxBytes) {
      // a client that is still sending would meet a reset instead of the answer: hear it out, within reason
      if (length <= DISCARD_BYTES)
        return void req.resume().once('end', () => next(new ThroughlineError('body_too_large')))
      res.set('Connection', 'close')
      throw new ThroughlineError('body_too_large')
    }
    const hasBody = length > 0 || req.headers['transfer-encoding'] !== undefined
    if (hasBody && !req.is('application/json')) throw new ThroughlineError('unsupported_media_type')
    next()
  }
}

const refuseDeep: RequestHandler = (req, _res, next) => {
  let level: unknown[] = [req.body]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > MAX_DEPTH)
      throw new ThroughlineError('invalid_request', {
        message: `The body is nested more than ${MAX_DEPTH} levels deep.`,
      })
    level = level.flatMap((part) =>
      typeof part === 'object' && part !== null ? Object.values(part).filter((it) => typeof it === 'object') : [],
    )
  }
  next()
}
