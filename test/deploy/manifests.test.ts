import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseEnv } from 'node:util'
import { readConfig, SETTINGS } from '../../src/config.js'
import { mistakesIn, readDocuments, type Manifest } from './manifests.js'

const root = fileURLToPath(new URL('../../', import.meta.url))
const base = `${root}k8s/base`
const documents = readFolder(base)
const rooms = ['components', 'overlays'].flatMap((room) =>
  readdirSync(`${root}k8s/${room}`).map((it) => `${room}/${it}`),
)
const others = rooms.flatMap((room) => readFolder(`${root}k8s/${room}`))
const env = parseEnv(readFileSync(`${base}/config.env`, 'utf8')) as Record<string, string>
const pod = of('Deployment').spec.template.spec
const container = pod.containers[0]

/** What parsing gives, as loose as a mistake needs it. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type Loose = any

function of(kind: string): Loose {
  return [...documents, ...others].find((it) => it.kind === kind)
}

/** Whole documents; patches and kustomizations show in what they make: overlays.test.ts. */
function readFolder(folder: string): Manifest[] {
  return readdirSync(folder)
    .filter((name) => /(?<!kustomization|\.patch)\.yaml$/.test(name))
    .flatMap((name) => readDocuments(readFileSync(`${folder}/${name}`, 'utf8')))
}

test('every manifest has the fields and types that Kubernetes knows', () => {
  expect(documents.map(({ kind }) => kind).sort()).toEqual([
    'Deployment',
    'HorizontalPodAutoscaler',
    'NetworkPolicy',
    'PodDisruptionBudget',
    'Service',
    'Service',
  ])
  expect(mistakesIn(documents)).toEqual([])
})

test('so has what components and overlays add, of Kubernetes, Gateway API, KEDA and the Prometheus operator', () => {
  expect(new Set(others.map(({ kind }) => kind))).toEqual(
    new Set([
      'HTTPRoute',
      'Ingress',
      'Namespace',
      'PrometheusRule',
      'ScaledObject',
      'Service',
      'ServiceMonitor',
      'StatefulSet',
    ]),
  )
  expect(mistakesIn(others)).toEqual([])
})

const planted: [string, string, (it: Loose) => void][] = [
  ['a misspelt field', 'Deployment', (it) => (it.spec.template.spec.terminationGracePeriodSecond = 120)],
  ['text for a number', 'Deployment', (it) => (it.spec.minReadySeconds = 'ten')],
  ['a missing field', 'Deployment', (it) => delete it.spec.selector],
  [
    'a bad word deep inside',
    'Deployment',
    (it) => (it.spec.template.spec.securityContext.seccompProfile.type = 'Default'),
  ],
  ['a wrong API version', 'HorizontalPodAutoscaler', (it) => (it.apiVersion = 'autoscaling/v9')],
  ['a target without a name', 'HorizontalPodAutoscaler', (it) => delete it.spec.scaleTargetRef.name],
  ['a port without a number', 'Service', (it) => delete it.spec.ports[0].port],
  ['a rule of another kind', 'NetworkPolicy', (it) => (it.spec.ingress[0].to = [])],
  ['a misspelt policy', 'PodDisruptionBudget', (it) => (it.spec.unhealthyPodEvictionPolicies = 'AlwaysAllow')],
  ['a misspelt time-out', 'HTTPRoute', (it) => (it.spec.rules[0].timeouts = { requests: '0s' })],
  ['text for a port', 'HTTPRoute', (it) => (it.spec.rules[0].backendRefs[0].port = 'http')],
  ['a bad way to match', 'HTTPRoute', (it) => (it.spec.rules[0].matches[0].path.type = 'Prefix')],
  ['a missing path type', 'Ingress', (it) => delete it.spec.rules[0].http.paths[0].pathType],
  ['a number for a duration', 'ServiceMonitor', (it) => (it.spec.endpoints[0].interval = 15)],
  ['a missing selector', 'ServiceMonitor', (it) => delete it.spec.selector],
  ['a rule without an expression', 'PrometheusRule', (it) => delete it.spec.groups[0].rules[0].expr],
  ['a number for text', 'ScaledObject', (it) => (it.spec.triggers[0].metadata.value = 70)],
  ['a target without a name', 'ScaledObject', (it) => delete it.spec.scaleTargetRef.name],
  ['a trigger without a type', 'ScaledObject', (it) => delete it.spec.triggers[1].type],
  ['a wrong API version', 'ScaledObject', (it) => (it.apiVersion = 'keda.sh/v1')],
  ['a volume without a claim', 'StatefulSet', (it) => (it.spec.volumeClaimTemplates[0].spec.resource = {})],
]

test.each(planted)('the check finds %s in a %s', (_what, kind, spoil) => {
  const spoilt = structuredClone(of(kind)) as Manifest
  spoil(spoilt)
  expect(mistakesIn([spoilt])).not.toEqual([])
})

test('a pod has the time to drain', () => {
  const preStop = container.lifecycle.preStop.sleep.seconds as number
  const drain = Number(env['DRAIN_MS']) / 1000
  expect(pod.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(preStop + drain + 10)
})

test('the settings are known to the gateway and make a usable configuration', () => {
  expect(Object.keys(env).filter((name) => !(name in SETTINGS))).toEqual([])
  const config = readConfig({
    ...env,
    CLIENT_KEYS: 'web=secret-key',
    AGENT_KEYS: '*=secret-key',
    REPLICA_ID: 'ns.pod-1',
  })
  expect(config.http.host).toBe('0.0.0.0')
  const ports = container.ports.map((it: Loose) => [it.name, it.containerPort])
  expect(ports).toEqual([
    ['http', config.http.port],
    ['ops', config.http.opsPort],
  ])
})

test('selectors, targets and the heap fit the pods', () => {
  const labels = of('Deployment').spec.template.metadata.labels
  for (const { spec } of documents as Loose[]) {
    const selector = spec.selector?.matchLabels ?? spec.podSelector?.matchLabels ?? spec.selector
    if (selector) expect(labels).toMatchObject(selector)
  }
  expect(of('HorizontalPodAutoscaler').spec.scaleTargetRef.name).toBe(of('Deployment').metadata.name)
  expect(of('Deployment').spec).not.toHaveProperty('replicas')

  const heap = Number(
    /--max-old-space-size=(\d+)/.exec(container.env.find((it: Loose) => it.name === 'NODE_OPTIONS').value)![1],
  )
  expect(heap).toBeLessThanOrEqual(parseInt(container.resources.limits.memory) * 0.75)
})

test('a pod rolls without a gap and has no more rights than it needs', () => {
  expect(of('Deployment').spec).toMatchObject({
    minReadySeconds: 10,
    strategy: { rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
  })
  expect(pod.automountServiceAccountToken).toBe(false)
  expect(pod.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } })
  expect(container.securityContext).toEqual({
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
  })
  expect(container.resources.limits).not.toHaveProperty('cpu')
})

test('only readiness asks for Redis; every probe asks the ops port', () => {
  const probes = ['startupProbe', 'livenessProbe', 'readinessProbe'].map((name) => container[name].httpGet)
  expect(probes).toEqual([
    { path: '/livez', port: 'ops' },
    { path: '/livez', port: 'ops' },
    { path: '/readyz', port: 'ops' },
  ])
})
