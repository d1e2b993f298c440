import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { composeChecker } from './compose.js'

/** Programs whose word on our files the tests ask for. Without one its tests are skipped, by name; in CI that is a failure. */
const PROGRAMS = ['nginx', 'promtool', 'prometheus', 'kubectl']
const inCi = process.env['CI'] ? test : test.skip

inCi.each(PROGRAMS)('in CI %s is here', (program) => {
  const folders = process.env['PATH']!.split(delimiter)
  expect(folders.filter((folder) => existsSync(join(folder, program)))).not.toEqual([])
})

inCi('in CI a reader of compose files is here', () => expect(composeChecker()).toBeDefined())

test('no test is skipped for want of another program', () => {
  const tests = fileURLToPath(new URL('..', import.meta.url))
  const wanted = readdirSync(tests, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .flatMap((file) => [...readFileSync(join(tests, file), 'utf8').matchAll(/skipped: no ([a-z-]+)/g)])
    .map(([, program]) => program!)
  expect(new Set(wanted)).toEqual(new Set([...PROGRAMS, 'compose-spec', 'apt-get']))
})
