import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'

interface Rule {
  alert?: string
  record?: string
  expr: string
}
export interface Groups {
  groups: { name: string; rules: Rule[] }[]
}
interface Panel {
  title: string
  type: string
  targets?: { expr: string }[]
}

const root = fileURLToPath(new URL('../../', import.meta.url))
/** A file of the project. */
export const read = (path: string) => readFileSync(join(root, path), 'utf8')
export const parsed = <T>(path: string) => parse(read(path)) as T
export const alerts = parsed<Groups>('infra/prometheus/alerts.yaml')
const connections = parsed<{ spec: Groups }>('k8s/components/hpa-connections/connections.yaml').spec
export const dashboard = JSON.parse(read('k8s/components/monitoring/throughline.json')) as {
  uid: string
  panels: Panel[]
}
const scaler = parsed<{ spec: { triggers: { metadata: { query?: string } }[] } }>(
  'k8s/components/keda/scaled-object.yaml',
).spec
const panels = dashboard.panels.filter(({ type }) => type !== 'row')

export const rules = [alerts, connections].flatMap(({ groups }) => groups.flatMap((group) => group.rules))
/** Everything that is asked of Prometheus: by alerts, records, panels and KEDA; each with who asks. */
export const expressions: [string, string][] = [
  ...rules.map(({ alert, record, expr }): [string, string] => [(alert ?? record)!, expr]),
  ...panels.flatMap(({ title, targets }) => targets!.map(({ expr }): [string, string] => [`panel ${title}`, expr])),
  ...scaler.triggers.flatMap(({ metadata }): [string, string][] => (metadata.query ? [['KEDA', metadata.query]] : [])),
]
