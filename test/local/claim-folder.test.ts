import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { claimFolder } from '../../src/local/claim-folder.js'
import { freePort } from '../../src/local/free-port.js'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'throughline-claim-'))
})
afterEach(async () => {
  await rm(folder, { recursive: true })
})

test('a folder belongs to one until it is given back', async () => {
  const release = await claimFolder(folder)
  expect(release).not.toBeNull()
  expect(await claimFolder(folder)).toBeNull()
  await release!()
  const again = await claimFolder(folder)
  expect(again).not.toBeNull()
  await again!()
  expect(await readdir(folder)).toEqual([])
})

test('of many at the same time never more than one gets it', async () => {
  const claims = await Promise.all(Array.from({ length: 8 }, () => claimFolder(folder)))
  const got = claims.filter((release) => release !== null)
  expect(got.length).toBeLessThanOrEqual(1)
  for (const release of got) await release()
})

test('the claim of somebody who has died is cleared away', async () => {
  await writeFile(join(folder, `claim-${await freePort()}-00ff`), '')
  const release = await claimFolder(folder)
  expect(release).not.toBeNull()
  expect(await readdir(folder)).toHaveLength(1)
  await release!()
})
