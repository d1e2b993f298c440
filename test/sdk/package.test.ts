import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { jest } from '@jest/globals'
import { startNetwork } from '../support/network.js'
import { runProgram } from '../support/program.js'

/*
 * What a user gets: the package as it would be published, installed into a project of its own.
 */
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const TSC = join(ROOT, 'node_modules/typescript/bin/tsc')
const node = (args: string[], cwd: string) => runProgram(process.execPath, args, { cwd })

jest.setTimeout(240_000) // npm and tsc, on a machine that does other things too

let folder: string
let project: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'throughline-package-'))
  project = join(folder, 'project')
  await mkdir(project)
  // without scripts: `prepare` would build while other tests run what was built
  const packed = await runProgram('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], {
    cwd: ROOT,
  })
  const [{ filename }] = JSON.parse(packed) as [{ filename: string }]
  const { devDependencies } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as {
    devDependencies: Record<string, string>
  }
  await write('package.json', JSON.stringify({ name: 'project', private: true, type: 'module' }))
  const nodeTypes = `@types/node@${devDependencies['@types/node']}`
  const install = [
    'install',
    '--no-audit',
    '--no-fund',
    '--ignore-scripts',
    '--prefer-offline',
    `../${filename}`,
    nodeTypes,
  ]
  await runProgram('npm', install, { cwd: project })
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const write = (name: string, text: string) => writeFile(join(project, name), text)

const CONVERSATION = `
  const url = process.argv[2]
  const agent = serve({ url, pool: 'coder', key: process.env['NO_SUCH_KEY'] }, async (turn) => {
    await turn.text('You said: ' + turn.input)
  })
  const { interaction } = await send(url, { pool: 'coder', text: 'hi' })
  let turn = emptyTurn()
  for await (const update of follow(url, interaction)) {
    turn = update.type === 'snapshot' ? update.turn : fold(turn, update.event)
  }
  const chat = serveChat({ url, pool: 'coder' })
  const idle = await chat.GET(new Request('http://app/api/chat/some-chat/stream'))
  console.log(JSON.stringify([outputText(turn), turn.status, idle.status]))
  await agent.close()
`
const IMPORTS = `
  import { serve } from 'throughline/agent'
  import { emptyTurn, fold, follow, outputText, send } from 'throughline/client'
  import { serveChat } from 'throughline/ai'
`
const SAID = '["You said: hi","completed",204]\n'

test('plain JavaScript', async () => {
  await using net = await startNetwork()
  await write('plain.js', IMPORTS + CONVERSATION)
  expect(await node(['plain.js', net.url(0)], project)).toBe(SAID)
})

test('strict TypeScript for Node, which looks into our types and those they lead to', async () => {
  await using net = await startNetwork()
  await write(
    'typed.ts',
    `${IMPORTS}
    import { AgentRefused, TurnEnded, type Agent, type Handler, type ServeOptions, type StopReason, type ToolCall, type Turn, type Usage } from 'throughline/agent'
    import { GatewayError, type Base, type ClientOptions, type Interaction, type LogEvent, type Session, type Update } from 'throughline/client'
    import { lastingParts, type Chat, type ChatMessage, type ChatOptions } from 'throughline/ai'
    export type All = [Agent, Handler, ServeOptions, StopReason, ToolCall, Turn, Usage, Base, ClientOptions, Interaction, LogEvent, Session, Update, Chat, ChatMessage, ChatOptions]
    export const errors = [AgentRefused, TurnEnded, GatewayError, lastingParts]
    export const textOf = (event: LogEvent): string => (event.type === 'entry.append' ? event.text : '')
    // @ts-expect-error an event has no such type: the types are not any
    export const wrong = (event: LogEvent): boolean => event.type === 'no.such.type'
    ${CONVERSATION.replace('process.argv[2]', 'process.argv[2]!')}`,
  )
  await write(
    'tsconfig.json',
    JSON.stringify({
      compilerOptions: {
        target: 'ES2022',
        module: 'NodeNext',
        strict: true,
        exactOptionalPropertyTypes: true,
        noUncheckedIndexedAccess: true,
        noPropertyAccessFromIndexSignature: true,
        skipLibCheck: false,
        types: ['node'],
        outDir: 'out',
      },
      files: ['typed.ts'],
    }),
  )
  await node([TSC, '-p', '.'], project)
  expect(await node(['out/typed.js', net.url(0)], project)).toBe(SAID)
})

test('strict TypeScript for a browser, without the types of Node', async () => {
  await write(
    'web.ts',
    `import { follow, send, watch, type GatewayError } from 'throughline/client'
    const { interaction } = await send('', { pool: 'coder', text: 'hi' }, { signal: AbortSignal.timeout(1000) })
    for await (const update of follow('', interaction, { token: 'x' })) console.log(update.cursor)
    for await (const turn of watch('', interaction)) document.body.textContent = turn.entries[0]?.text ?? ''
    export type { GatewayError }`,
  )
  await write(
    'tsconfig.web.json',
    JSON.stringify({
      compilerOptions: {
        target: 'ES2022',
        lib: ['ES2022', 'DOM', 'DOM.Iterable'],
        module: 'ESNext',
        moduleResolution: 'Bundler',
        strict: true,
        skipLibCheck: false,
        types: [],
        noEmit: true,
      },
      files: ['web.ts'],
    }),
  )
  await node([TSC, '-p', 'tsconfig.web.json'], project)
})

test('the command line comes along', async () => {
  const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { version: string }
  expect(await node(['node_modules/throughline/dist/main.js', '--version'], project)).toBe(`${version}\n`)
  expect(await node(['node_modules/.bin/throughline', 'chat', '--help'], project)).toContain('--session')
})
