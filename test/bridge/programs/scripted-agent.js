/*
 * An agent of the Agent Client Protocol that does what it is told: its prompt is a line of commands, separated by `;`.
 * Options, as arguments: `--load`, `--resume`, `--close` offer these · `--store=DIR` keeps sessions there, over restarts ·
 * `--slow-load=MS` · `--late-replay` replays after its answer to `session/load` · `--load-error=TEXT` fails it ·
 * `--counts` names its sessions 1, 2, 3 … · `--one-session` has but one · `--forgets` has every session for one prompt only, unless it is opened again ·
 * `--crash-at-start` · `--mute-while=FILE` answers nothing · `--prints=TEXT` on stdout ·
 * `--stays` ignores SIGTERM and the end of its input · `--login` wants one.
 */
import { spawn } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable, Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import * as acp from '@agentclientprotocol/sdk'

const has = (name) => process.argv.includes(`--${name}`)
const value = (name) => process.argv.find((arg) => arg.startsWith(`--${name}=`))?.slice(name.length + 3)

console.error(`scripted agent ${process.pid}`)
if (has('crash-at-start')) process.exit(7)
const crashFile = value('crash-while')
if (crashFile && existsSync(crashFile)) process.exit(8)
const muteFile = value('mute-while')
const mute = muteFile !== undefined && existsSync(muteFile)
if (value('prints')) console.log(value('prints'))
if (has('stays')) {
  process.on('SIGTERM', () => {})
  setInterval(() => {}, 1000)
}

const store = value('store')
if (store) mkdirSync(store, { recursive: true })
const sessions = new Map()
let count = 0

function keep(session) {
  if (store) writeFileSync(join(store, session.id), JSON.stringify(session.history))
}

function find(id) {
  if (value('load-error')) throw acp.RequestError.internalError({ details: value('load-error') })
  const path = store && join(store, id)
  if (!path || !existsSync(path)) throw acp.RequestError.resourceNotFound(id)
  const session = { id, history: JSON.parse(readFileSync(path, 'utf8')), cancelled: new AbortController() }
  sessions.set(id, session)
  return session
}

const update = (client, sessionId, said) => client.notify('session/update', { sessionId, update: said })
const chunk = (text, more = {}) => ({
  sessionUpdate: 'agent_message_chunk',
  content: { type: 'text', text },
  ...more,
})

/** Each gives a stop reason, or nothing to go on. */
const COMMANDS = {
  say: ({ tell }, text) => tell(chunk(text)),
  think: ({ tell }, text) => tell({ sessionUpdate: 'agent_thought_chunk', content: { type: 'text', text } }),
  plan: ({ tell }, text) =>
    tell({
      sessionUpdate: 'plan',
      entries: text.split(',').map((content, i) => ({
        content,
        priority: 'medium',
        status: ['completed', 'in_progress', 'pending'][i] ?? 'pending',
      })),
    }),
  title: ({ tell }, title) => tell({ sessionUpdate: 'session_info_update', title }),
  async tool({ tell }, title) {
    const toolCallId = `call-${++count}`
    await tell({ sessionUpdate: 'tool_call', toolCallId, title, kind: 'edit', status: 'pending' })
    await tell({ sessionUpdate: 'tool_call_update', toolCallId, status: 'in_progress' })
    const content = [{ type: 'diff', path: '/a.txt', oldText: 'one\ntwo\nthree', newText: 'one\n2\nthree' }]
    await tell({ sessionUpdate: 'tool_call_update', toolCallId, status: 'completed', content })
  },
  async slow({ tell, signal }, n) {
    for (let i = 1; i <= Number(n); i++) {
      await tell(chunk(`word-${i} `))
      await sleep(30, undefined, { signal }).catch(() => {})
      if (!signal.aborted) continue
      for (const late of ['late-1 ', 'late-2 ']) await tell(chunk(late)) // as real agents do
      await sleep(100)
      await tell(chunk('late-3 '))
      return 'cancelled'
    }
  },
  async flood({ tell }, n) {
    for (let i = 1; i <= Number(n); i++) await tell(chunk(`${i},`))
  },
  meta: ({ tell, meta }) => tell(chunk(JSON.stringify(meta ?? null))),
  async hang({ signal }) {
    await sleep(3_600_000, undefined, { signal }).catch(() => {})
    return 'cancelled'
  },
  async deaf() {
    await sleep(3_600_000) // hears no cancel
  },
  async ask({ tell, client, session }, title) {
    const toolCallId = `call-${++count}`
    await tell(chunk('before '))
    const { outcome } = await client.request('session/request_permission', {
      sessionId: session.id,
      toolCall: { toolCallId, title, status: 'pending' },
      options: [
        { optionId: 'always', name: 'Always', kind: 'allow_always' },
        { optionId: 'once', name: 'Once', kind: 'allow_once' },
        { optionId: 'never', name: 'No', kind: 'reject_once' },
      ],
    })
    await tell(chunk(`outcome ${outcome.outcome} ${outcome.optionId ?? ''} `))
  },
  crash: () => process.exit(9),
  async crashonce(it, marker) {
    if (existsSync(marker)) return
    writeFileSync(marker, '')
    process.exit(9)
  },
  stop: (it, reason) => reason,
  history: ({ tell, session }) => tell(chunk(`[${session.history.slice(0, -1).join('|')}]`)),
  pid: ({ tell }) => tell(chunk(`${process.pid} `)),
  env: ({ tell }, name) => tell(chunk(`${process.env[name]} `)),
  cwd: ({ tell }) => tell(chunk(process.cwd())),
  stderr: (it, text) => void console.error(text),
  huge: () => void process.stdout.write(`{"x":"${'x'.repeat(33 * 1024 * 1024)}"}\n`),
  async mumble({ signal }) {
    closeSync(1) // it will not be heard any more, and does not know
    await sleep(3_600_000, undefined, { signal }).catch(() => {})
  },
  garbage: () => void process.stdout.write('this is no JSON\n'),
  unknown: ({ tell }) => tell({ sessionUpdate: 'from_the_future', anything: 1 }),
  async grandchild({ tell }) {
    const child = spawn('sleep', ['600'], { stdio: 'ignore' })
    await tell(chunk(`${child.pid} `))
  },
  async read({ tell, client, session }, path) {
    const answer = await client
      .request('fs/read_text_file', { sessionId: session.id, path })
      .catch((err) => ({ content: `error ${err.code}` }))
    await tell(chunk(answer.content))
  },
  async write({ tell, client, session }, rest) {
    const [path, content] = rest.split(' ')
    const answer = await client
      .request('fs/write_text_file', { sessionId: session.id, path, content })
      .catch((err) => `error ${err.code}`)
    await tell(chunk(typeof answer === 'string' ? answer : 'written'))
  },
  async run({ tell, client, session }, command) {
    const toolCallId = `call-${++count}`
    try {
      const { terminalId } = await client.request('terminal/create', { sessionId: session.id, command })
      const content = [{ type: 'terminal', terminalId }]
      await tell({ sessionUpdate: 'tool_call', toolCallId, title: command, status: 'in_progress', content })
      const { exitCode } = await client.request('terminal/wait_for_exit', { sessionId: session.id, terminalId })
      await tell({ sessionUpdate: 'tool_call_update', toolCallId, status: 'completed', content })
      await client.request('terminal/release', { sessionId: session.id, terminalId })
      await tell(chunk(`exit ${exitCode}`))
    } catch (err) {
      await tell(chunk(`error ${err.code}`))
    }
  },
  usage: ({ tell }, used) =>
    tell({ sessionUpdate: 'usage_update', used: Number(used), size: 200000, cost: { amount: 0.12, currency: 'USD' } }),
  async terminal({ tell, client, session }, command) {
    await client.request('terminal/create', { sessionId: session.id, command })
    await tell(chunk('started '))
  },
  expire: () => Promise.reject(acp.RequestError.internalError({ details: 'the session has expired' })),
  error: () => Promise.reject(new acp.RequestError(-32603, 'Internal error', { details: 'the model is on strike' })),
}

