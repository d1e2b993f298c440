import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { parse } from 'yaml'
import { readConfig, SETTINGS } from '../../src/config.js'
import { startGateway } from '../../src/gateway.js'
import { findRedis } from '../../src/local/embedded-redis.js'
import { userFolders } from '../../src/local/folders.js'
import { freePorts } from '../../src/local/free-port.js'
import { api, post } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { completed, startRawAgent, text } from '../support/raw-agent.js'

/** What parsing gives. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type Loose = any

const infra = fileURLToPath(new URL('../../infra', import.meta.url))
const read = (path: string) => readFileSync(join(infra, path), 'utf8')
const compose = (name: string) => parse(read(name), { merge: true }) as Loose
const base = compose('compose.yaml')

/** As `docker compose -f a -f b` puts files together, as far as ours need it: maps by key, lists one after the other. */
function onTop(below: Loose, above: Loose): Loose {
  const services: Loose = { ...below.services }
  for (const [name, service] of Object.entries<Loose>(above.services)) {
    const was = services[name] ?? {}
    services[name] = { ...was, ...service, volumes: [...(was.volumes ?? []), ...(service.volumes ?? [])] }
    for (const map of ['environment', 'depends_on'])
      if (was[map] && service[map]) services[name][map] = { ...was[map], ...service[map] }
  }
  return { services, volumes: { ...below.volumes, ...above.volumes } }
}

const VARIANTS: [string, Loose][] = [
  ['compose.yaml', base],
  ['compose.sentinel.yaml', onTop(base, compose('compose.sentinel.yaml'))],
  ['compose.cluster.yaml', onTop(base, compose('compose.cluster.yaml'))],
]
const gatewaysOf = (it: Loose) => Object.entries<Loose>(it.services).filter(([name]) => name.startsWith('gateway-'))

describe.each(VARIANTS)('%s', (_name, it) => {
  const services = Object.entries<Loose>(it.services)

  test('names only services, volumes and files that are there', () => {
    for (const [, { image, depends_on = [], volumes = [] }] of services) {
      expect(image).toMatch(/^[\w./-]+:[\w.-]+$/)
      for (const other of Array.isArray(depends_on) ? depends_on : Object.keys(depends_on))
        expect(it.services).toHaveProperty([other])
      for (const volume of volumes as string[]) {
        const [source] = volume.split(':')
        if (source!.startsWith('.')) expect(existsSync(join(infra, source!))).toBe(true)
        else expect(it.volumes).toHaveProperty([source!])
      }
    }
  })

  test('waits only for services that can say that they are well', () => {
    for (const [, { depends_on = [] }] of services)
      for (const [other, { condition }] of Array.isArray(depends_on) ? [] : Object.entries<Loose>(depends_on))
        if (condition === 'service_healthy' && !other.startsWith('gateway-'))
          // their image brings its check
          expect(it.services[other]).toHaveProperty('healthcheck')
  })

  test('three replicas with settings that the gateway takes, at a Redis that is there, with the time to drain', () => {
    expect(gatewaysOf(it)).toHaveLength(3)
    for (const [, { environment, stop_grace_period }] of gatewaysOf(it)) {
      expect(Object.keys(environment).filter((name) => !(name in SETTINGS))).toEqual([])
      const set = Object.entries<string>(environment).map(([name, value]) => [
        name,
        value.replace(/\$\{\w+:-(.*)\}/, '$1'),
      ])
      const config = readConfig(Object.fromEntries(set) as Record<string, string>)
      const hosts = /\/\/([^/]+)/.exec(config.redis.url)![1]!.split(',')
      for (const host of hosts) expect(it.services).toHaveProperty([host.split(':')[0]!])
      expect(parseInt(stop_grace_period)).toBeGreaterThan(Number(SETTINGS.DRAIN_MS.default) / 1000)
    }
  })
})

test('compose builds the image once and runs it everywhere', () => {
  const ours = Object.values<Loose>(base.services).filter(({ image }) => image.startsWith('throughline'))
  expect(new Set(ours.map(({ image }) => image)).size).toBe(1)
  expect(ours.filter(({ build }) => build)).toHaveLength(1)
})

test('only loopback is published', () => {
  for (const [, it] of VARIANTS)
    for (const { ports = [] } of Object.values<Loose>(it.services))
      for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/)
})

test('Prometheus scrapes the three replicas and what the exporter has, and mounts the rules that it names', () => {
  const { rule_files, scrape_configs } = compose('prometheus/prometheus.yaml')
  const targets = scrape_configs.flatMap((it: Loose) => it.static_configs.flatMap((some: Loose) => some.targets))
  const port = SETTINGS.OPS_PORT.default
  expect(targets).toEqual([...gatewaysOf(base).map(([name]) => `${name}:${port}`), 'redis-exporter:9121'])
  expect(base.services).toHaveProperty(['redis-exporter'])
  const mounted = base.services.prometheus.volumes.map((it: string) => it.split(':')[1])
  for (const file of rule_files) expect(mounted).toContain(`/etc/prometheus/${file}`)
  expect(base.services.prometheus.command[0]).toBe(`--config.file=${mounted[0]}`)
})

