import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

interface News {
  id: number
  value?: unknown
  failure?: string
}

/** A helper process of the bench. It ends with this one: its IPC channel closes, and that is its order to leave. */
export class Child {
  readonly #process: ChildProcess
  readonly #name: string
  readonly #open = new Map<number, { resolve(value: unknown): void; reject(err: Error): void }>()
  #asked = 0
  /** Hears what the child says unasked. */
  onProgress: (count: number) => void = () => {}

  private constructor(name: string, started: ChildProcess) {
    this.#name = name
    this.#process = started
    started.on('message', ({ id, value, failure }: News) => {
      if (id === -1) return this.onProgress(value as number)
      const waiting = this.#open.get(id)
      this.#open.delete(id)
      if (failure === undefined) waiting?.resolve(value)
      else waiting?.reject(new Error(`${name}: ${failure}`))
    })
    started.once('exit', (code, signal) => {
      for (const { reject } of this.#open.values()) reject(new Error(`${name} ended (${signal ?? code})`))
      this.#open.clear()
    })
  }

  /** Starts `bench/<name>.ts` and waits until it listens. */
  static async start(name: string, given: unknown): Promise<Child> {
    const started = fork(fileURLToPath(new URL(`./${name}.ts`, import.meta.url)), [JSON.stringify(given)], {
      execArgv: ['--import', 'tsx'],
      env: { ...process.env, NODE_ENV: 'production' },
    })
    const child = new Child(name, started)
    await child.#answer(0)
    return child
  }

  get pid(): number {
    return this.#process.pid!
  }

  async ask<T>(order: string, argument?: unknown): Promise<T> {
    const id = ++this.#asked
    this.#process.send({ id, order, argument })
    return (await this.#answer(id)) as T
  }

  /** An order whose answer nobody needs. */
  tell(order: string, argument: unknown): void {
    if (this.#process.connected) this.#process.send({ id: ++this.#asked, order, argument })
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const gone = once(this.#process, 'exit')
    this.#process.kill('SIGKILL')
    await gone
  }

  #answer(id: number): Promise<unknown> {
    if (this.#process.exitCode !== null) return Promise.reject(new Error(`${this.#name} has ended`))
    return new Promise((resolve, reject) => this.#open.set(id, { resolve, reject }))
  }
}
