/**
 * A process that runs one Redis for its parent and takes it along when the parent goes, however that goes: the IPC
 * channel closes with the parent even when it is killed with -9. Started by `keep`, with a KeeperOrder.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, realpath, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

import { Redis } from 'ioredis'

import { claimFolder, type Release } from './claim-folder.js'
import { freePort } from './free-port.js'
import type { KeeperNews, KeeperOrder } from './keeper-wire.js'
import { sentenceOf } from './set-up-error.js'

/** A large append-only file takes its time to load. */
const READY_LIMIT_MS = 60_000
const STOP_LIMIT_MS = 5_000

/** What Redis says when it does not understand its data, and when it could not get at it, which is no fault of the data. */
const UNREADABLE = /format|manifest|corrupt|truncated|end of file|(reading|loading) the (append|DB)/i
const UNREACHABLE = /permission|space left|read-only/i

/** The last is a Sentinel's word. */
const READY = /Ready to accept connections|Sentinel ID is/

interface Place {
  dir: string
  kept: boolean
  notes: string[]
  leave: Release
}

const order = JSON.parse(process.argv[2] ?? 'null') as KeeperOrder
let server: ChildProcess | undefined
let place: Place | undefined
let stopping = false

process.once('disconnect', () => void stop())
process.once('SIGTERM', () => void stop())

const started = start()
await started.catch(async (err: unknown) => {
  tell({ failed: sentenceOf(err) })
  await stop()
})

async function start(): Promise<void> {
  place = await choosePlace(order.dataDir)
  const port = await launchOnFreePort(place)
  await remember(place, port)
  tell({ ready: { port, pid: server!.pid!, dataDir: place.kept ? place.dir : null, notes: place.notes } })
  watch(place, port)
}

/** The wanted folder when nobody has it, else one of our own that goes when we go. */
async function choosePlace(wanted: string | null): Promise<Place> {
  const notes: string[] = []
  if (wanted !== null) {
    const claim = await claimFolder(wanted).catch((err: unknown) => {
      notes.push(`cannot use ${wanted} (${sentenceOf(err)}), so nothing is kept this time`)
      return undefined
    })
    if (claim) {
      const dir = await realpath(wanted) // as Redis will name it
      await endOrphan(dir)
      return { dir, kept: true, notes, leave: claim }
    }
    if (claim === null) notes.push(`${wanted} is in use by another start, so this one keeps nothing`)
  }
  const dir = await mkdtemp(join(tmpdir(), 'throughline-redis-'))
  return { dir, kept: false, notes, leave: () => rm(dir, { recursive: true, force: true }) }
}

/** A free port may be taken again before the server has it; a port that was asked for must not become another one. */
async function launchOnFreePort(at: Place): Promise<number> {
  for (let triesLeft = order.port ? 0 : 2; ; triesLeft--) {
    const port = order.port || (await freePort())
    try {
      await launchOnGoodData(at, port)
      return port
    } catch (err) {
      if (triesLeft === 0 || !/already in use|listening socket|Failed listening/i.test(sentenceOf(err))) throw err
    }
  }
}

/** Data that Redis refuses (cut by a power loss, written by a newer version) is set aside once, not lost, not in the way. */
async function launchOnGoodData(at: Place, port: number): Promise<void> {
  try {
    await launch(at, port)
  } catch (err) {
    const data = at.kept ? (await readdir(at.dir)).filter((name) => /^appendonlydir$|\.(rdb|aof)$/.test(name)) : []
    const why = sentenceOf(err)
    if (stopping || data.length === 0 || !UNREADABLE.test(why) || UNREACHABLE.test(why)) throw err
    const aside = await mkdtemp(join(at.dir, 'unreadable-'))
    for (const name of data) await rename(join(at.dir, name), join(aside, name))
    at.notes.push(`Redis could not read its data, which now lies in ${aside}`)
    await launch(at, port)
  }
}

