import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'

const root = fileURLToPath(new URL('../../', import.meta.url))
const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8')
const stages = dockerfile.split(/^FROM .*$/m).slice(1)

/** What the build leaves out; that it runs without is what is tested. */
const filter = (file: string) => !/\.(map|[cm]?ts|tsbuildinfo)$/.test(file)

let image: string
beforeAll(() => {
  image = mkdtempSync(join(tmpdir(), 'throughline-image-')) // outside of the project: nothing there lends it a module
  for (const { from, sources } of copies(stages.at(-1)!)) {
    if (from === 'modules') copyProductionModules(join(image, 'node_modules'))
    else {
      const ours = sources.filter((source) => !source.startsWith('/')) // not the node and the init of other stages
      for (const source of ours) cpSync(join(root, source), join(image, basename(source)), { recursive: true, filter })
    }
  }
})
afterAll(() => rmSync(image, { recursive: true, force: true }))

test('the folder of the image serves, answers and leaves on SIGTERM with exit code 0', async () => {
  await using net = await startNetwork({
    processes: true,
    main: join(image, 'dist/main.js'),
    env: {
      NODE_ENV: 'production',
      NODE_OPTIONS: '',
      CLIENT_KEYS: 'web=a-client-key',
      AGENT_KEYS: 'coder=an-agent-key',
    },
  })
  const [replica] = net.replicas
  expect((await fetch(`${replica!.opsUrl}/livez`)).status).toBe(200)
  expect((await fetch(`${replica!.opsUrl}/metrics`)).status).toBe(200)
  const make = (headers: Record<string, string>) =>
    fetch(`${replica!.url}/api/v1/sessions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ pool: 'coder' }),
    })
  expect((await make({})).status).toBe(401)
  expect((await make({ authorization: 'Bearer a-client-key' })).status).toBe(201)
  expect(healthCheck(replica!.opsUrl)).toBe(0)
  expect(await replica!.drain()).toBe(0)
  expect(net.logged('drain_ended')).toHaveLength(1)
  await eventually(() =>
    fetch(`${replica!.opsUrl}/livez`).then(
      () => false,
      () => true,
    ),
  )
  expect(healthCheck(replica!.opsUrl)).toBe(1)
})

test('the image starts what is tested here, behind an init, as a user without rights', () => {
  const last = stages.at(-1)!
  expect(JSON.parse(/^ENTRYPOINT (.+)$/m.exec(last)![1]!)).toEqual(['tini', '--', 'node', '/app/dist/main.js'])
  expect(JSON.parse(/^CMD (.+)$/m.exec(last)![1]!)).toEqual(['serve'])
  expect(last).toMatch(/^USER 1000:1000$/m)
})

test('the folder holds no development package', () => {
  expect(existsSync(join(image, 'node_modules/express'))).toBe(true)
  expect(existsSync(join(image, 'node_modules/typescript'))).toBe(false)
  expect(existsSync(join(image, 'src'))).toBe(false)
})

test('.dockerignore lets through what the build copies', () => {
  const letThrough = readFileSync(join(root, '.dockerignore'), 'utf8').match(/(?<=^!).+/gm)
  const wanted = stages
    .flatMap(copies)
    .filter(({ from }) => from === undefined)
    .flatMap(({ sources }) => sources)
  expect(wanted.filter((source) => !letThrough?.includes(source))).toEqual([])
  expect(wanted.filter((source) => !existsSync(join(root, source)))).toEqual([])
})

/** The exit code of the HEALTHCHECK of the Dockerfile, as the container would run it. */
function healthCheck(opsUrl: string): number | null {
  const [, command] = /^HEALTHCHECK[^]*?CMD (\[.+\])$/m.exec(stages.at(-1)!)!
  const [, ...args] = JSON.parse(command!) as string[]
  const env = { ...process.env, NODE_OPTIONS: '', OPS_PORT: new URL(opsUrl).port }
  return spawnSync(process.execPath, args, { cwd: image, env, timeout: 10_000 }).status
}

/** The COPY lines of a stage; sources as paths in the project. */
function copies(stage: string): { from: string | undefined; sources: string[] }[] {
  return [...stage.matchAll(/^COPY (?:--from=(\w+) )?(.+) \S+$/gm)].map(([, from, sources]) => ({
    from,
    sources: sources!.split(' ').map((source) => source.replace(/^\/app\/|^\.\//, '')),
  }))
}

/** What `npm ci --omit=dev` would install, by the same lock file, without asking a registry. */
function copyProductionModules(to: string): void {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: true }>
  }
  for (const [path, { dev }] of Object.entries(lock.packages)) {
    const source = join(root, path)
    if (path === '' || dev || !existsSync(source)) continue // not there: an optional one for another system
    cpSync(source, join(to, path.slice('node_modules/'.length)), {
      recursive: true,
      filter: (file) => filter(file) && !file.slice(source.length).includes('node_modules'), // nested: lines of their own
    })
  }
}
