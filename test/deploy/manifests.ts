import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { parseAllDocuments } from 'yaml'

export interface Manifest {
  apiVersion: string
  kind: string
}

export const readDocuments = (text: string): Manifest[] =>
  parseAllDocuments(text).map((it) => {
    if (it.errors[0]) throw it.errors[0]
    return it.toJS() as Manifest
  })

/** Kinds that are not Kubernetes' own: the packages that know them. */
const PACKAGES: Record<string, string> = {
  'gateway.networking.k8s.io': '@kubernetes-models/gateway-api',
  'keda.sh': '@kubernetes-models/keda',
  'monitoring.coreos.com': '@kubernetes-models/prometheus-operator',
}

function moduleOf(apiVersion: string): string {
  const [group, version] = apiVersion.includes('/') ? apiVersion.split('/') : ['', apiVersion]
  return [PACKAGES[group!] ?? 'kubernetes-models', group, version].filter(Boolean).join('/')
}

/** Files of packages and of the language, read once for all checks of a run. */
const sources = new Map<string, ts.SourceFile | undefined>()

/** What the compiler says when each document is a literal of its kind's type. One document may show only its first mistake. */
export function mistakesIn(documents: Manifest[]): string[] {
  const file = fileURLToPath(new URL('./virtual-manifest.ts', import.meta.url)) // here, so that packages are found
  const source = documents
    .map(
      (it, i) => `import type { I${it.kind} as T${i} } from '${moduleOf(it.apiVersion)}'
export const d${i}: T${i} = ${JSON.stringify(it)}`,
    )
    .join('\n')
  const options: ts.CompilerOptions = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: [],
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
  }
  const host = ts.createCompilerHost(options)
  const { fileExists, getSourceFile } = host
  host.fileExists = (name) => name === file || fileExists(name)
  host.getSourceFile = (name, version) => {
    if (name === file) return ts.createSourceFile(name, source, version)
    if (!sources.has(name)) sources.set(name, getSourceFile(name, version))
    return sources.get(name)
  }
  return ts
    .getPreEmitDiagnostics(ts.createProgram([file], options, host))
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'))
}
