import type { InteractionId } from '../protocol/ids.js'
import { cancel, getInteraction, GatewayError, send, watch, type Turn } from '../sdk/client.js'
import { EXIT, GIVE_UP_MS, wording, type ChatOptions } from './chat-options.js'

/** Largest message, UTF-16 units; the gateway's own limit. */
const MAX_INPUT = 1_000_000

/** Reads all of stdin, and prints nothing but the answer, when it is whole. */
export async function askOnce({ url, key, pool, session }: ChatOptions): Promise<number> {
  const left = new AbortController()
  let running: InteractionId | undefined
  const calls = { key, signal: left.signal }
  let interrupted = false
  const interrupt = () => {
    if (interrupted || !running) return left.abort()
    interrupted = true
    cancel(url, running, calls).catch(() => left.abort()) // the turn's end is what we wait for
  }
  const text = await input()
  if (text.length > MAX_INPUT || text.trim() === '') {
    console.error(text.trim() === '' ? 'Nothing to send: stdin is empty.' : `More than ${MAX_INPUT} characters.`)
    return EXIT.usage
  }
  process.on('SIGINT', interrupt).on('SIGTERM', interrupt)
  process.stdout.on('error', () => left.abort()) // whoever read us has gone
  try {
    const to = session === undefined ? { pool } : { session }
    const sent = await send(url, { ...to, text: text.trimEnd() }, { ...calls, giveUpMs: GIVE_UP_MS })
    running = sent.interaction
    let last: Turn | undefined
    for await (const turn of watch(url, running, calls)) last = turn
    const { text: answer, status, error } = await getInteraction(url, running, calls)
    if (answer !== '') process.stdout.write(answer.endsWith('\n') ? answer : `${answer}\n`)
    if (status === 'completed') return EXIT.ok
    console.error(error?.message ?? last?.error?.message ?? `The turn was ${status}.`)
    return interrupted ? EXIT.interrupted : EXIT.failed
  } catch (err) {
    if (left.signal.aborted) return EXIT.interrupted
    if (!(err instanceof GatewayError)) throw err
    console.error(wording(err))
    return EXIT.failed
  } finally {
    process.off('SIGINT', interrupt).off('SIGTERM', interrupt)
  }
}

/** All of stdin, or as much of it as shows that it is too much. */
async function input(): Promise<string> {
  let text = ''
  for await (const piece of process.stdin.setEncoding('utf8')) {
    text += String(piece)
    if (text.length > MAX_INPUT) break
  }
  return text
}
