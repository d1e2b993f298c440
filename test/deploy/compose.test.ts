import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { composeChecker } from './compose.js'

const infra = fileURLToPath(new URL('../../infra', import.meta.url))
const check = composeChecker()
const checking = check ? test : test.skip
const skipped = check ? '' : ' (skipped: no compose-spec)'

checking.each([
  [['compose.yaml']],
  [['compose.yaml', 'compose.sentinel.yaml']],
  [['compose.yaml', 'compose.cluster.yaml']],
])(`compose takes %j${skipped}`, (files) => {
  expect(check!(...files.map((file) => join(infra, file)))).toBe('')
})

checking.each([
  ['a misspelt field', 'read_only: true', 'read_onli: true'],
  ['a condition that is none', 'condition: service_healthy', 'condition: service_health'],
  ['text for a number', 'retries: 15', 'retries: many'],
  ['text for a list', 'cap_drop: [ALL]', 'cap_drop: ALL'],
  ['a variable left open', '${PORT:-8080}', '${PORT:-8080'],
])(`it finds %s${skipped}`, (_what, right, wrong) => {
  const text = readFileSync(join(infra, 'compose.yaml'), 'utf8')
  expect(text).toContain(right)
  const folder = mkdtempSync(join(tmpdir(), 'throughline-compose-'))
  try {
    const file = join(folder, 'compose.yaml')
    writeFileSync(file, text.replaceAll(right, wrong))
    expect(check!(file)).not.toBe('')
  } finally {
    rmSync(folder, { recursive: true })
  }
})
