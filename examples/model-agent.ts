// An agent in front of a model server that speaks the OpenAI API: llama.cpp, vLLM, Ollama, LM Studio, or OpenAI itself.
// From a clone: `npm ci && npm start`, and in another terminal
//   npx tsx examples/model-agent.ts --model-url http://127.0.0.1:11434/v1 --model llama3.2
// Then: npx throughline chat --pool model
import { randomUUID } from 'node:crypto'
import { parseArgs } from 'node:util'
import { serve, type StopReason, type Turn, type Usage } from 'throughline/agent'

const env = process.env
const { values: options } = parseArgs({
  options: {
    url: { type: 'string', default: env.THROUGHLINE_URL ?? 'http://127.0.0.1:8080' },
    key: { type: 'string', default: env.THROUGHLINE_AGENT_KEY },
    pool: { type: 'string', default: 'model' },
    capacity: { type: 'string', default: '4' },
    'model-url': { type: 'string', default: env.OPENAI_BASE_URL ?? 'http://127.0.0.1:11434/v1' },
    'model-key': { type: 'string', default: env.OPENAI_API_KEY ?? 'none' },
    model: { type: 'string', default: env.OPENAI_MODEL ?? 'llama3.2' },
    system: { type: 'string', default: 'You are a helpful assistant.' },
    // what of a conversation goes to the model again: the last messages, and of them so many characters
    messages: { type: 'string', default: '40' },
    characters: { type: 'string', default: '48000' },
  },
})

interface Message {
  role: 'system' | 'user' | 'assistant'
  content: string
}

/** Conversations by thread, the one that was quiet for longest first. They are gone when this process is. */
const conversations = new Map<string, Message[]>()
const MAX_CONVERSATIONS = 1000

const agent = serve(
  { url: options.url, key: options.key, pool: options.pool, capacity: Number(options.capacity) },
  async (turn) => {
    const before = turn.thread === null ? [] : conversations.get(turn.thread)
    // Said before anything else, it makes the gateway forget the thread and bring the turn again without one.
    if (!before) return turn.fail('thread_gone', 'This agent does not remember the conversation.')
    const thread = turn.thread ?? randomUUID()
    if (turn.thread === null) await turn.setThread(thread)

    const messages = bounded([...before, { role: 'user', content: turn.input }])
    const answer = await ask(turn, messages)
    if (answer === undefined) return // it has failed, and said why
    conversations.delete(thread)
    conversations.set(thread, bounded([...messages, { role: 'assistant', content: answer }]))
    if (conversations.size > MAX_CONVERSATIONS) conversations.delete(conversations.keys().next().value!)
  },
)

/** The end of a conversation: so many messages and characters at most, yet always the last one; begins with the user. */
function bounded(messages: Message[]): Message[] {
  let characters = 0
  let from = messages.length
  while (from > 0 && messages.length - from < Number(options.messages)) {
    characters += messages[from - 1]!.content.length
    if (characters > Number(options.characters) && from < messages.length) break
    from--
  }
  while (from < messages.length - 1 && messages[from]!.role !== 'user') from++
  return messages.slice(from)
}

/** Streams the model's answer into the turn, and gives it; undefined when the turn has been failed. */
async function ask(turn: Turn, messages: Message[]): Promise<string | undefined> {
  let answer = ''
  let reason: StopReason | undefined
  try {
    const response = await fetch(`${options['model-url'].replace(/\/+$/, '')}/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${options['model-key']}` },
      body: JSON.stringify({
        model: options.model,
        messages: [{ role: 'system', content: options.system }, ...messages],
        stream: true,
        stream_options: { include_usage: true },
      }),
      signal: turn.signal, // a cancel closes the connection, at which the model server stops
    })
    if (!response.ok || !response.body) throw new Error(`answered ${response.status}: ${await excerpt(response)}`)
    for await (const chunk of chunks(response.body)) {
      if (chunk.error) throw new Error(`broke off: ${chunk.error.message ?? JSON.stringify(chunk.error)}`)
      const choice = chunk.choices?.[0]
      const thought = choice?.delta?.reasoning_content ?? choice?.delta?.reasoning // llama.cpp's name, Ollama's name
      if (thought) await turn.reasoning(thought)
      if (choice?.delta?.content) await turn.text(choice.delta.content) // waiting here, we do not read: back-pressure
      answer += choice?.delta?.content ?? ''
      if (choice?.finish_reason) reason = stopReason(choice.finish_reason)
      if (chunk.usage) await turn.usage(usageOf(chunk.usage))
    }
    if (!reason) throw new Error('ended its answer without a finish_reason')
  } catch (err) {
    turn.signal.throwIfAborted() // nobody waits any more
    const { message, cause } = err as Error & { cause?: Error }
    const why = cause ? `${message}: ${cause.message}` : message
    await turn.fail('model_error', `The model server at ${options['model-url']} ${why}`)
    return undefined
  }
  await turn.complete(reason)
  return answer
}

function stopReason(finish: string): StopReason {
  return finish === 'length' ? 'max_tokens' : finish === 'content_filter' ? 'refusal' : 'end_turn'
}

function usageOf(usage: NonNullable<Chunk['usage']>): Usage {
  return {
    inputTokens: usage.prompt_tokens,
    outputTokens: usage.completion_tokens,
    cachedTokens: usage.prompt_tokens_details?.cached_tokens,
    reasoningTokens: usage.completion_tokens_details?.reasoning_tokens,
  }
}

/** What we read of a `chat.completion.chunk`. */
interface Chunk {
  choices?: {
    delta?: { content?: string; reasoning_content?: string; reasoning?: string }
    finish_reason?: string | null
  }[]
  usage?: {
    prompt_tokens: number
    completion_tokens: number
    prompt_tokens_details?: { cached_tokens?: number }
    completion_tokens_details?: { reasoning_tokens?: number }
  } | null
  error?: { message?: string }
}

/** The data lines of an event stream, up to `[DONE]` or its end. */
async function* chunks(body: ReadableStream<Uint8Array>): AsyncGenerator<Chunk> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const bytes of body) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split(/\r?\n/)
    rest = lines.pop()!
    for (const line of lines) {
      if (!line.startsWith('data:')) continue // a comment, an event's name, the blank line between two
      const data = line.slice(5).trim()
      if (data === '[DONE]') return
      yield JSON.parse(data) as Chunk
    }
  }
}

async function excerpt(response: Response): Promise<string> {
  return (await response.text()).slice(0, 500)
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void agent.close())
await agent.closed
