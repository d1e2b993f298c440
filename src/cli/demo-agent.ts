import { setTimeout as sleep } from 'node:timers/promises'
import { serve, type Turn } from '../sdk/agent.js'

export interface DemoOptions {
  url: string
  pool: string
  capacity: number
  /** Pause between two words, ms. */
  wordDelayMs: number
  key?: string
  /** Ends the agent. */
  signal: AbortSignal
}

/** Conversations that it remembers. */
const THREADS = 10_000

/**
 * An agent without a model, for trying things out: it thinks a little, calls a tool and tells a story word by word.
 * `/slow N`: N words, one a second · `/echo TEXT` · `/fail` · `/silent`: takes the turn and says nothing.
 */
export async function demoAgent(options: DemoOptions): Promise<void> {
  const turns = new Map<string, number>() // of a thread; after a restart it begins anew
  const agent = serve(
    {
      url: options.url,
      pool: options.pool,
      capacity: options.capacity,
      ...(options.key !== undefined && { key: options.key }),
    },
    (turn) => answer(turn, turns, options.wordDelayMs),
  )
  const ended = new Promise<void>((resolve) => {
    if (options.signal.aborted) return resolve()
    options.signal.addEventListener('abort', () => resolve(), { once: true })
  })
  await Promise.race([ended, agent.closed])
  await agent.close(2000)
}

async function answer(turn: Turn, turns: Map<string, number>, delayMs: number): Promise<void> {
  const [, command, rest = ''] = /^\/(\w+)\s*([^]*)$/.exec(turn.input) ?? []
  if (command === 'echo') return turn.text(rest)
  if (command === 'fail') return turn.fail('demo_failure', 'You asked for it.')
  if (command === 'silent') return void (await sleep(24 * 3600_000, undefined, { signal: turn.signal }))
  if (command === 'slow') {
    const words = Array.from({ length: Math.min(Number(rest) || 30, 10_000) }, (_, i) => `word-${i + 1}`)
    return say(turn, words, 1000)
  }

  const thread = turn.thread ?? `demo-${turn.session.slice(-8)}`
  const count = (turns.get(thread) ?? 0) + 1
  turns.delete(thread)
  turns.set(thread, count)
  if (turns.size > THREADS) turns.delete(turns.keys().next().value!) // the one that was quiet for longest
  if (turn.thread === null) {
    await turn.setThread(thread)
    await turn.setTitle(turn.input.slice(0, 60))
  }
  for (const word of 'Let me think about that for a moment.'.split(' ')) {
    await turn.reasoning(`${word} `)
    await sleep(delayMs / 2, undefined, { signal: turn.signal })
  }
  const tool = await turn.toolCall({ name: 'Look around' })
  await tool.append('Redis has the log; replicas come and go.')
  await tool.done()
  const story = `You said “${turn.input}” (message ${count} of this conversation, as far as I remember). Once there was a server that kept its maps in memory, and every restart broke every conversation. So its keepers wrote each word down before they passed it on, numbered the words, and let any door open onto any room. Since then the doors may fall shut as they like: the story goes on at the very word where it stopped.`
  await say(turn, story.split(' '), delayMs)
  await turn.usage({ inputTokens: turn.input.split(/\s+/).length, outputTokens: story.split(' ').length })
}

async function say(turn: Turn, words: string[], delayMs: number): Promise<void> {
  for (const [i, word] of words.entries()) {
    await turn.text(i === 0 ? word : ` ${word}`)
    await sleep(delayMs, undefined, { signal: turn.signal })
  }
}
