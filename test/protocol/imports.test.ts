import { readdirSync, readFileSync } from 'node:fs'
import { dirname, normalize } from 'node:path'
import ts from 'typescript'

const ROOM = 'src/protocol'
const files = readdirSync(ROOM, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'))

test.each(files)('%s imports zod and its own room only', (name) => {
  const source = readFileSync(`${ROOM}/${name}`, 'utf8')
  for (const { fileName } of ts.preProcessFile(source).importedFiles) {
    if (fileName === 'zod') continue
    expect(fileName).toMatch(/^\.\.?\//)
    expect(normalize(`${ROOM}/${dirname(name)}/${fileName}`)).toMatch(/^src\/protocol\/[^.]/)
  }
})

test.each(files)('%s takes time, chance and the environment as arguments', (name) => {
  const source = ts.createSourceFile(name, readFileSync(`${ROOM}/${name}`, 'utf8'), ts.ScriptTarget.Latest)
  const impure = new Set([
    'Date',
    'process',
    'crypto',
    'performance',
    'setTimeout',
    'setInterval',
    'fetch',
    'console',
    'globalThis',
  ])
  const found: string[] = []
  function walk(node: ts.Node): void {
    if (ts.isIdentifier(node) && impure.has(node.text)) found.push(node.text)
    if (ts.isPropertyAccessExpression(node) && node.getText(source) === 'Math.random') found.push('Math.random')
    ts.forEachChild(node, walk)
  }
  walk(source)
  expect(found).toEqual([])
})
