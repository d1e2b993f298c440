import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseEnv } from 'node:util'
import { parse } from 'yaml'
import { mistakesIn, readDocuments } from './manifests.js'

/** What parsing gives. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type Loose = any

const k8s = fileURLToPath(new URL('../../k8s', import.meta.url))
const read = (path: string) => readFileSync(`${k8s}/${path}`, 'utf8')
const hasKubectl = spawnSync('kubectl', ['kustomize', '--help']).status === 0
const rendering = hasKubectl ? test : test.skip
const skipped = hasKubectl ? '' : ' (skipped: no kubectl)'

function render(folder: string): Loose[] {
  const { stdout, stderr } = spawnSync('kubectl', ['kustomize', folder], { encoding: 'utf8' })
  expect(stderr).toBe('')
  const rendered = readDocuments(stdout)
  expect(mistakesIn(rendered)).toEqual([])
  return rendered
}

/** The base with these components, as an operator would write it. */
function renderWith(...components: string[]): Loose[] {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'throughline-kustomize-')))
  try {
    const resources = [relative(folder, `${k8s}/base`)]
    const chosen = components.map((it) => relative(folder, `${k8s}/components/${it}`))
    writeFileSync(join(folder, 'kustomization.yaml'), JSON.stringify({ resources, components: chosen }))
    return render(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const of = (rendered: Loose[], kind: string, name = 'throughline') =>
  rendered.find((it) => it.kind === kind && it.metadata.name.startsWith(name)) as Loose
const containerOf = (rendered: Loose[]) => of(rendered, 'Deployment').spec.template.spec.containers[0]

rendering(`the base renders alone, and a changed setting rolls the pods${skipped}`, () => {
  const rendered = render(`${k8s}/base`)
  const config = of(rendered, 'ConfigMap')
  expect(config.data).toEqual(parseEnv(read('base/config.env')))
  expect(config.metadata.name).toMatch(/^throughline-\w+$/)
  expect(containerOf(rendered).envFrom).toEqual([
    { configMapRef: { name: config.metadata.name } },
    { secretRef: { name: 'throughline' } },
  ])
})

rendering.each([
  ['gateway-api', ['HTTPRoute']],
  ['ingress', ['Ingress']],
  ['monitoring', ['ConfigMap', 'PrometheusRule', 'ServiceMonitor']],
  ['hpa-connections', ['PrometheusRule']],
])(`the component %s renders on the base and adds %j${skipped}`, (component, adds) => {
  const plain = render(`${k8s}/base`).map(({ kind }) => kind as string)
  const kinds = renderWith(component).map(({ kind }) => kind as string)
  expect(kinds.sort()).toEqual([...plain, ...adds].sort())
})

rendering(`routes, monitors and autoscalers name what is there${skipped}`, () => {
  const rendered = renderWith('gateway-api', 'ingress', 'monitoring', 'hpa-connections')
  const ports = of(rendered, 'Service').spec.ports as Loose[]
  expect(of(rendered, 'HTTPRoute').spec.rules[0].backendRefs).toEqual([{ name: 'throughline', port: ports[0].port }])
  expect(of(rendered, 'HTTPRoute').spec.rules[0].timeouts.request).toBe('0s')
  const { service } = of(rendered, 'Ingress').spec.rules[0].http.paths[0].backend
  expect(service).toEqual({ name: 'throughline', port: { name: ports[0].name } })

  const ops = of(rendered, 'Service', 'throughline-ops')
  const monitor = of(rendered, 'ServiceMonitor').spec
  expect(ops.metadata.labels).toMatchObject(monitor.selector.matchLabels)
  expect(of(rendered, 'Service').metadata.labels).not.toMatchObject(monitor.selector.matchLabels)
  expect(monitor.endpoints[0].port).toBe(ops.spec.ports[0].name)

  const { metrics, behavior } = of(rendered, 'HorizontalPodAutoscaler').spec
  const recorded = of(rendered, 'PrometheusRule', 'throughline-connections').spec.groups[0].rules[0].record
  expect(metrics.map((it: Loose) => it.resource?.name ?? it.pods.metric.name)).toEqual(['cpu', recorded])
  expect(behavior.scaleDown.stabilizationWindowSeconds).toBe(600)
})

rendering(`with KEDA there is no second autoscaler, and it scales as the other one does${skipped}`, () => {
  const before = of(render(`${k8s}/base`), 'HorizontalPodAutoscaler').spec
  const rendered = renderWith('keda')
  expect(of(rendered, 'HorizontalPodAutoscaler')).toBeUndefined()
  expect(of(rendered, 'ScaledObject').spec).toMatchObject({
    scaleTargetRef: { name: of(rendered, 'Deployment').metadata.name },
    minReplicaCount: before.minReplicas,
    maxReplicaCount: before.maxReplicas,
    advanced: { horizontalPodAutoscalerConfig: { behavior: before.behavior } },
  })
})

rendering(`kind: a Redis that keeps what it has, two replicas, keys that their Secret brings${skipped}`, () => {
  const rendered = render(`${k8s}/overlays/kind`)
  const config = of(rendered, 'ConfigMap', 'throughline-redis').data['redis.conf'] as string
  expect(config).toMatch(/^appendonly yes$/m)
  expect(config).toMatch(/^maxmemory-policy noeviction$/m)
  expect(config).toMatch(/^protected-mode no$/m)
  expect(of(rendered, 'HorizontalPodAutoscaler')).toBeUndefined()
  expect(of(rendered, 'Deployment').spec.replicas).toBe(2)
  const secret = of(rendered, 'Secret')
  expect(containerOf(rendered).envFrom[1].secretRef.name).toBe(secret.metadata.name)
  const url = new URL(Buffer.from(secret.data.REDIS_URL as string, 'base64').toString())
  expect(url.hostname).toBe(of(rendered, 'Service', 'throughline-redis').metadata.name)
})

rendering(`production: an image by digest, three replicas at least, no key in any file${skipped}`, () => {
  const rendered = render(`${k8s}/overlays/production`)
  expect(containerOf(rendered).image).toMatch(/^[\w.]+\/throughline@sha256:[0-9a-f]{64}$/)
  expect(of(rendered, 'HorizontalPodAutoscaler').spec.minReplicas).toBe(3)
  expect(rendered.filter(({ kind }) => kind === 'Secret')).toEqual([])
  expect(new Set(rendered.filter(({ kind }) => kind !== 'Namespace').map((it) => it.metadata.namespace))).toEqual(
    new Set(['throughline']),
  )
})

test('no kustomization takes both autoscalers, and the placeholder of production says what it is', () => {
  for (const overlay of ['kind', 'production']) {
    const { components = [] } = parse(read(`overlays/${overlay}/kustomization.yaml`)) as { components?: string[] }
    expect(components.filter((it) => /keda|hpa-connections/.test(it)).length).toBeLessThanOrEqual(1)
  }
  expect(read('overlays/production/kustomization.yaml')).toMatch(/digest: sha256:0{64} # PLACEHOLDER/)
})
