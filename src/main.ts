#!/usr/bin/env node
import { fileURLToPath } from 'node:url'
import { Command, InvalidArgumentError, Option } from 'commander'
import { addOperatorCommands } from './cli/operator-commands.js'
import { version } from './cli/version.js'

const stop = new AbortController()
const kill = new AbortController()
for (const signal of ['SIGTERM', 'SIGINT'] as const)
  process.on(signal, () => (stop.signal.aborted ? kill.abort() : stop.abort()))

function within(text: string, least: number, most: number): number {
  const n = Number(text)
  if (!Number.isInteger(n) || n < least || n > most)
    throw new InvalidArgumentError(`a whole number from ${least} to ${most}, please`)
  return n
}
const whole = (text: string): number => within(text, 1, 64)

const secondsOfADay = (text: string): number => within(text, 1, 86_400)

/** Where `npm start` listens. */
const LOCAL = 'http://127.0.0.1:8080'

const several = (text: string, before: string[] = []): string[] => [...before, text]

function pair(text: string, before: Record<string, string>): Record<string, string> {
  const at = text.indexOf('=')
  if (at < 1) throw new InvalidArgumentError('NAME=VALUE, please')
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) }
}

const program = new Command('throughline')
  .description('A gateway between HTTP clients and remote coding agents that survives restarts.')
  .version(version)

program
  .command('serve')
  .description('run one replica, configured by environment variables (see: throughline config)')
  .action(async () => {
    const [{ serve }, { exitWithParent }] = await Promise.all([
      import('./cli/serve.js'),
      import('./local/exit-with-parent.js'),
    ])
    exitWithParent()
    process.exitCode = await serve(stop.signal, kill.signal)
    setTimeout(() => process.exit(), 1000).unref() // whatever still lingers must not keep a drained replica
  })

program
  .command('dev')
  .description('run everything on this machine: Redis, replicas, a balancer, a demo agent')
  .option('-r, --replicas <n>', 'how many replicas, each its own process', whole, 1)
  .option('--no-agent', 'do not start the demo agent')
  .action(async (options: { replicas: number; agent: boolean }) => {
    const { devCommand } = await import('./cli/dev.js')
    process.removeAllListeners('SIGINT').removeAllListeners('SIGTERM') // dev has an order of its own
    process.exitCode = await devCommand({ ...options, mainPath: fileURLToPath(import.meta.url) })
  })

program
  .command('demo-agent')
  .description('connect an agent that answers everything, word by word')
  .requiredOption('--url <url>', 'the gateway, such as http://127.0.0.1:8080')
  .option('--pool <name>', 'the pool to join', 'demo')
  .option('--capacity <n>', 'turns at a time', whole, 16)
  .addOption(new Option('--key <key>', 'agent key').env('THROUGHLINE_AGENT_KEY'))
  .option('--word-delay <ms>', 'pause between words', whole, 40)
  .action(async (options: { url: string; pool: string; capacity: number; key?: string; wordDelay: number }) => {
    const [{ demoAgent }, { exitWithParent }] = await Promise.all([
      import('./cli/demo-agent.js'),
      import('./local/exit-with-parent.js'),
    ])
    exitWithParent()
    await demoAgent({
      url: options.url,
      pool: options.pool,
      capacity: options.capacity,
      wordDelayMs: options.wordDelay,
      signal: stop.signal,
      ...(options.key !== undefined && { key: options.key }),
    })
  })