async function prompt({ params, client }) {
  const session = sessions.get(params.sessionId)
  if (!session) throw acp.RequestError.resourceNotFound(params.sessionId)
  session.cancelled = new AbortController()
  const text = params.prompt.map((it) => it.text).join('')
  session.history.push(text)
  keep(session)
  const tell = (said) => update(client, session.id, said)
  const it = { session, client, signal: session.cancelled.signal, meta: params._meta, tell }
  const usage = { inputTokens: 10, outputTokens: 5, totalTokens: 15, thoughtTokens: 2 }
  for (const part of text.split(';').map((each) => each.trim())) {
    const [, name, rest] = /^(\w+) ?([^]*)$/.exec(part) ?? []
    const reason = await (COMMANDS[name] ?? COMMANDS.say)(it, COMMANDS[name] ? rest : part)
    if (typeof reason === 'string') return { stopReason: reason, usage }
  }
  if (has('forgets')) sessions.delete(session.id)
  return { stopReason: 'end_turn', usage }
}

const app = acp
  .agent({ name: 'scripted' })
  .onRequest('initialize', async () => {
    if (mute) await sleep(3_600_000)
    return {
      protocolVersion: acp.PROTOCOL_VERSION,
      agentCapabilities: {
        loadSession: has('load'),
        sessionCapabilities: { ...(has('resume') && { resume: {} }), ...(has('close') && { close: {} }) },
      },
      authMethods: has('login') ? [{ id: 'web', name: 'Web login' }] : [],
    }
  })
  .onRequest('session/new', () => {
    if (has('login')) throw acp.RequestError.authRequired()
    const id = has('counts') ? `${++count}` : has('one-session') ? 'it' : `acp-${process.pid}-${++count}`
    const session = { id, history: [], cancelled: new AbortController() }
    sessions.set(session.id, session)
    keep(session)
    return { sessionId: session.id }
  })
  .onRequest('session/load', async ({ params, client }) => {
    const session = find(params.sessionId)
    const replay = async (word) => {
      for (const said of session.history) await update(client, session.id, chunk(`${word} of ${said} `))
    }
    if (has('late-replay')) {
      setTimeout(() => void replay('late replay').then(() => replay('more late replay')), 20)
      return {}
    }
    await replay('replay')
    await sleep(Number(value('slow-load') ?? 0))
    await replay('more replay')
    return {}
  })
  .onRequest('session/prompt', prompt)
  .onNotification('session/cancel', ({ params }) => sessions.get(params.sessionId)?.cancelled.abort())
if (has('resume')) app.onRequest('session/resume', ({ params }) => (find(params.sessionId), {}))
if (has('close')) app.onRequest('session/close', ({ params }) => (sessions.delete(params.sessionId), {}))
app.connect(acp.ndJsonStream(Writable.toWeb(process.stdout), Readable.toWeb(process.stdin)))
