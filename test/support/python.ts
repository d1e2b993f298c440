import { createHash, randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { runProgram } from './program.js'

/**
 * A Python with the packages of a requirements file, in a virtual environment that is kept for the next run in the
 * user's cache folder. Gives the path of its interpreter. @throws with what to install when there is no python3 with venv.
 */
export async function pythonWith(requirementsPath: string): Promise<string> {
  const version = await runProgram('python3', ['--version']).catch((err: unknown) => {
    throw new Error('This test needs python3 with venv: apt-get install python3-venv', { cause: err })
  })
  const name = createHash('sha256').update(version).update(readFileSync(requirementsPath)).digest('hex').slice(0, 16)
  const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'throughline-test')
  const folder = join(cache, `python-${name}`)
  const python = (at: string): string => join(at, 'bin', 'python')
  if (existsSync(folder)) return python(folder)

  await mkdir(cache, { recursive: true })
  const made = `${folder}.${randomBytes(4).toString('hex')}` // whole or not at all: others may be making it too
  try {
    await runProgram('python3', ['-m', 'venv', made]).catch((err: unknown) => {
      throw new Error('This test needs the venv module of Python: apt-get install python3-venv', { cause: err })
    })
    await runProgram(python(made), ['-m', 'pip', 'install', '--quiet', '--requirement', requirementsPath])
    await rename(made, folder)
  } catch (err) {
    if (!existsSync(folder)) throw err
  } finally {
    await rm(made, { recursive: true, force: true })
  }
  return python(folder)
}
