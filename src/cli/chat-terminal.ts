import { createInterface } from 'node:readline'
import type { InteractionId, SessionId } from '../protocol/ids.js'
import { ChunkProjection } from '../sdk/ai-chunks.js'
import { cancel, follow, getSession, GatewayError, send, transcript, type Interaction } from '../sdk/client.js'
import { EXIT, GIVE_UP_MS, wording, type ChatOptions } from './chat-options.js'
import { Screen } from './chat-screen.js'

/** Turns of a continued session that are shown. */
const TAIL = 3
/** After so long without an answer the user is told that we are trying on, ms. */
const NOTICE_MS = 3000

/** Line by line, until Ctrl-D, or Ctrl-C while nothing runs. */
export async function converse({ url, key, pool, session: given }: ChatOptions): Promise<number> {
  const screen = new Screen(process.env['NO_COLOR'] === undefined)
  const write = (text: string) => void process.stdout.write(text)
  const left = new AbortController()
  const calls = { key, signal: left.signal }
  let session = given
  let running: { interaction?: InteractionId; cancelled: boolean } | undefined
  let code = EXIT.ok

  const terminal = createInterface({ input: process.stdin, output: process.stdout, prompt: '> ' })
  const interrupt = () => {
    if (!running) return terminal.close()
    if (running.cancelled) {
      code = EXIT.interrupted
      left.abort()
      return terminal.close()
    }
    running.cancelled = true
    if (running.interaction) stopTurn(running.interaction)
  }
  terminal.on('SIGINT', interrupt) // Ctrl-C is a key while the terminal is ours
  process.on('SIGINT', interrupt)
  terminal.on('close', () => running || left.abort())

  function stopTurn(interaction: InteractionId): void {
    cancel(url, interaction, calls).catch((err: unknown) => {
      if (err instanceof GatewayError) write(screen.line(wording(err), 'red'))
    })
  }

  async function show(interaction: InteractionId): Promise<void> {
    running = { ...running!, interaction }
    if (running.cancelled) stopTurn(interaction)
    const projection = new ChunkProjection(interaction)
    for await (const update of follow(url, interaction, calls))
      for (const chunk of projection.next(update)) write(screen.show(chunk))
  }

  /** Does something that Ctrl-C cancels; a refusal is shown, and the conversation goes on. */
  async function attempt(work: () => Promise<void>): Promise<void> {
    running = { cancelled: false }
    const notice = setTimeout(() => {
      if (!running?.interaction) write(screen.line('(no replica answers; trying on. Ctrl-C twice leaves)', 'dim'))
    }, NOTICE_MS)
    screen.moved(true)
    try {
      await work()
    } catch (err) {
      if (left.signal.aborted) return
      if (!(err instanceof GatewayError)) throw err
      write(screen.line(wording(err), 'red'))
      if (session === given && given !== undefined && err.code === 'not_found') {
        code = EXIT.failed
        terminal.close()
      }
    } finally {
      clearTimeout(notice)
      running = undefined
    }
  }

  const say = (text: string) =>
    attempt(async () => {
      const to = session === undefined ? { pool } : { session }
      const sent = await send(url, { ...to, text }, { ...calls, giveUpMs: GIVE_UP_MS })
      session = sent.session
      await show(sent.interaction)
    })

  /** The end of what was said before; what runs is shown as it goes on. */
  const recall = (id: SessionId) =>
    attempt(async () => {
      const { current } = await getSession(url, id, { ...calls, giveUpMs: GIVE_UP_MS })
      const tail: Interaction[] = []
      let turns = 0
      for await (const turn of transcript(url, id, calls)) {
        turns++
        tail.push(turn)
        if (tail.length > TAIL) tail.shift()
      }
      if (turns > tail.length) write(screen.line(`… ${turns - tail.length} earlier`, 'dim'))
      for (const turn of tail) {
        write(screen.line(`> ${turn.input}`))
        if (turn.id !== current) write(screen.line(turn.text || `(${turn.error?.message ?? turn.status})`))
      }
      if (current) await show(current)
    })

  try {
    const lines = terminal[Symbol.asyncIterator]() // from now on lines are kept, also those typed into an answer
    if (session !== undefined) await recall(session)
    for (;;) {
      if (left.signal.aborted || code !== EXIT.ok) break
      terminal.prompt()
      const { value: line, done } = await lines.next()
      if (done) break
      if (line.trim() !== '') await say(line)
    }
  } finally {
    terminal.close()
    process.off('SIGINT', interrupt)
  }
  if (session !== undefined && code !== EXIT.failed) write(`\nTo go on: throughline chat --session ${session}\n`)
  return code
}
