/**
 * A position in a log: the number of the last event seen, and the log's incarnation, empty until Redis has once lost
 * the log's tail. As text `<n>` or `<n>.<incarnation>`: the SSE `id:`, and what `Last-Event-ID` and `?after=` carry.
 */
export interface Cursor {
  n: number
  incarnation: string
}

export const START: Cursor = { n: 0, incarnation: '' }

export const CURSOR_PATTERN = /^(\d{1,15})(?:\.([0-9a-z]{1,32}))?$/

/** Reads a cursor; undefined when the text is none. */
export function parseCursor(text: string): Cursor | undefined {
  const match = CURSOR_PATTERN.exec(text)
  return match ? { n: Number(match[1]), incarnation: match[2] ?? '' } : undefined
}

export const formatCursor = ({ n, incarnation }: Cursor): string => (incarnation ? `${n}.${incarnation}` : String(n))

/** What event `n` is to a reader who has everything up to `seen`: the `next` one, `seen` already, or after a `hole`. */
export const place = (seen: number, n: number): 'next' | 'seen' | 'hole' =>
  n === seen + 1 ? 'next' : n <= seen ? 'seen' : 'hole'