test('Grafana finds Prometheus and the dashboard', () => {
  const [source] = compose('grafana/provisioning/datasources/prometheus.yaml').datasources
  expect(source).toMatchObject({ type: 'prometheus', isDefault: true })
  expect(base.services).toHaveProperty([new URL(source.url).hostname])
  const [provider] = compose('grafana/provisioning/dashboards/throughline.yaml').providers
  const { volumes, environment } = base.services.grafana
  const mounted = volumes.map((it: string) => it.split(':')[1]) as string[]
  const home = environment.GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH as string
  expect(mounted).toContain(home)
  expect(dirname(home)).toBe(provider.options.path)
})

describe('redis/', () => {
  const folder = mkdtempSync(join(tmpdir(), 'throughline-redis-conf-'))
  afterAll(() => rmSync(folder, { recursive: true }))

  test('each file is tried here', () => {
    expect(readdirSync(join(infra, 'redis')).sort()).toEqual([
      'cluster.conf',
      'redis.conf',
      'replicated.conf',
      'sentinel.conf',
    ])
  })

  test.each(['redis.conf', 'replicated.conf', 'cluster.conf'])(
    '%s: a Redis starts with it, keeps and does not evict',
    async (name) => {
      await using redis = await start(name)
      const config = (await redis.client.config('GET', '*')) as string[]
      const value = (of: string) => config[config.indexOf(of) + 1]
      expect(value('appendonly')).toBe('yes')
      expect(value('appendfsync')).toBe('everysec')
      expect(value('maxmemory-policy')).toBe('noeviction')
      expect(value('cluster-enabled')).toBe(name === 'cluster.conf' ? 'yes' : 'no')
      expect(value('min-replicas-to-write')).toBe(name === 'replicated.conf' ? '1' : '0')
      if (name === 'replicated.conf') await expect(redis.client.set('a', 'b')).rejects.toThrow(/^NOREPLICAS/)
    },
  )

  test('sentinel.conf: a Sentinel starts with it and tells a gateway where the master is; a turn goes its way', async () => {
    await using redis = await start('redis.conf')
    await using sentinel = await start('sentinel.conf', redis.port)
    const [environment] = gatewaysOf(VARIANTS[1]![1]).map(([, service]) => service.environment)
    const master = environment.REDIS_URL.split('/').at(-1) as string
    expect(await sentinel.client.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', master)).toEqual([
      '127.0.0.1',
      String(redis.port),
    ])
    const set = (await sentinel.client.call('SENTINEL', 'MASTER', master)) as string[]
    expect(set[set.indexOf('quorum') + 1]).toBe('2')

    const REDIS_URL = `redis+sentinel://127.0.0.1:${sentinel.port}/${master}`
    const config = readConfig({ REDIS_URL, PORT: '0', OPS_PORT: '0', POOLS: 'coder', DRAIN_MS: '1000' })
    const gateway = await startGateway(config, pino({ level: 'silent' }), 'test')
    try {
      const url = `http://127.0.0.1:${gateway.port}`
      const agent = await startRawAgent({ url, pool: 'coder' })
      const { interaction } = await post(url, { pool: 'coder' }, 'go')
      const { request } = await agent.turn()
      agent.send(request, 1, text('by a Sentinel'), completed)
      await eventually(async () => {
        const { body } = await api<{ status: string; text: string }>(url, `/interactions/${interaction}`)
        return body.status === 'completed' && body.text === 'by a Sentinel'
      })
      agent.close()
    } finally {
      await gateway.close()
    }
  })

  /** A server with this configuration, its folder, port and names put on this machine. */
  async function start(name: string, master = 0) {
    const [port, bus] = await freePorts(2)
    const dir = mkdtempSync(join(folder, 'server-'))
    const here = (conf: string) =>
      conf
        .replace(/^dir \/data$/m, `dir ${dir}`)
        .replace('/etc/redis/redis.conf', join(dir, 'redis.conf'))
        .replace('throughline redis 6379', `throughline 127.0.0.1 ${master}`)
        .replace(/^port \d+$/m, '')
    for (const file of new Set(['redis.conf', name])) writeFileSync(join(dir, file), here(read(`redis/${file}`)))
    const found = await findRedis({ ...userFolders(), allow: ['path', 'private-copy'], log: console.log })
    const args = [join(dir, name), '--port', String(port), '--bind', '127.0.0.1']
    if (name === 'sentinel.conf') args.push('--sentinel')
    if (name === 'cluster.conf') args.push('--cluster-port', String(bus))
    const env = { ...process.env, ...found.env }
    const server = spawn(found.file, args, { stdio: ['ignore', 'pipe', 'inherit'], env, argv0: found.name })
    const gone = once(server, 'exit')
    let said = ''
    server.stdout.on('data', (line) => (said += String(line)))
    const client = new Redis(port!, '127.0.0.1', { maxRetriesPerRequest: null })
    client.on('error', () => {}) // until it listens
    await eventually(() => {
      if (server.exitCode !== null) throw new Error(said)
      return client.status === 'ready'
    })
    return {
      port: port!,
      client,
      async [Symbol.asyncDispose]() {
        client.disconnect()
        server.kill('SIGTERM')
        await gone
      },
    }
  }
})
