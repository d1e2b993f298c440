import { randomBytes, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { connect, createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const CLAIM = /^claim-(\d+)-([0-9a-f]+)$/

/** Gives the folder back. */
export type Release = () => Promise<void>

/**
 * Makes `folder` ours alone until this process ends, however it ends; creates it when it is not there.
 * Gives null when another living process has it.
 *
 * A claim is an empty file that names a port and a word; its owner answers on that port with the word. So a claim
 * dies with its owner (a pid could have become someone else's), and each name is used once, so removing a dead one can
 * never hit a living one. Everybody announces first and looks second: of two at the same time at least one sees the
 * other and steps back.
 */
export async function claimFolder(folder: string): Promise<Release | null> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  for (let attempt = 1; attempt <= 3; attempt++) {
    const { name, release } = await announce(folder)
    if (!(await hasRival(folder, name))) return release
    await release()
    await sleep(randomInt(10, 100)) // both may have stepped back: not again at the same time
  }
  return null
}

async function announce(folder: string): Promise<{ name: string; release: Release }> {
  const word = randomBytes(8).toString('hex')
  const server = createServer((socket) => {
    socket.on('error', () => {}) // who asked has gone
    socket.end(word)
  })
  server.listen({ port: 0, host: '127.0.0.1', exclusive: true })
  await once(server, 'listening')
  server.unref()
  const name = `claim-${(server.address() as AddressInfo).port}-${word}`
  await writeFile(join(folder, name), '')
  return {
    name,
    release: async () => {
      await rm(join(folder, name), { force: true })
      server.close()
    },
  }
}

async function hasRival(folder: string, own: string): Promise<boolean> {
  for (const name of await readdir(folder)) {
    const [, port, word] = CLAIM.exec(name) ?? []
    if (!port || !word || name === own) continue
    if (await answers(Number(port), word)) return true
    await rm(join(folder, name), { force: true })
  }
  return false
}

/** Whether the owner of a claim lives. Silence counts as alive: a stopped process still has its files. */
async function answers(port: number, word: string): Promise<boolean> {
  const socket = connect({ port, host: '127.0.0.1' })
  socket.setEncoding('utf8').setTimeout(1_000)
  return (await new Promise((resolve) => {
    let heard = ''
    socket.on('data', (text: string) => (heard += text))
    socket.on('timeout', () => resolve(true))
    socket.on('error', () => resolve(false))
    socket.on('end', () => resolve(heard === word))
  }).finally(() => socket.destroy())) as boolean
}
