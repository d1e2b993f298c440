import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

import { isNewEnough, OLDEST_REDIS } from '../store/redis-version.js'
import { onPath, probe, type FoundRedis } from './redis-binary.js'
import { sentenceOf } from './set-up-error.js'

const run = promisify(execFile)

interface Wanted {
  /** The copy lies in `redis/` under it. */
  cacheDir: string
  log: (line: string) => void
  signal?: AbortSignal | undefined
}

/**
 * Rung 3, on Debian and Ubuntu: fetches the distribution's Redis and the libraries it misses here, unpacked under the
 * cache folder, without root. About 10 MB to load (9 of them package lists), 7 MB kept; once per machine.
 * @throws Error that says which step failed. Each step is bounded (a minute).
 */
export async function privateRedis({ cacheDir, log, signal }: Wanted): Promise<FoundRedis> {
  for (const tool of ['apt-get', 'dpkg-deb']) if (!(await onPath(tool))) throw new Error(`there is no ${tool} here`)

  const home = join(cacheDir, 'redis')
  const kept = await installed(home, signal).catch(() => null) // not fetched yet, or the system under it has changed
  if (kept) return kept

  log('No Redis on this machine: fetching a private copy by apt-get (about 10 MB, no root, once) …')
  await mkdir(cacheDir, { recursive: true })
  const build = await mkdtemp(join(cacheDir, 'redis-building-'))
  try {
    const root = await fetchPackages(build, signal)
    await installed(root, signal) // before it replaces anything
    await rm(home, { recursive: true, force: true })
    // Another process may have put its own copy there just now: that one is as good.
    await rename(root, home).catch(() => {})
    return await installed(home, signal)
  } finally {
    await rm(build, { recursive: true, force: true })
  }
}

/** The copy under `root`, checked by starting it. */
async function installed(root: string, signal?: AbortSignal): Promise<FoundRedis> {
  const libraries = await foldersWithLibraries(root)
  const found = await probe(
    {
      file: join(root, 'usr', 'bin', 'redis-server'),
      name: 'redis-server',
      env: libraries.length > 0 ? { LD_LIBRARY_PATH: libraries.join(':') } : {},
      origin: `as a private copy (${root})`,
    },
    signal,
  )
  if (!isNewEnough(found.version)) {
    throw new Error(`this system offers Redis ${found.version}, older than ${OLDEST_REDIS}`)
  }
  return found
}

async function foldersWithLibraries(root: string): Promise<string[]> {
  const files = await readdir(root, { recursive: true, withFileTypes: true })
  return [...new Set(files.filter((file) => /\.so(\.|$)/.test(file.name)).map((file) => file.parentPath))]
}

/** Downloads and unpacks into `build`; gives the folder that has become the root of a small file system. */
async function fetchPackages(build: string, signal?: AbortSignal): Promise<string> {
  const lists = join(build, 'lists')
  const cache = join(build, 'cache')
  const debs = join(build, 'debs')
  const root = join(build, 'root')
  for (const folder of [join(lists, 'partial'), join(cache, 'archives', 'partial'), debs, root]) {
    await mkdir(folder, { recursive: true })
  }
  const config = join(build, 'apt.conf')
  await writeFile(config, aptConfig(lists, cache))
  const apt = async (...args: string[]): Promise<string> => {
    try {
      const options = { cwd: debs, timeout: 60_000, maxBuffer: 16 << 20, env: { ...process.env, LC_ALL: 'C' } }
      return (await run('apt-get', ['-c', config, ...args], { ...options, ...(signal && { signal }) })).stdout
    } catch (err) {
      throw new Error(`apt-get ${args[0]} failed: ${lastLine(err)}`)
    }
  }

  await apt('update')
  // A dry run names exactly what this machine lacks. Both packages by name and --reinstall: the program lies in the
  // second one, and either may be installed and still not be on our PATH.
  const plan = await apt(
    '--simulate',
    'install',
    '--reinstall',
    '--no-install-recommends',
    'redis-server',
    'redis-tools',
  )
  const names = [...plan.matchAll(/^Inst (\S+)/gm)].map((line) => line[1]!)
  await apt('download', ...names)
  for (const deb of await readdir(debs)) await run('dpkg-deb', ['-x', join(debs, deb), root], { timeout: 60_000 })
  return root
}

/** Everything apt-get writes goes to our folders; what the system hooks to an update is not run. */
const aptConfig = (lists: string, cache: string): string => `
Dir::State::Lists "${lists}";
Dir::Cache "${cache}";
Debug::NoLocking "1";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
`

function lastLine(err: unknown): string {
  const { stderr = '', killed } = err as { stderr?: string; killed?: boolean }
  if (killed) return 'it took longer than a minute'
  return stderr.trim().split('\n').at(-1) || sentenceOf(err)
}
