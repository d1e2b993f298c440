import { stripVTControlCharacters } from 'node:util'

/** Longer lines are cut (UTF-16 units); more lines than this in a period are counted, not shown. */
const LINE_UNITS = 2000
const LINES = 200
const PERIOD_MS = 10_000

/**
 * Cuts a stream of bytes into lines for a log: colours and control characters taken out, long lines cut, a flood counted
 * instead of shown. Holds one line at most.
 */
export function lineReader(say: (line: string) => void, now: () => number = () => performance.now()) {
  const decoder = new TextDecoder()
  let rest = ''
  let cut = false
  let since = -Infinity
  let shown = 0
  let left = 0

  function show(line: string): void {
    if (now() - since > PERIOD_MS) {
      if (left > 0) say(`(${left} more lines)`)
      since = now()
      shown = left = 0
    }
    if (shown++ < LINES) say(line)
    else left++
  }

  function line(text: string): void {
    const clean = stripVTControlCharacters(text)
      .replaceAll(/\p{Cc}/gu, ' ')
      .trimEnd()
    if (clean !== '') show(clean.length > LINE_UNITS ? `${clean.slice(0, LINE_UNITS)}…` : clean)
  }

  function take(text: string): void {
    const lines = (rest + text).split('\n')
    rest = lines.pop()!
    for (const each of lines) {
      if (!cut) line(each)
      cut = false // the end of a line whose beginning was shown
    }
    if (rest.length > 2 * LINE_UNITS) {
      if (!cut) line(rest)
      cut = true
      rest = ''
    }
  }

  return {
    read: (bytes: Uint8Array): void => take(decoder.decode(bytes, { stream: true })),
    end(): void {
      take(decoder.decode())
      if (!cut) line(rest)
      rest = ''
      if (left > 0) say(`(${left} more lines)`)
      left = 0
    },
  }
}
