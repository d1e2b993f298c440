import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runTrial, type TrialOptions } from './trial.js'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

const FULL: TrialOptions = {
  sessions: 20,
  events: 600,
  viewersPerSession: 10,
  agents: 4,
  connectionKills: 6,
  redisKills: 2,
  ghosts: 3,
  limitMs: 90_000,
}

test('connections die, Redis dies, agents move, viewers join at random: every log and every viewer is exact', async () => {
  const result = await runTrial(FULL)
  console.log('trial', JSON.stringify(result))
  expect(result).toMatchObject({
    exactLogs: result.logs,
    ended: result.logs,
    viewers: FULL.sessions * FULL.viewersPerSession,
    exactViewers: result.viewers,
  })
  expect(result.moves).toBe(FULL.ghosts)
})

/** A build of the gateway with one safeguard taken out. */
async function without(changes: { file: string; cut: RegExp; put: string }[], run: (main: string) => Promise<void>) {
  const dir = await mkdtemp(join(tmpdir(), 'throughline-mutant-'))
  try {
    await cp(join(ROOT, 'dist'), join(dir, 'dist'), { recursive: true })
    await cp(join(ROOT, 'package.json'), join(dir, 'package.json'))
    await symlink(join(ROOT, 'node_modules'), join(dir, 'node_modules'))
    for (const { file, cut, put } of changes) {
      const path = join(dir, 'dist', file)
      const before = await readFile(path, 'utf8')
      expect(before).toMatch(cut) // else the test would show nothing
      await writeFile(path, before.replace(cut, put))
    }
    await run(join(dir, 'dist/main.js'))
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

const SMALL: TrialOptions = { ...FULL, sessions: 8, events: 200, viewersPerSession: 6, limitMs: 15_000 }

test('the trial fails without the fence: a superseded connection writes into the log', async () => {
  const changes = [
    {
      file: 'store/lua/append.lua',
      cut: /if get\(session, 'epoch'\) ~= ARGV\[5\] then return \{ 'superseded'[^\n]*\n/,
      put: '',
    },
    // closing the old connection is a courtesy and often comes first; the fence must not depend on it
    { file: 'surfaces/agents/fleet.js', cut: /link\.close\('superseded'\)/, put: 'void link' },
  ]
  await without(changes, async (main) => {
    const result = await runTrial({ ...SMALL, connectionKills: 0, redisKills: 0, ghosts: 4, main })
    console.log('without the fence', JSON.stringify(result))
    expect(result.exactLogs).toBeLessThan(result.logs)
  })
})

test('the trial fails without the dedup: what is sent again stands twice', async () => {
  const changes = [
    { file: 'store/lua/append.lua', cut: /if last > agent_tip then/, put: 'if true then' },
    { file: 'core/writer.js', cut: /events\.slice\(next - first\)/, put: 'events' },
  ]
  await without(changes, async (main) => {
    const result = await runTrial({ ...SMALL, connectionKills: 0, redisKills: 0, ghosts: 3, main })
    console.log('without the dedup', JSON.stringify(result))
    expect(result.exactLogs).toBeLessThan(result.logs)
  })
})

test('the trial fails without reading again after a resubscription: viewers miss the end', async () => {
  const changes = [
    { file: 'store/bus.js', cut: /listener\.look\(\)/, put: 'void listener' },
    { file: 'core/follow.js', cut: /const LOOK_EVERY_MS = [\d_]+/, put: 'const LOOK_EVERY_MS = 3_600_000' },
  ]
  await without(changes, async (main) => {
    const result = await runTrial({ ...SMALL, connectionKills: 4, redisKills: 3, ghosts: 0, main })
    console.log('without the re-read', JSON.stringify(result))
    expect(result.exactLogs).toBe(result.logs)
    expect(result.exactViewers).toBeLessThan(result.viewers)
  })
})