program
  .command('agent')
  .description('run an agent that speaks the Agent Client Protocol, and connect it (see docs/acp.md)')
  .usage('--pool <name> [options] -- COMMAND [ARGS…]')
  .argument('<command...>', 'what starts the agent')
  .requiredOption('--pool <name>', 'the pool to join')
  .addOption(
    new Option('--url <url>', `the gateway (default: "${LOCAL}"); given several times, its addresses are tried in turn`)
      .argParser(several)
      .env('THROUGHLINE_URL'),
  )
  .option('--capacity <n>', 'turns at a time, each in a session of its own', whole, 1)
  .addOption(new Option('--key <key>', 'agent key').env('THROUGHLINE_AGENT_KEY'))
  .option('--agent <id>', 'a name that is the same after a restart: turns in flight come back at once')
  .addOption(
    new Option('--permission <policy>', 'when the agent asks for a permission')
      .choices(['allow', 'deny', 'ask'])
      .default('ask'),
  )
  .option('--permission-timeout <s>', 'how long a client may take to answer; then it is a no', secondsOfADay, 300)
  .option('--start-timeout <s>', 'how long the agent may take to answer when it is started', secondsOfADay, 60)
  .option('--cwd <dir>', 'working folder of the agent', '.')
  .option('--env <name=value>', 'for the environment of the agent; as often as you like', pair, {})
  .option('--allow-fs', 'let the agent read and write files of the working folder through the bridge', false)
  .option('--allow-terminal', 'let the agent run commands through the bridge', false)
  .action(
    async (
      command: string[],
      options: {
        pool: string
        url?: string[]
        capacity: number
        key?: string
        agent?: string
        permission: 'allow' | 'deny' | 'ask'
        permissionTimeout: number
        startTimeout: number
        cwd: string
        env: Record<string, string>
        allowFs: boolean
        allowTerminal: boolean
      },
    ) => {
      const [{ agentCommand }, { exitWithParent }] = await Promise.all([
        import('./cli/agent.js'),
        import('./local/exit-with-parent.js'),
      ])
      exitWithParent()
      const { permissionTimeout: permissionTimeoutS, startTimeout: startTimeoutS, ...rest } = options
      process.exitCode = await agentCommand({
        ...rest,
        url: options.url ?? [LOCAL],
        command,
        permissionTimeoutS,
        startTimeoutS,
        stop: stop.signal,
        kill: kill.signal,
      })
      setTimeout(() => process.exit(), 1000).unref() // its processes have ended
    },
  )

program
  .command('chat')
  .description('talk to an agent: in a terminal line by line, from a pipe one message; Ctrl-C cancels the turn')
  .addOption(new Option('--url <url>', 'the gateway').env('THROUGHLINE_URL').default(LOCAL))
  .addOption(new Option('--key <key>', 'client key').env('THROUGHLINE_KEY'))
  .option('--pool <name>', 'whom to talk to', 'demo')
  .option('--session <id>', 'go on with this conversation, ses_…')
  .action(async (options: { url: string; key?: string; pool: string; session?: string }) => {
    const { chat } = await import('./cli/chat.js')
    process.removeAllListeners('SIGINT').removeAllListeners('SIGTERM') // chat has an order of its own
    process.exitCode = await chat(options)
  })

program
  .command('config')
  .description('print every setting with its value, default, unit and meaning; secrets masked')
  .action(async () => {
    const [{ configTable }, { readConfig, ConfigError }] = await Promise.all([
      import('./cli/config.js'),
      import('./config.js'),
    ])
    console.log(configTable())
    try {
      readConfig()
    } catch (err) {
      if (!(err instanceof ConfigError)) throw err
      console.error(`\n${err.message}`)
      process.exitCode = 78
    }
  })

program
  .command('token')
  .description('print a token that opens one session, signed with TOKEN_SECRET')
  .requiredOption('--session <id>', 'the session, ses_…')
  .addOption(
    new Option('--use <use>', "what for: its agent's connection, or reading its event streams")
      .choices(['agent', 'stream'])
      .default('agent'),
  )
  .option('--hours <n>', 'how long it is valid, in hours', (text) => within(text, 1, 8760), 24)
  .action(async (options: { session: string; use: 'agent' | 'stream'; hours: number }) => {
    const { printToken } = await import('./cli/token.js')
    process.exitCode = await printToken(options.session, options.use, options.hours * 3600_000)
  })

addOperatorCommands(program, (code) => (process.exitCode = code))

await program.parseAsync()
