import type { Response } from 'express'

/** Clients give up on headers after 300 s at the latest (undici); most people sooner. */
const HEADER_AFTER_MS = 10_000

/**
 * Answers 200 with JSON that may be minutes away: after 10 s the header and a line break go out, then a line break
 * after every `keepAliveMs`; JSON readers skip them. A rejection before the header is an error reply like any other.
 */
export async function sendLate(res: Response, keepAliveMs: number, coming: Promise<unknown>): Promise<void> {
  const beat = () => {
    if (res.destroyed) return
    if (!res.headersSent) res.status(200).type('json').set('X-Accel-Buffering', 'no')
    res.write('\n')
    timer = setTimeout(beat, keepAliveMs)
  }
  let timer = setTimeout(beat, Math.min(HEADER_AFTER_MS, keepAliveMs))
  try {
    const body = await coming
    if (res.headersSent) res.end(JSON.stringify(body))
    else res.json(body)
  } finally {
    clearTimeout(timer)
  }
}
