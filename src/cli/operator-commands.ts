import { InvalidArgumentError, Option, type Command } from 'commander'
import type { NewKey } from './keys.js'
import type { ActOptions, ListOptions, ShowOptions } from './operate.js'

const NAME = /^[\p{L}\p{N}._@+ -]{1,128}$/u

function limit(text: string): number {
  const n = Number(text)
  if (!Number.isInteger(n) || n < 1 || n > 1000) throw new InvalidArgumentError('a whole number from 1 to 1000, please')
  return n
}

const several = (text: string, before: string[] = []): string[] => [...before, text]

function operatorName(text: string): string {
  if (!NAME.test(text)) throw new InvalidArgumentError('a name of at most 128 letters, digits or ._@+- please')
  return text
}

const ENDED = ['completed', 'failed', 'cancelled']
const IN_FLIGHT = ['queued', 'waiting', 'streaming']

/**
 * `throughline sessions|agents|replicas|interactions|keys|audit|doctor`: what operators see and do. `end` is told the exit code.
 * Commands that are not understood end with 2.
 */
export function addOperatorCommands(program: Command, end: (code: number) => void): void {
  const load = () => import('./operate.js')

  function group(name: string, description: string): Command {
    return program.command(name).description(description)
  }
  function list(of: Command, description: string, run: (options: ListOptions) => Promise<number>): Command {
    return of
      .command('list')
      .description(description)
      .option('--limit <n>', 'rows of a page', limit, 50)
      .option('--before <cursor>', 'the page after the one that named this')
      .option('--json', 'a JSON object a line')
      .action(async (options: ListOptions) => end(await run(options)))
  }
  const json = ['--json', 'as one JSON object'] as const
  function act(of: Command, name: string, description: string): Command {
    return of
      .command(name)
      .description(description)
      .option('--as <name>', 'who you are, for the audit trail', operatorName)
  }

  const sessions = group('sessions', 'conversations, over all owners')
  list(sessions, 'by their last activity; with --owner by their age', async (o) => (await load()).listSessions(o))
    .option('--owner <name>', 'of this owner only')
    .option('--pool <name>', 'of this pool only')
    .addOption(
      new Option('--status <status>', 'with a turn that runs or waits, or without').choices(['active', 'idle']),
    )
  sessions
    .command('show <session>')
    .description('all there is to know of one, but what was said')
    .option(...json)
    .action(async (id: string, o: ShowOptions) => end(await (await load()).showSession(id, o)))
  act(sessions, 'delete <session>', 'cancel what runs or waits, and forget it').action(
    async (id: string, o: ActOptions) => end(await (await load()).deleteSession(id, o)),
  )

  const interactions = group('interactions', 'turns: those in flight, and those that ended last')
  list(interactions, 'in flight, the newest first; or by --status', async (o) => (await load()).listInteractions(o))
    .option('--owner <name>', 'of this owner only')
    .option('--pool <name>', 'of this pool only')
    .addOption(new Option('--status <status>', 'in this state').choices([...IN_FLIGHT, ...ENDED]))
    .option('--stuck', 'only those past their deadline')
  interactions
    .command('show <interaction>')
    .description('where it hangs, and why it was not delivered')
    .option(...json)
    .action(async (id: string, o: ShowOptions) => end(await (await load()).showInteraction(id, o)))
  act(interactions, 'cancel <interaction>', 'end a turn, wherever it stands')
    .option('--reason <text>', 'told to those who follow it, and in the audit trail')
    .action(async (id: string, o: ActOptions) => end(await (await load()).cancelInteraction(id, o)))

  const agents = group('agents', 'agents that are connected; those of named sessions have the pool "-"')
  list(agents, 'by pool and name', async (o) => (await load()).listAgents(o)).option(
    '--pool <name>',
    'of this pool only',
  )
  agents
    .command('show <pool> <agent>')
    .description('one agent, and the sessions it has')
    .option(...json)
    .action(async (pool: string, agent: string, o: ShowOptions) => end(await (await load()).showAgent(pool, agent, o)))
  act(agents, 'disconnect <pool> <agent>', 'close its connection; it may come back').action(
    async (pool: string, agent: string, o: ActOptions) => end(await (await load()).disconnectAgent(pool, agent, o)),
  )
  act(agents, 'drain <pool> <agent>', 'no new turns; when those in hand are done it is told to move').action(
    async (pool: string, agent: string, o: ActOptions) => end(await (await load()).drainAgent(pool, agent, o)),
  )

  const replicas = group('replicas', 'gateway processes')
  list(replicas, 'by name', async (o) => (await load()).listReplicas(o))
  replicas
    .command('show <replica>')
    .description('one replica, and the agents connected to it')
    .option(...json)
    .action(async (id: string, o: ShowOptions) => end(await (await load()).showReplica(id, o)))
  act(replicas, 'drain <replica>', 'it leaves as by SIGTERM').action(async (id: string, o: ActOptions) =>
    end(await (await load()).drainReplica(id, o)),
  )

  const keys = group('keys', 'stored API keys of clients and agents; replicas accept them with KEY_STORE=on')
  act(keys, 'create', 'make a key and print it, this once')
    .option('--owner <name>', 'a key of clients: whose sessions it opens')
    .option('--pool <name>', 'a key of agents: a pool they may join, * for any; as often as you like', several)
    .option('--name <text>', 'what people call it', '')
    .option('--expires <time>', 'when it is no longer good: 30m, 12h, 90d', '365d')
    .option('--json', 'an object with the key and what is known of it')
    .action(async (o: NewKey) => end(await (await import('./keys.js')).createKey(o)))
  keys
    .command('list')
    .description('every key, the first to expire first; never a secret')
    .option('--json', 'a JSON object a line')
    .action(async (o: ShowOptions) => end(await (await import('./keys.js')).listKeys(o)))
  act(
    keys,
    'revoke <key>',
    'by its id, or the key itself: it opens nothing any more, what it holds open is closed',
  ).action(async (key: string, o: ActOptions) => end(await (await import('./keys.js')).revokeKey(key, o)))

  const audit = program
    .command('audit')
    .description('what operators did, newest first')
    .option('--limit <n>', 'entries of a page', limit, 50)
    .option('--before <id>', 'the page after this entry')
    .option('--json', 'a JSON object a line')
    .action(async (options: { limit: number; before?: string; json?: boolean }) => {
      const { showAudit } = await import('./audit.js')
      end(await showAudit(options))
    })

  const doctor = program
    .command('doctor')
    .description('check the deployment that the environment names: what is wrong, and how to mend it')
    .option('--json', 'as one JSON array')
    .action(async (options: { json?: boolean }) => {
      const { doctor: run } = await import('./doctor.js')
      end(await run(options))
    })

  for (const command of [doctor, sessions, interactions, agents, replicas, keys, audit]) usageIsTwo(command)
}

/** commander ends with 1 on what it does not understand; here that means refused. */
export function usageIsTwo(command: Command): void {
  command.exitOverride((err) => {
    process.exit(err.exitCode === 0 ? 0 : 2)
  })
  command.commands.forEach(usageIsTwo)
}
