import { createMetrics } from '../../src/observe/metrics.js'
import { alerts, dashboard, expressions, parsed, read, rules, type Groups } from './expressions.js'

/** Of redis_exporter, seen in the output of its version 1.45 (Debian 12). */
const FOREIGN = [
  'redis_up',
  'redis_memory_used_bytes',
  'redis_memory_max_bytes',
  'redis_evicted_keys_total',
  'redis_aof_enabled',
  'redis_aof_last_write_status',
  'redis_commands_processed_total',
]
/** Labels that Prometheus adds to every series. */
const TARGET = ['job', 'instance']

/** The series that a replica has, and the labels of each. */
const series = new Map<string, string[]>(FOREIGN.map((name) => [name, []]))
beforeAll(async () => {
  const { registry, watch } = createMetrics()
  const nothing = () => 0
  const nobody = () => Promise.resolve(new Map<string, number>())
  watch({
    agents: nothing,
    leases: nothing,
    viewers: nothing,
    channels: nothing,
    busProbeAge: nothing,
    sweepAge: nothing,
    ready: () => true,
    waiting: nobody,
    agentsOfPools: nobody,
    running: nothing,
    openTurns: () => Promise.resolve(0),
    jobs: () => Promise.resolve([]),
    connections: () => [],
  })
  for (const { name, type } of await registry.getMetricsAsJSON()) {
    const { labelNames } = registry.getSingleMetric(name) as unknown as { labelNames: string[] }
    if (String(type) === 'histogram') {
      for (const suffix of ['sum', 'count']) series.set(`${name}_${suffix}`, labelNames)
      series.set(`${name}_bucket`, [...labelNames, 'le'])
    } else series.set(name, labelNames)
  }
})

/** Names and labels of an expression that no replica and no exporter has. */
function unknownIn(expr: string): string[] {
  const used = [...expr.matchAll(/\b((?:throughline|nodejs|process|redis)_\w+)(?:\{([^}]*)\})?/g)]
  const names = used.map(([, name]) => name!)
  const unknown = names.filter((name) => !series.has(name))
  for (const [, name, matchers] of used)
    for (const [, label] of (matchers ?? '').matchAll(/(\w+)\s*(?:=~|!~|!=|=)\s*"/g))
      if (![...TARGET, ...(series.get(name!) ?? [])].includes(label!)) unknown.push(`${name}{${label}}`)
  const known = [...TARGET, ...names.flatMap((name) => series.get(name) ?? [])]
  for (const [, labels] of expr.matchAll(/\b(?:by|on) \(([^)]*)\)/g))
    unknown.push(...labels!.split(/,\s*/).filter((label) => !known.includes(label)))
  if (names.length === 0 && !/\bup\{/.test(expr)) unknown.push('nothing is measured')
  return unknown
}

test.each(expressions)('%s asks for what is measured', (_name, expr) => {
  expect(unknownIn(expr)).toEqual([])
})

test.each([
  ['a metric that is not there', 'sum(throughline_turns_total)'],
  ['a histogram without its suffix', 'rate(throughline_append_seconds[5m])'],
  ['a label that the metric has not', 'throughline_pool_waiting{pools="coder"}'],
  ['a grouping by a label that is not there', 'sum by (session) (throughline_streams_open)'],
  ['a misspelt name of redis_exporter', 'redis_memory_max'],
  ['no metric at all', 'vector(1) > 0'],
])('that check finds %s', (_what, expr) => {
  expect(unknownIn(expr)).not.toEqual([])
})

test('the alerts of Kubernetes and of compose are the same, and select the job that scrapes', () => {
  expect(parsed<{ spec: Groups }>('k8s/components/monitoring/alerts.yaml').spec).toEqual(alerts)
  const jobs = new Set(expressions.flatMap(([, expr]) => [...expr.matchAll(/job="([^"]*)"/g)].map(([, job]) => job)))
  expect([...jobs]).toEqual(['throughline-ops'])
  const config = parsed<{ scrape_configs: { job_name: string }[] }>('infra/prometheus/prometheus.yaml')
  expect(config.scrape_configs.map(({ job_name }) => job_name)).toContain('throughline-ops')
  expect(read('k8s/base/service.yaml')).toMatch(/^ {2}name: throughline-ops\b/m) // a ServiceMonitor's job
})

test('every alert has its cure in docs/operations.md, and a test of its own', () => {
  const names = rules.flatMap(({ alert }) => alert ?? [])
  const cures = [...read('docs/operations.md').matchAll(/^### (Throughline\w+)$/gm)].map(([, name]) => name)
  expect(cures).toEqual(names)
  const { tests } = parsed<{ tests: { alert_rule_test: { alertname: string; exp_alerts: unknown[] }[] }[] }>(
    'infra/prometheus/alerts.test.yaml',
  )
  const fired = tests.flatMap((it) => it.alert_rule_test).filter(({ exp_alerts }) => exp_alerts.length > 0)
  expect(new Set(fired.map(({ alertname }) => alertname))).toEqual(new Set(names))
})

test('the dashboard answers its three questions', () => {
  const rows = dashboard.panels.filter(({ type }) => type === 'row').map(({ title }) => title)
  expect(rows).toEqual(['Is it healthy?', 'Who is stuck?', 'Why is it slow?'])
})
