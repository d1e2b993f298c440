import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/**
 * Programs whose word on our files the tests ask for. Without one its tests are skipped, by name. `.ci/run` installs the
 * first: there a missing one is a failure. The others no package of Debian 12 brings; it takes them where they are.
 */
const INSTALLED = ['nginx', 'promtool', 'prometheus']
const WHERE_FOUND = ['kubectl', 'compose-spec', 'apt-get']
const inCi = process.env['CI'] ? test : test.skip

inCi.each(INSTALLED)('in CI %s is here', (program) => {
  const folders = process.env['PATH']!.split(delimiter)
  expect(folders.filter((folder) => existsSync(join(folder, program)))).not.toEqual([])
})

test('no test is skipped for want of another program', () => {
  const tests = fileURLToPath(new URL('..', import.meta.url))
  const wanted = readdirSync(tests, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .flatMap((file) => [...readFileSync(join(tests, file), 'utf8').matchAll(/skipped: no ([a-z-]+)/g)])
    .map(([, program]) => program!)
  expect(new Set(wanted)).toEqual(new Set([...INSTALLED, ...WHERE_FOUND]))
})
