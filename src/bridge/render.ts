import type { ContentBlock, Diff, PlanEntry, ToolCallContent } from '@agentclientprotocol/sdk'

/** What one tool call shows is cut here, UTF-16 units. */
const SHOWN_UNITS = 200_000
/** Lines around a change. */
const CONTEXT = 3

/** A piece of content as text. Pictures and sound are named, not shown. */
export function contentText(content: ContentBlock): string {
  switch (content.type) {
    case 'text':
      return content.text
    case 'image':
      return `[image: ${content.mimeType}]`
    case 'audio':
      return `[audio: ${content.mimeType}]`
    case 'resource_link':
      return `[${content.title ?? content.name}](${content.uri})`
    case 'resource':
      return 'text' in content.resource ? content.resource.text : `[resource: ${content.resource.uri}]`
    default:
      content satisfies never
      return ''
  }
}

/** What a tool call shows. `terminal` gives the text of a terminal of ours. */
export function toolText(contents: ToolCallContent[], terminal: (id: string) => string | undefined): string {
  const parts = contents.map((it) => {
    if (it.type === 'content') return contentText(it.content)
    if (it.type === 'diff') return diffText(it)
    return terminal(it.terminalId) ?? `[terminal ${it.terminalId}]`
  })
  return shortened(parts.filter((part) => part !== '').join('\n\n'))
}

/** What a tool returned, where it shows nothing else: its text, if there is one to be seen, or JSON. */
export function rawText(raw: unknown): string {
  if (typeof raw === 'string') return shortened(raw)
  const { output, content } = Object(raw) as { output?: unknown; content?: unknown }
  for (const text of [output, content]) if (typeof text === 'string') return shortened(text)
  return raw === undefined || raw === null ? '' : shortened(JSON.stringify(raw, null, 2) ?? '')
}

/** A change of a file: what was, what is, and a few lines around it. */
export function diffText({ path, oldText, newText }: Diff): string {
  if (oldText === null || oldText === undefined) return [`+++ ${path}`, ...newText.split('\n').map(plus)].join('\n')
  const [before, after] = [oldText.split('\n'), newText.split('\n')]
  let head = 0
  while (head < before.length && head < after.length && before[head] === after[head]) head++
  let tail = 0
  while (tail < before.length - head && tail < after.length - head && before.at(-1 - tail) === after.at(-1 - tail))
    tail++
  const lines = [
    ...before.slice(Math.max(head - CONTEXT, 0), head).map(same),
    ...before.slice(head, before.length - tail).map(minus),
    ...after.slice(head, after.length - tail).map(plus),
    ...after.slice(after.length - tail, after.length - tail + CONTEXT).map(same),
  ]
  return [`--- ${path}`, `+++ ${path}`, `@@ line ${head + 1} @@`, ...lines].join('\n')
}

const STEP = { pending: '[ ]', in_progress: '[~]', completed: '[x]' } as const

/** A plan, a line per step. */
export const planText = (entries: PlanEntry[]): string =>
  shortened(entries.map((it) => `${STEP[it.status] ?? '[ ]'} ${it.content}`).join('\n'))

const same = (line: string) => ` ${line}`
const minus = (line: string) => `-${line}`
const plus = (line: string) => `+${line}`

const shortened = (text: string): string =>
  text.length <= SHOWN_UNITS ? text : `${text.slice(0, SHOWN_UNITS)}\n… (${text.length - SHOWN_UNITS} more characters)`
