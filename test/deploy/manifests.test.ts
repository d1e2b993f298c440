import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseEnv } from 'node:util'
import { parse } from 'yaml'
import { readConfig, SETTINGS } from '../../src/config.js'
import { mistakesIn, readDocuments, type Manifest } from './manifests.js'

const root = fileURLToPath(new URL('../../', import.meta.url))
const base = `${root}k8s/base`
const documents = readdirSync(base)
  .filter((name) => name.endsWith('.yaml') && name !== 'kustomization.yaml')
  .flatMap((name) => readDocuments(readFileSync(`${base}/${name}`, 'utf8')))
const env = parseEnv(readFileSync(`${base}/config.env`, 'utf8')) as Record<string, string>
const pod = of('Deployment').spec.template.spec
const container = pod.containers[0]

/** What parsing gives, as loose as a mistake needs it. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type Loose = any

function of(kind: string): Loose {
  return documents.find((it) => it.kind === kind)
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

test('compose gives a replica the time to drain, too', () => {
  const compose = parse(readFileSync(`${root}infra/compose.yaml`, 'utf8'), { merge: true }) as Loose
  const gateways = Object.entries<Loose>(compose.services).filter(([name]) => name.startsWith('gateway-'))
  expect(gateways).toHaveLength(3)
  for (const [, service] of gateways) {
    expect(parseInt(service.stop_grace_period)).toBeGreaterThan(Number(SETTINGS.DRAIN_MS.default) / 1000)
    expect(Object.keys(service.environment).filter((name) => !(name in SETTINGS))).toEqual([])
  }
})

test('compose builds the image once and runs it everywhere', () => {
  const compose = parse(readFileSync(`${root}infra/compose.yaml`, 'utf8'), { merge: true }) as Loose
  const ours = Object.values<Loose>(compose.services).filter(({ image }) => image.startsWith('throughline'))
  expect(new Set(ours.map(({ image }) => image)).size).toBe(1)
  expect(ours.filter(({ build }) => build)).toHaveLength(1)
})

const hasKubectl = !spawnSync('kubectl', ['version', '--client']).error

;(hasKubectl ? test : test.skip)(`the base renders and is sound${hasKubectl ? '' : ' (skipped: no kubectl)'}`, () => {
  const { stdout, stderr } = spawnSync('kubectl', ['kustomize', base], { encoding: 'utf8' })
  expect(stderr).toBe('')
  const rendered = readDocuments(stdout)
  expect(mistakesIn(rendered)).toEqual([])
  const config = rendered.find(({ kind }) => kind === 'ConfigMap') as Loose
  const deployment = rendered.find(({ kind }) => kind === 'Deployment') as Loose
  expect(config.data).toEqual(env)
  expect(deployment.spec.template.spec.containers[0].envFrom[0].configMapRef.name).toBe(config.metadata.name)
})
