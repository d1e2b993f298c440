import { figure, millis, replicas, times, total, whole } from './figures.js'
import type { Findings } from './findings.js'
import type { Result } from './measure.js'
import { reading } from './reading.js'
import { memoryLines } from './redis-memory.js'
import type { Part, RigName } from './rig.js'
import type { Scenario } from './scenarios.js'

const PARTS: Part[] = ['agent', 'replica A', 'Redis', 'replica B', 'viewers']

const METHOD = `Everything runs on one machine over loopback, each box of the way a process of its own: agent → replica A → Redis →
replica B → viewers. **Throughline** is two \`dist/main.js serve\`, the agent uses our SDK, each viewer is an HTTP
connection that reads server-sent events. **Redis pub/sub** is the bare hop: the agent PUBLISHes, the viewers
SUBSCRIBE. **Socket.IO relay** is a bare relay that keeps nothing: \`io.to(session).emit\` through
@socket.io/redis-adapter, socket.io-client at both ends. Each has a Redis of its own with the append-only file as
deployed (every second). An event is a piece of an answer, 50 characters of text; all three get the same events at the
same rates, one load after the other in turn. An event carries the time it was said (the machine's monotonic clock, one
for all processes); latency is from the agent's call to the viewer's parsed event. At saturation the agent has a fixed
number of events on the way, so latency there is only that number divided by the throughput, and is left out. CPU is user
and system time of \`/proc/<pid>/stat\`, from the first event to the last, per event that arrived at a viewer. *Elsewhere*
is the share of the machine that processes outside of the bench took meanwhile. 3 s of load warm everything up first.`

/** The whole of bench/RESULTS.md. */
export function report(found: Findings): string {
  return [
    '# What it costs',
    '',
    `Written by \`npm run bench\` on ${found.date}.`,
    '',
    ...found.machine.map((line) => `- ${line}`),
    '',
    METHOD,
    '',
    ...found.results.flatMap(({ scenario, byRig }) => [
      `## ${scenario.title}`,
      '',
      scenario.why,
      '',
      ...table(scenario, byRig),
      '',
    ]),
    '## Throughline against the others',
    '',
    'Throughline divided by the baseline. For events/s more is better, for the rest less.',
    '',
    ...ratios(found),
    '',
    '## Memory',
    '',
    ...memory(found),
    '',
    '## How to read it',
    '',
    ...reading(found),
    '',
  ].join('\n')
}

function table({ load }: Scenario, byRig: Record<RigName, Result>): string[] {
  const head = ['', 'events/s', 'p50 ms', 'p99 ms', ...PARTS.map((part) => `${part} µs`), 'sum µs', 'elsewhere']
  const rows = Object.entries(byRig).map(([name, it]) => [
    name,
    whole(it.events / it.seconds) + (it.events < it.expected ? ` (${it.expected - it.events} lost)` : ''),
    ...(load.ratePerSecond === null ? ['', ''] : [millis(it.p50), millis(it.p99)]),
    ...PARTS.map((part) => figure(it.cpu[part], name === 'Redis pub/sub' && part.startsWith('replica') ? '' : 'n/a')),
    figure(total(it.cpu)),
    it.elsewhere === undefined ? 'n/a' : `${whole(it.elsewhere * 100)} %`,
  ])
  return markdown(head, rows)
}

function ratios({ results }: Findings): string[] {
  const head = ['', 'events/s', 'p50', 'p99', 'Redis CPU', 'replicas’ CPU', 'all CPU']
  const rows = results.flatMap(({ scenario, byRig }) =>
    (['Redis pub/sub', 'Socket.IO relay'] as const).map((baseline) => {
      const [ours, theirs] = [byRig['Throughline'], byRig[baseline]]
      const paced = scenario.load.ratePerSecond !== null
      return [
        `${scenario.title.split(/[:,] /).join(', ')} / ${baseline}`,
        paced ? '' : times(ours.events / ours.seconds, theirs.events / theirs.seconds),
        paced ? times(ours.p50, theirs.p50) : '',
        paced ? times(ours.p99, theirs.p99) : '',
        times(ours.cpu['Redis'], theirs.cpu['Redis']),
        baseline === 'Redis pub/sub' ? '' : times(replicas(ours), replicas(theirs)),
        times(total(ours.cpu), total(theirs.cpu)),
      ]
    }),
  )
  return markdown(head, rows)
}

function memory({ rss, stored, idle, redisMemory }: Findings): string[] {
  const { before, after } = rss
  return [
    `- Resident memory of replica A: ${mega(before['replica A'])} when started, ${mega(after['replica A'])} after all of it; replica B: ${mega(before['replica B'])}, ${mega(after['replica B'])}.`,
    `- Redis, in the ${stored.sessions} longest turns (${whole(stored.events / stored.sessions)} events of 50 characters each): ${whole(stored.logPerEvent)} bytes per event in the log (kept for \`RESUME_WINDOW_MS\`), ${whole(stored.resultPerEvent)} bytes per event in the finished turn's result and ${whole(stored.restPerSession)} bytes for the session (both kept for \`SESSION_TTL_MS\`).`,
    `- Idle, with an agent connected: ${figure((idle['replica A'] ?? NaN) / 1e4)} % of a core for replica A, ${figure((idle['replica B'] ?? NaN) / 1e4)} % for replica B, ${figure((idle['Redis'] ?? NaN) / 1e4)} % for Redis.`,
    ...memoryLines(redisMemory),
  ]
}

function markdown(head: string[], rows: string[][]): string[] {
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '--:'))), ...rows.map(line)]
}

const mega = (bytes: number | undefined): string => (bytes === undefined ? 'n/a' : `${whole(bytes / 1024 ** 2)} MiB`)
