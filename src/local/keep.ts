import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

import type { KeeperNews, KeeperOrder, KeptServer } from './keeper-wire.js'

/** A server that lives no longer than this process. */
export interface Kept extends KeptServer {
  /** Settles when the server has gone without being asked to; says why. Never rejects. */
  lost: Promise<string>
  /** Ends the server, in order; resolves when nothing of it is left. */
  stop(): Promise<void>
  /** Ends it at once, without saving. */
  kill(): void
}

interface KeepOptions {
  signal?: AbortSignal | undefined
}

/** A stopping server gets 5 s from its keeper; after that the keeper itself goes. */
const STOP_LIMIT_MS = 8_000

/**
 * Starts `redis-keeper` or `redis-javascript` as a child and waits until its server answers (at most about a minute).
 * The child has a session of its own, so Ctrl-C at the terminal reaches only us and the order of leaving is ours.
 * @throws Error that says why the server did not start.
 */
export async function keep(
  program: 'redis-keeper' | 'redis-javascript',
  order: KeeperOrder | null,
  { signal }: KeepOptions = {},
): Promise<Kept> {
  signal?.throwIfAborted()
  const [file, execArgv] = sibling(program)
  const child = fork(file, [JSON.stringify(order)], {
    detached: true,
    execArgv,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  const exited = once(child, 'exit').catch(() => {})
  let complaint = ''
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (complaint = (complaint + text).slice(-2_000)))

  let stopping = false
  let server: KeptServer | undefined
  let failure = ''
  const stop = async (): Promise<void> => {
    stopping = true
    if (child.connected) child.disconnect()
    const hard = setTimeout(kill, STOP_LIMIT_MS)
    await exited
    clearTimeout(hard)
  }
  const kill = (): void => {
    stopping = true
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    if (server) endProcess(server.pid)
  }

  const ready = new Promise<KeptServer>((resolve, reject) => {
    child.on('message', (news: KeeperNews) => {
      if ('ready' in news) resolve((server = news.ready))
      else if ('restarted' in news) server!.pid = news.restarted.pid
      else reject(new Error((failure = news.failed)))
    })
    void exited.then(() => reject(new Error(failure || complaint.trim() || `${program} ended`)))
    signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
  })
  const { port, dataDir, notes } = await ready.catch(async (err: unknown) => {
    await stop()
    throw err
  })

  const lost = exited.then(() => {
    if (stopping) return new Promise<never>(() => {}) // asked to: nobody has to know
    if (child.signalCode !== null) endProcess(server!.pid) // its keeper was killed: it has only us
    return failure || complaint.trim() || 'its process has ended'
  })
  return {
    port,
    dataDir,
    notes,
    get pid() {
      return server!.pid // another one after a restart
    },
    lost,
    stop,
    kill,
  }
}

/** A file beside this one as a program: built, or, in tests and under tsx, the source. */
function sibling(name: string): [file: string, execArgv: string[]] {
  return import.meta.url.endsWith('.ts')
    ? [fileURLToPath(new URL(`./${name}.ts`, import.meta.url)), ['--import', 'tsx']]
    : [fileURLToPath(new URL(`./${name}.js`, import.meta.url)), []]
}

function endProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has gone already.
  }
}
