import { existsSync, readFileSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import ts from 'typescript'

const known = new Map()

const fileOf = (from, specifier) => resolve(dirname(from), specifier.replace(/\.js$/, '.ts'))

/** The files of ours that `file` imports, for types or values. An editor's linter lives long, so a changed file is read again. */
function importsOf(file) {
  const { mtimeMs } = statSync(file)
  let entry = known.get(file)
  if (entry?.mtimeMs !== mtimeMs) {
    const imports = ts
      .preProcessFile(readFileSync(file, 'utf8'))
      .importedFiles.map(({ fileName }) => fileName)
      .filter((name) => name.startsWith('.'))
      .map((name) => fileOf(file, name))
      .filter((name) => existsSync(name))
    known.set(file, (entry = { mtimeMs, imports }))
  }
  return entry.imports
}

function reaches(from, goal, seen = new Set()) {
  if (from === goal) return true
  if (seen.has(from) || !existsSync(from)) return false
  seen.add(from)
  return importsOf(from).some((next) => reaches(next, goal, seen))
}

const isType = (node) =>
  (node.importKind ?? node.exportKind) === 'type' ||
  (node.specifiers?.length > 0 && node.specifiers.every((it) => (it.importKind ?? it.exportKind) === 'type'))

/** import-x/no-cycle leaves out what is imported for its types only; here such an import may not close a cycle either. */
export const noTypeCycle = {
  meta: {
    type: 'suggestion',
    schema: [],
    messages: {
      cycle: 'This type import closes a cycle: {{source}} leads back here. Give the type a file of its own.',
    },
  },
  create(context) {
    const file = context.physicalFilename
    const check = (node) => {
      const source = node.source?.value
      if (!source?.startsWith('.') || !isType(node)) return
      if (reaches(fileOf(file, source), file)) context.report({ node, messageId: 'cycle', data: { source } })
    }
    return { ImportDeclaration: check, ExportNamedDeclaration: check, ExportAllDeclaration: check }
  },
}
