/** Closed as long as anybody holds it: the agent's output is then not read, and its own writes wait. */
export class Gate {
  readonly #holders = new Set<object>()
  #waiting: (() => void)[] = []

  hold(by: object): void {
    this.#holders.add(by)
  }

  free(by: object): void {
    this.#holders.delete(by)
    if (this.#holders.size === 0) for (const go of this.#waiting.splice(0)) go()
  }

  async open(): Promise<void> {
    while (this.#holders.size > 0) await new Promise<void>((resolve) => this.#waiting.push(resolve))
  }
}

/** The same bytes, read only while the gate is open. */
export function gated(source: AsyncIterable<Uint8Array>, gate: Gate): ReadableStream<Uint8Array> {
  const chunks = source[Symbol.asyncIterator]()
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        await gate.open()
        const { value, done } = await chunks.next().catch(() => ({ value: undefined, done: true as const }))
        if (done) controller.close()
        else controller.enqueue(value)
      },
      async cancel() {
        await chunks.return?.()
      },
    },
    { highWaterMark: 0 },
  )
}
