import type { Interaction, Session } from '../../core/core.js'
import type { Entry } from '../../protocol/fold.js'

/** The head of a transcript for people. */
export const headingOf = ({ id, title, pool, createdAt }: Session): string =>
  `# ${oneLine(title) || id}\n\n${id} · pool ${pool} · ${new Date(createdAt).toISOString()}\n`

/** A turn for people: what was asked, and the answer in its own Markdown; the rest of it set apart. */
export function turnAsMarkdown(turn: Interaction): string {
  const parts = [`## ${new Date(turn.createdAt).toISOString()} · ${turn.status}`, quoted(turn.input)]
  parts.push(...turn.output.map(entryAsMarkdown).filter((text) => text !== ''))
  if (turn.error) parts.push(`**${turn.error.code}**: ${oneLine(turn.error.message)}`)
  return `\n${parts.join('\n\n')}\n`
}

function entryAsMarkdown({ kind, text, name, status }: Entry): string {
  if (kind === 'text') return text
  const what = [kind.replace('_', ' '), name && oneLine(name), status].filter(Boolean).join(' · ')
  return text === '' ? `*${what}*` : `*${what}*\n\n${fenced(text)}`
}

const oneLine = (text: string): string => text.replaceAll(/\s+/g, ' ').trim()

const quoted = (text: string): string => text.replaceAll(/^/gm, '> ')

/** A fence longer than any in the text, so that the text cannot end it. */
function fenced(text: string): string {
  const longest = Math.max(2, ...(text.match(/`{3,}/g) ?? []).map((ticks) => ticks.length))
  const fence = '`'.repeat(longest + 1)
  return `${fence}\n${text}\n${fence}`
}
