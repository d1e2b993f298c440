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

const [BRACE, NEWLINE] = [0x7b, 0x0a]

/** The same bytes. Lines that are no JSON objects, what a program prints without being asked, are said as well. */
export async function* strayLines(source: AsyncIterable<Uint8Array>, say: (line: string) => void) {
  const reader = lineReader((line) => say(`(on stdout) ${line}`))
  let stray: boolean | undefined
  for await (const chunk of source) {
    for (let from = 0; from < chunk.length;) {
      stray ??= chunk[from] !== BRACE
      const end = chunk.indexOf(NEWLINE, from) + 1 || chunk.length
      if (stray) reader.read(chunk.subarray(from, end))
      if (chunk[end - 1] === NEWLINE) stray = undefined
      from = end
    }
    yield chunk
  }
  reader.end()
}
