import type { Chunk } from '../sdk/ai-chunks.js'

/** Longest excerpt of a tool's output, UTF-16 units. */
const EXCERPT = 200

/**
 * An answer as it is shown in a terminal: pure, chunk in, text out. What an agent says may not move the cursor, colour
 * the screen or ring the bell: control characters are left out.
 */
export class Screen {
  readonly #colours: boolean
  #atLineStart = true
  #tools = new Map<string, string>()

  constructor(colours: boolean) {
    this.#colours = colours
  }

  show(chunk: Chunk): string {
    switch (chunk.type) {
      case 'start':
      case 'start-step':
      case 'finish-step':
      case 'text-start':
      case 'reasoning-start':
        return ''
      case 'text-delta':
        return this.#put(plain(chunk.delta))
      case 'reasoning-delta':
        return this.#put(plain(chunk.delta), 'dim')
      case 'text-end':
      case 'reasoning-end':
        return this.#lineStart()
      case 'tool-input-available':
        this.#tools.set(chunk.toolCallId, chunk.title)
        return this.line(`· ${chunk.title} …`, 'cyan')
      case 'tool-output-available':
        return this.line(`✓ ${this.#tools.get(chunk.toolCallId)}${excerpt(chunk.output)}`, 'cyan')
      case 'tool-output-error':
        return this.line(`✗ ${this.#tools.get(chunk.toolCallId)}${excerpt(chunk.errorText)}`, 'red')
      case 'data-throughline-plan':
        return this.line(chunk.data.text, 'dim')
      case 'data-throughline-reset':
        return this.line('— what stands above is void; the answer once more —', 'dim')
      case 'abort':
        return this.line('(cancelled)', 'dim')
      case 'error':
        return this.line(chunk.errorText, 'red')
      case 'finish':
        return chunk.finishReason === 'stop' ? this.#lineStart() : this.line(`(ended: ${chunk.finishReason})`, 'dim')
    }
  }

  /** A line of its own. */
  line(text: string, colour?: keyof typeof COLOURS): string {
    const start = this.#lineStart()
    return start + this.#put(`${plain(text)}\n`, colour)
  }

  /** Somebody else wrote: the cursor is at the start of a line, or not. */
  moved(atLineStart: boolean): void {
    this.#atLineStart = atLineStart
  }

  #put(text: string, colour?: keyof typeof COLOURS): string {
    if (text === '') return ''
    this.#atLineStart = text.endsWith('\n')
    return colour && this.#colours ? `\u001b[${COLOURS[colour]}m${text}\u001b[0m` : text
  }

  #lineStart(): string {
    if (this.#atLineStart) return ''
    this.#atLineStart = true
    return '\n'
  }
}

const COLOURS = { dim: 2, red: 31, cyan: 36 }

const plain = (text: string): string => text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '')

function excerpt(output: string): string {
  const line = output.trim().replace(/\s+/g, ' ')
  if (line === '') return ''
  return `: ${line.length > EXCERPT ? `${line.slice(0, EXCERPT)}…` : line}`
}
