import { createHash, randomBytes } from 'node:crypto'
import { lstatSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { freePorts } from '../../src/local/free-port.js'
import { emptyTurn, fold, follow, outputText, send } from '../../src/sdk/client.js'
import { eventually } from '../support/eventually.js'
import { build, Container, inside, podman } from './engine.js'

const root = fileURLToPath(new URL('../../', import.meta.url))
const image = 'localhost/throughline:test'
const again = 'localhost/throughline:again'
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string; license: string }

beforeAll(() => build(image), 1_200_000)

interface Config {
  User: string
  Env: string[]
  Entrypoint: string[]
  Cmd: string[]
  StopSignal: string
  Labels: Record<string, string>
  ExposedPorts: object
  Healthcheck: { Test: string[] }
}
const configOf = (name: string) => {
  const [it] = JSON.parse(podman('image', 'inspect', name)) as [
    { Config: Config; Healthcheck: Config['Healthcheck']; Size: number; RootFS: { Layers: string[] } },
  ]
  return { ...it.Config, Healthcheck: it.Healthcheck, size: it.Size, layers: it.RootFS.Layers }
}

describe('what it says of itself', () => {
  test('who runs, what starts, what stops, what tells its health', () => {
    const { User, Env, Entrypoint, Cmd, StopSignal, ExposedPorts, Healthcheck } = configOf(image)
    expect({ User, Entrypoint, Cmd, StopSignal }).toEqual({
      User: '1000:1000',
      Entrypoint: ['tini', '--', 'node', '/app/dist/main.js'], // no shell in between that would keep a signal to itself
      Cmd: ['serve'],
      StopSignal: 'SIGTERM',
    })
    expect(Env.map((it) => it.split('=')[0]).sort()).toEqual(['NODE_ENV', 'PATH'])
    expect(Object.keys(ExposedPorts).sort()).toEqual(['8080/tcp', '9090/tcp'])
    expect(Healthcheck.Test.slice(0, 2)).toEqual(['CMD', 'node'])
  })

  test('its labels are those of the package', () => {
    expect(configOf(image).Labels).toMatchObject({
      'org.opencontainers.image.title': 'Throughline',
      'org.opencontainers.image.version': manifest.version,
      'org.opencontainers.image.licenses': manifest.license,
      'org.opencontainers.image.base.name': expect.any(String) as string,
    })
  })

  test('its size', () => {
    const steps = podman('history', '--no-trunc', '--format', '{{.Size}}\t{{.CreatedBy}}', image).split('\n')
    const layers = steps.filter((step) => !step.startsWith('0 B')).map((step) => step.replace('/bin/sh -c #(nop) ', ''))
    console.log([...layers.map((it) => it.slice(0, 90)), `${configOf(image).size / 1e6} MB altogether`].join('\n'))
    expect(configOf(image).size).toBeLessThan(200e6)
  })
})

describe('what is in it', () => {
  /** Every file that our steps put there; paths as in the container. */
  const files = () =>
    inside(image, (folder) =>
      ['app', 'usr/local'].flatMap((top) =>
        readdirSync(join(folder, top), { recursive: true, encoding: 'utf8' }).map((name) => {
          const { mode, uid, gid } = lstatSync(join(folder, top, name))
          return { path: `/${top}/${name}`, mode, uid, gid }
        }),
      ),
    )

  test('node, an init, the build and its packages; no npm, no shell, nothing of a developer', () => {
    const paths = files().map(({ path }) => path)
    expect(paths.filter((path) => path.startsWith('/usr/local/bin/')).sort()).toEqual([
      '/usr/local/bin/node',
      '/usr/local/bin/tini',
    ])
    expect(paths.filter((path) => /^\/app\/[^/]+$/.test(path)).sort()).toEqual(
      ['LICENSE', 'dist', 'node_modules', 'package.json'].map((name) => `/app/${name}`),
    )
    expect(paths.filter((path) => /\.(map|[cm]?ts|tsbuildinfo)$|\/\.(git|npmrc|env)$/.test(path))).toEqual([])
    expect(paths).toContain('/app/dist/store/lua/append.lua')
    inside(image, (folder) => {
      for (const program of ['sh', 'bash', 'apt-get', 'dpkg', 'npm', 'su', 'mount'])
        for (const bin of ['usr/bin', 'usr/sbin', 'usr/local/bin'])
          expect(() => lstatSync(join(folder, bin, program))).toThrow(/ENOENT/)
    })
  })

  test('exactly the packages that the lock file has for production', () => {
    const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, { dev?: true; optional?: true; version: string }>
    }
    inside(image, (folder) => {
      const at = (path: string) => {
        try {
          return (JSON.parse(readFileSync(join(folder, 'app', path, 'package.json'), 'utf8')) as { version: string })
            .version
        } catch {
          return undefined
        }
      }
      const packages = Object.entries(lock.packages).filter(([path]) => path !== '')
      const wanted = packages.filter(([, { dev, optional }]) => !dev && !optional)
      expect(wanted.map(([path]) => [path, at(path)])).toEqual(wanted.map(([path, { version }]) => [path, version]))
      expect(packages.filter(([path, { dev }]) => dev && at(path)).map(([path]) => path)).toEqual([])
    })
  })

  test('all of it is root’s, to be read by anybody and written by nobody', () => {
    const wrong = files().filter(({ mode, uid, gid }) => {
      const link = (mode & 0o170000) === 0o120000
      return uid !== 0 || gid !== 0 || (!link && ((mode & 0o6022) !== 0 || (mode & 0o444) !== 0o444))
    })
    expect(wrong).toEqual([])
  })
})

