import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { freePorts } from '../../src/local/free-port.js'
import { post } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { expressions, read } from './expressions.js'

/** Prometheus's own programs, where they are: Debian has both in `prometheus`. */
const has = (program: string) => !spawnSync(program, ['--version']).error
const hasPromtool = has('promtool')
const checking = hasPromtool ? test : test.skip
const skipped = hasPromtool ? '' : ' (skipped: no promtool)'
const prometheus = fileURLToPath(new URL('../../infra/prometheus', import.meta.url))
const promtool = (cwd: string, ...args: string[]) => spawnSync('promtool', args, { cwd, encoding: 'utf8' })

let folder: string
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'throughline-prometheus-'))))
afterEach(() => rmSync(folder, { recursive: true }))

checking(`the configuration and the rules are sound${skipped}`, () => {
  expect(promtool(prometheus, 'check', 'config', 'prometheus.yaml')).toMatchObject({ status: 0 })
})

checking(`each alert fires when it should${skipped}`, () => {
  expect(promtool(prometheus, 'test', 'rules', 'alerts.test.yaml')).toMatchObject({ status: 0 })
})

checking(`an alert that does not fire is found; so is an expression that does not parse${skipped}`, () => {
  cpSync(prometheus, folder, { recursive: true })
  const file = join(folder, 'alerts.yaml')
  const alerts = read('infra/prometheus/alerts.yaml')
  writeFileSync(file, alerts.replace('sweep_age_seconds{job="throughline-ops"}) > 60', '$&0'))
  expect(promtool(folder, 'test', 'rules', 'alerts.test.yaml').status).not.toBe(0)
  writeFileSync(file, alerts.replace('redis_up == 0', 'redis_up = 0'))
  expect(promtool(folder, 'check', 'config', 'prometheus.yaml').status).not.toBe(0)
})

checking(`panels, records and KEDA’s query parse${skipped}`, () => {
  const asRules = expressions.map(([, expr], i) => ({
    record: `panel_${i}`,
    expr: expr.replaceAll('$__rate_interval', '5m'),
  }))
  writeFileSync(join(folder, 'panels.yaml'), JSON.stringify({ groups: [{ name: 'panels', rules: asRules }] }))
  expect(promtool(folder, 'check', 'rules', 'panels.yaml')).toMatchObject({ status: 0 })
})

checking(`our metrics are named as Prometheus wishes${skipped}`, async () => {
  await using net = await startNetwork()
  const input = await (await fetch(`${net.replicas[0]!.opsUrl}/metrics`)).text()
  const { status, stderr } = spawnSync('promtool', ['check', 'metrics'], { input, encoding: 'utf8' })
  expect([0, 3]).toContain(status) // 3: it finds fault, as with some names of prom-client’s own
  expect(stderr.split('\n').filter((line) => line.startsWith('throughline'))).toEqual([])
})

const hasPrometheus = has('prometheus')
;(hasPrometheus ? test : test.skip)(
  `a real Prometheus scrapes a real replica; a session without an agent starts its alert${hasPrometheus ? '' : ' (skipped: no prometheus)'}`,
  async () => {
    await using net = await startNetwork()
    await post(net.url(0), { pool: 'coder' }, 'go')

    cpSync(prometheus, folder, { recursive: true })
    const config = read('infra/prometheus/prometheus.yaml')
      .replaceAll(/: 1[05]s/g, ': 1s')
      .replace(/gateway-1:.*\]/, `'${new URL(net.replicas[0]!.opsUrl).host}']`)
    writeFileSync(join(folder, 'prometheus.yaml'), config)
    const [port] = await freePorts(1)
    const args = [
      `--config.file=${join(folder, 'prometheus.yaml')}`,
      `--storage.tsdb.path=${join(folder, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
    ]
    const server = spawn('prometheus', args, { stdio: 'ignore' })
    const gone = once(server, 'exit')
    try {
      const ask = async (query: string) => {
        const url = `http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(query)}`
        const { data } = (await (await fetch(url)).json()) as { data: { result: { metric: object }[] } }
        return data.result.map(({ metric }) => metric)
      }
      await eventually(async () => (await ask('up{job="throughline-ops"} == 1')).length === 1, { limitMs: 30_000 })
      await eventually(async () => (await ask('ALERTS{alertname="ThroughlinePoolWithoutAgents"}')).length === 1, {
        limitMs: 30_000,
      })
      expect(await ask('ALERTS{alertname="ThroughlinePoolWithoutAgents"}')).toEqual([
        expect.objectContaining({ pool: 'coder', severity: 'critical', alertstate: 'pending' }),
      ])
      expect(await ask('ALERTS{alertname=~"Throughline(NoReplicaReady|SweepLate|ReplicaNotReady)"}')).toEqual([])
    } finally {
      server.kill('SIGTERM')
      await gone
    }
  },
)