/** Starts the server and waits until it answers. */
async function launch(at: Place, port: number): Promise<void> {
  if (stopping) throw new Error('it was stopped while it started')
  const { file, name, env } = order.server
  const configFile = order.configFile === undefined ? [] : [order.configFile]
  const child = spawn(file, [...configFile, ...settings(at, port), ...order.args], {
    cwd: at.dir,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  server = child
  const tail: string[] = []
  const ready = new Promise<boolean>((resolve) => {
    for (const output of [child.stdout, child.stderr]) {
      createInterface({ input: output }).on('line', (line) => {
        if (tail.push(line) > 20) tail.shift()
        if (READY.test(line)) resolve(true)
      })
    }
    child.once('close', () => resolve(false)) // after its last line
    child.once('error', (err) => {
      tail.push(err.message)
      resolve(false)
    })
    setTimeout(() => resolve(false), READY_LIMIT_MS).unref()
  })
  if (await ready) return
  child.kill('SIGKILL')
  throw new Error(`${name} did not start: ${reasonIn(tail)}`)
}

function settings(at: Place, port: number): string[] {
  const persistence = at.kept ? ['--appendonly', 'yes', '--appendfsync', 'everysec'] : ['--appendonly', 'no']
  return [
    ...['--port', String(port), '--bind', '127.0.0.1', '--dir', at.dir, '--daemonize', 'no'],
    ...['--save', '', '--maxmemory-policy', 'noeviction', ...persistence],
  ]
}

/** Redis says why just before it exits; the banner round it says nothing. */
function reasonIn(tail: string[]): string {
  const lines = tail.map((line) => line.replace(/^\d+:\w .*? [#*.-] /, '').trim()).filter(Boolean)
  return lines.slice(-3).join(' / ') || 'it said nothing'
}

/** Somebody ended our server: a new one takes over port and data, or we leave too and so tell the parent. */
function watch(at: Place, port: number): void {
  server!.once('exit', () => {
    if (stopping) return
    if (!order.restart) return void stop()
    void (async () => {
      await sleep(200)
      await launch(at, port)
      tell({ restarted: { pid: server!.pid! } })
      watch(at, port)
    })().catch((err: unknown) => {
      tell({ failed: sentenceOf(err) })
      return stop()
    })
  })
}

async function stop(): Promise<void> {
  if (stopping) return
  stopping = true
  server?.kill('SIGTERM') // before the wait: a start in progress ends by it
  await started.catch(() => {}) // its failure has been told
  if (server && isRunning(server)) {
    const gone = once(server, 'exit')
    server.kill('SIGTERM')
    const hard = setTimeout(() => server?.kill('SIGKILL'), STOP_LIMIT_MS)
    await gone
    clearTimeout(hard)
  }
  if (place?.kept) await rm(note(place.dir), { force: true })
  await place?.leave()
  if (process.connected) process.disconnect()
}

function isRunning(child: ChildProcess): boolean {
  return child.pid !== undefined && child.exitCode === null && child.signalCode === null
}

/** Told to a parent that may have gone in the meantime. */
function tell(news: KeeperNews): void {
  if (process.connected) process.send!(news)
}

function note(dir: string): string {
  return join(dir, 'running.json')
}

async function remember(at: Place, port: number): Promise<void> {
  if (at.kept) await writeFile(note(at.dir), JSON.stringify({ port }))
}

/**
 * When a keeper was killed together with its parent (`pkill -9 node`), its Redis still runs on the folder we have just
 * claimed. Two servers on one append-only file would ruin it, so the old one ends first. It is told by the folder that
 * it says it works in: the port alone may belong to someone else by now.
 */
async function endOrphan(dir: string): Promise<void> {
  const text = await readFile(note(dir), 'utf8').catch(() => null)
  if (text === null) return
  const { port } = JSON.parse(text) as { port: number }
  const redis = new Redis({
    port,
    host: '127.0.0.1',
    lazyConnect: true,
    retryStrategy: () => null,
    commandTimeout: 2_000,
  })
  redis.on('error', () => {}) // nobody there: the usual case, and what we hope for
  try {
    await redis.connect()
    const [, theirs] = (await redis.config('GET', 'dir')) as string[]
    if (theirs !== dir) return
    const gone = new Promise((resolve) => redis.once('close', resolve))
    redis.call('SHUTDOWN').catch(() => {}) // it answers by closing
    await Promise.race([gone, sleep(STOP_LIMIT_MS)])
  } catch {
    // Not reachable, or not a Redis: not our orphan.
  } finally {
    redis.disconnect()
  }
}
