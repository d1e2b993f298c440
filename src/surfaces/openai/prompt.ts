import { ThroughlineError } from '../../protocol/errors.js'
import { MAX_TEXT } from '../http/parse.js'
import type { ChatMessage, ChatRequest } from './schemas.js'

/**
 * What the agent is told of a list of messages. Of a known session it knows everything up to the last answer, so only
 * what follows that is said; a new session is given the list as its history. A single user message is just its text,
 * otherwise each message becomes a block `role: text`.
 * Throws `invalid_request` when nothing is left to say, `unsupported_parameter` for content an agent cannot take.
 */
export function promptOf(messages: ChatMessage[], known: boolean): string {
  const from = known ? messages.findLastIndex((message) => message.role === 'assistant') + 1 : 0
  const said = messages
    .map((message, i) => ({ role: message.role, text: textOf(message, i) }))
    .slice(from)
    .filter(({ text }) => text.trim() !== '')
  if (said.length === 0)
    throw new ThroughlineError('invalid_request', {
      message: known ? 'No message follows the last answer.' : 'No message has any text.',
      param: 'messages',
    })
  return spoken(said, 'messages')
}

/** Messages as one text: a single one of the user is just its text, otherwise each is a block `role: text`. */
export function spoken(said: { role: string; text: string }[], param: string): string {
  const plain = said.length === 1 && said[0]!.role === 'user'
  const prompt = plain ? said[0]!.text : said.map(({ role, text }) => `${role}: ${text}`).join('\n\n')
  if (prompt.length <= MAX_TEXT) return prompt
  throw new ThroughlineError('invalid_request', {
    message: `All texts together may have ${MAX_TEXT} characters.`,
    param,
  })
}

function textOf({ content }: ChatMessage, message: number): string {
  if (typeof content === 'string') return content
  return (content ?? [])
    .map((part, i) => {
      if (part.type === 'text' && part.text !== undefined) return part.text
      if (part.type === 'refusal' && part.refusal !== undefined) return part.refusal
      throw new ThroughlineError('unsupported_parameter', {
        message: `Agents take text only, not "${part.type}".`,
        param: `messages[${message}].content[${i}]`,
      })
    })
    .join('')
}

/** Refuses what the agent's answer could not honour. Throws `unsupported_parameter`. */
export function refuseUnsupported({ n, tools, functions, modalities, audio }: ChatRequest): void {
  const refused = {
    n: (n ?? 1) !== 1,
    tools: (tools ?? []).length > 0,
    functions: (functions ?? []).length > 0,
    modalities: (modalities ?? []).some((modality) => modality !== 'text'),
    audio: (audio ?? null) !== null,
  }
  for (const [param, is] of Object.entries(refused))
    if (is) throw new ThroughlineError('unsupported_parameter', { param })
}
