import { readFile } from 'node:fs/promises'
import { cpus, release, totalmem, type } from 'node:os'
import { redisOnPath } from '../src/local/redis-binary.js'

/** Where and with what a run was made, a line each. */
export async function machine(): Promise<string[]> {
  const packages = ['ioredis', 'socket.io', 'socket.io-client', '@socket.io/redis-adapter']
  const versions = await Promise.all(
    packages.map(async (name) => `${name} ${await versionOf(`../node_modules/${name}`)}`),
  )
  const redis = await redisOnPath().then(
    ({ name, version }) => `${name} ${version}`,
    () => 'Redis of the private copy',
  )
  return [
    `${cpus().length} × ${cpus()[0]?.model ?? 'unknown CPU'}, ${Math.round(totalmem() / 1024 ** 3)} GiB, ${type()} ${release()}`,
    `Node ${process.versions.node}, ${redis}, ${versions.join(', ')}, throughline ${await versionOf('..')}`,
  ]
}

async function versionOf(folder: string): Promise<string> {
  const text = await readFile(new URL(`${folder}/package.json`, import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}