test('built once more from nothing, for another revision, every layer is the same', async () => {
  await build(again, '--no-cache', '--build-arg', 'REVISION=abc')
  expect(configOf(again).Labels).toHaveProperty(['org.opencontainers.image.revision'], 'abc')
  expect(differing()).toEqual([])
  expect(configOf(again).layers).toEqual(configOf(image).layers)
}, 1_200_000)

/** Files whose content or mode is not the same in both builds. */
function differing(): string[] {
  const [one, two] = [image, again].map((name) => inside(name, (folder) => listing(folder)))
  const names = new Set([...one!.keys(), ...two!.keys()])
  return [...names].filter((name) => one!.get(name) !== two!.get(name))
}

function listing(folder: string): Map<string, string> {
  const names = readdirSync(join(folder), { recursive: true, encoding: 'utf8' })
  return new Map(
    names.map((name) => {
      const it = lstatSync(join(folder, name))
      const content = it.isFile()
        ? createHash('sha256')
            .update(readFileSync(join(folder, name)))
            .digest('hex')
        : ''
      return [name, `${it.mode} ${it.uid}:${it.gid} ${it.mtimeMs} ${content}`]
    }),
  )
}

describe('run without a right, on a file system that takes no write', () => {
  const KEYS = { CLIENT_KEYS: 'web=a-client-key', AGENT_KEYS: '*=an-agent-key' }

  /** Replicas of the image on one Redis, and where they are. */
  async function replicas(count: number, more: { user?: string } = {}) {
    const prefix = `test-${randomBytes(6).toString('hex')}:`
    const ports = await freePorts(count * 2)
    const started = Array.from({ length: count }, (_, i) => {
      const [PORT, OPS_PORT] = ports.slice(i * 2).map(String) as [string, string]
      const REDIS_URL = process.env['TEST_REDIS_URL']!
      const env = {
        PORT,
        OPS_PORT,
        REDIS_URL,
        HOST: '127.0.0.1',
        KEY_PREFIX: prefix,
        DRAIN_MS: '20000',
        POOLS: 'demo,acp',
        ...KEYS,
      }
      const container = new Container({ image, env, ...more })
      return { container, url: `http://127.0.0.1:${PORT}`, opsUrl: `http://127.0.0.1:${OPS_PORT}` }
    })
    for (const { opsUrl } of started)
      await eventually(async () => (await fetch(`${opsUrl}/readyz`)).status === 200, { limitMs: 30_000 })
    return started
  }
  const demoAgent = (url: string, user?: string) =>
    new Container({
      image,
      command: ['demo-agent', '--url', url],
      env: { THROUGHLINE_AGENT_KEY: 'an-agent-key' },
      ...(user !== undefined && { user }),
    })

  test.each([undefined, '1000730000:0', '65532:65532'])(
    'as user %s: an answer goes on at another replica when its own is stopped, which ends with 0',
    async (user) => {
      const [here, there] = await replicas(2, user === undefined ? {} : { user })
      await using first = here!.container
      await using second = there!.container
      await using agent = demoAgent(there!.url, user)
      let at = here!.url // the viewer, until it is sent away
      const key = 'a-client-key'
      const { interaction } = await send(here!.url, { pool: 'demo', text: 'hello' }, { key })
      let turn = emptyTurn()
      let leaving: Promise<number> | undefined
      for await (const update of follow(() => at, interaction, { key })) {
        turn = update.type === 'snapshot' ? update.turn : fold(turn, update.event)
        if (leaving || !outputText(turn).includes('Once there was')) continue
        expect(first.processes().map(({ pid, command }) => [pid, command])).toEqual([
          [1, 'tini -- node /app/dist/main.js serve'],
          [expect.any(Number), 'node /app/dist/main.js serve'],
        ])
        leaving = first.stop()
        at = there!.url
      }
      expect(turn.status).toBe('completed')
      expect(outputText(turn)).toMatch(/^You said “hello”.* the very word where it stopped\.$/)
      expect(await leaving).toBe(0)
      expect(first.logs()).toContain('drain_ended')
      expect(first.logs()).not.toMatch(/EROFS|EACCES|EPERM|ENOENT/)
      expect(await agent.stop()).toBe(0)
      expect(await second.stop()).toBe(0)
    },
  )

  test('the health check passes while it lives; it fails where nobody listens', async () => {
    const [it] = await replicas(1)
    await using container = it!.container
    expect(container.healthy()).toBe(true)
    const [nobody] = await freePorts(1)
    expect(container.exec(configOf(image).Healthcheck.Test.slice(1), { OPS_PORT: String(nobody) })).toBe(1)
    expect(await container.stop()).toBe(0)
    expect(container.healthy()).toBe(false)
  })

  test('commands run in it; what is wrong is said, with 78', async () => {
    await using version = new Container({ image, command: ['--version'] })
    expect([version.exitCode(), version.logs().trim()]).toEqual([0, manifest.version])
    await using config = new Container({ image, command: ['config'], env: KEYS })
    expect(config.exitCode()).toBe(0)
    expect(config.logs()).toContain('CLIENT_KEYS')
    expect(config.logs()).not.toContain('a-client-key')
    await using wrong = new Container({ image, env: { PORT: 'wrong' } })
    expect([wrong.exitCode(), wrong.logs()]).toEqual([78, expect.stringContaining('PORT')])
    const [nobody] = await freePorts(1)
    await using alone = new Container({
      image,
      env: { REDIS_URL: `redis://127.0.0.1:${nobody}`, PORT: '0', OPS_PORT: '0' },
    })
    expect([alone.exitCode(), alone.logs()]).toEqual([78, expect.stringContaining(`127.0.0.1:${nobody}`)])
  })

  test.each([
    ['tini is PID 1', [], false],
    ['(without it orphans would stay: this test can fail)', ['--entrypoint', '["node","/app/dist/main.js"]'], true],
  ])('an ACP agent that dies leaves no orphan behind: %s', async (_what, more, stay) => {
    const [it] = await replicas(1)
    await using _replica = it!.container
    const programs = join(root, 'test/bridge/programs')
    expect(statSync(programs).isDirectory()).toBe(true)
    // Each agent starts a process of its own, then does as it is told; the bridge ends that one when the agent has gone.
    const own =
      "require('node:child_process').spawn('node', ['-e', 'setTimeout(() => {}, 600_000)'], { stdio: 'ignore' })"
    const program = `${own}; import('/app/programs/scripted-agent.js')`
    await using bridge = new Container({
      image,
      command: ['agent', '--url', it!.url, '--pool', 'acp', '--', 'node', '-e', program],
      env: { THROUGHLINE_AGENT_KEY: 'an-agent-key' },
      more: ['--volume', `${programs}:/app/programs:ro`, ...more],
    })
    const say = async (text: string) => {
      const { interaction } = await send(it!.url, { pool: 'acp', text }, { key: 'a-client-key' })
      let turn = emptyTurn()
      for await (const update of follow(it!.url, interaction, { key: 'a-client-key' }))
        turn = update.type === 'snapshot' ? update.turn : fold(turn, update.event)
      return turn
    }
    expect(outputText(await say('say one'))).toBe('one')
    const before = bridge.processes()
    expect((await say('crash')).status).toBe('failed')
    expect(outputText(await say('say two'))).toBe('two')
    await eventually(() => bridge.processes().length >= before.length)
    const dead = () => bridge.processes().filter(({ state }) => state === 'Z').length
    if (stay) await eventually(() => dead() > 0)
    else await eventually(() => dead() === 0 && bridge.processes().length === before.length)
    expect(await bridge.stop()).toBe(0)
  })
})
