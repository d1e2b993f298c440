import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { eventually } from '../support/eventually.js'
import { startNginx } from '../support/nginx.js'
import { startProgram, type Program } from '../support/program.js'
import { Deployment } from './deployment.js'
import { judge, type Verdict } from './judge.js'
import { Load } from './load.js'
import type { Tally } from './message.js'

const AGENT = fileURLToPath(new URL('./programs/agent.ts', import.meta.url))
const AGENTS = 3
const CLIENTS_EACH = 3
/** Longest that a turn, and all that happens, may take, ms. */
const TURN_LIMIT_MS = 60_000
const ACT_LIMIT_MS = 180_000

/** Everything that runs in an act. */
export interface Stage {
  deployment: Deployment
  load: Load
}

/** What an act came to. */
export interface Outcome {
  verdict: Verdict
  tally: Tally
  deployment: Deployment
  /** Log lines of replicas that speak of a bug. */
  bugs: string[]
}

export interface ActOptions {
  /** How it is called in the table. */
  name: string
  redisUrl: string
  /** Replicas at the beginning. */
  replicas?: number
  /** Settings of the replicas, on top of `k8s/base`. */
  env?: Record<string, string>
  /** What happens while clients are served. */
  happens: (stage: Stage) => Promise<void>
}

/**
 * One act: replicas by the numbers of `k8s/base` behind a real nginx, agents as processes, clients of every kind at work
 * from before it happens to after it, and then the verdict on each message. Prints the counts.
 */
export async function act({ name, redisUrl, replicas = 3, env, happens }: ActOptions): Promise<Outcome> {
  const begun = performance.now()
  const keys = ['alice', 'bob'].map((owner) => ({ owner, key: randomBytes(16).toString('hex') }))
  const agentKey = randomBytes(16).toString('hex')
  await using nginx = await startNginx([])
  await using deployment = new Deployment(
    {
      REDIS_URL: redisUrl,
      KEY_PREFIX: `ops-${randomBytes(4).toString('hex')}:`,
      CLIENT_KEYS: keys.map(({ owner, key }) => `${owner}=${key}`).join(),
      AGENT_KEYS: `coder=${agentKey}`,
      POOLS: 'coder',
      ...env,
    },
    (ports) => nginx.route(ports),
  )
  await deployment.start(replicas)
  await eventually(async () => (await fetch(`${nginx.url}/docs`)).status !== 502) // its reload is over
  await using agents = startAgents(nginx.url, agentKey)
  const load = new Load({
    url: nginx.url,
    keys: keys.map(({ key }) => key),
    each: CLIENTS_EACH,
    limitMs: TURN_LIMIT_MS,
  })
  const late = new AbortController()
  try {
    await Promise.race([
      (async () => {
        await load.goesOn()
        deployment.note('all clients are served')
        await happens({ deployment, load })
        deployment.note('it has happened')
        await load.goesOn()
        await load.finish()
      })(),
      sleep(ACT_LIMIT_MS, undefined, { signal: late.signal }).then(() => {
        throw new Error(`"${name}" is not over after ${ACT_LIMIT_MS} ms`)
      }),
    ])
  } catch (err) {
    console.log([...deployment.timeline, ...load.tally.seen].join('\n'), agents.said())
    throw err
  } finally {
    late.abort()
    load.stop()
  }
  deployment.note('no client asks any more')
  const verdict = await judge(nginx.url, load.messages, agents.runs())
  deployment.note('judged')
  const bugs = deployment.all.flatMap(({ name: pod, program }) =>
    program.stdout
      .split('\n')
      .filter((line) => /"event":"(bug|crash)"|"msg":"bug"/.test(line))
      .map((line) => `${pod} ${line.slice(0, 600)}`),
  )
  const { wrong, ...counts } = verdict
  const seen = Object.fromEntries([...load.tally.seen].sort())
  const seconds = Math.round((performance.now() - begun) / 1000)
  console.log(
    [...deployment.timeline, ...wrong, ...bugs, `ops ${JSON.stringify({ act: name, seconds, ...counts, seen })}`].join(
      '\n',
    ),
  )
  return { verdict, tally: load.tally, deployment, bugs }
}

/** What every act demands: nothing lost, doubled or shown to the wrong reader, nobody left hanging, no bug. */
export function expectNothingLost({ verdict, deployment, bugs }: Outcome): void {
  const { messages, readers } = verdict
  expect(verdict).toMatchObject({
    wrong: [],
    exact: messages,
    exactReaders: readers,
    lost: 0,
    doubled: 0,
    failed: 0,
    wrongReader: 0,
  })
  expect(messages).toBeGreaterThan(40) // else nothing was going on
  expect(deployment.accidents).toEqual([])
  expect(bugs).toEqual([])
}

function startAgents(url: string, key: string) {
  const programs: Program[] = Array.from({ length: AGENTS }, (_, i) =>
    startProgram(process.execPath, ['--import', 'tsx', AGENT], {
      env: { URL: url, AGENT: `agent-${i}`, KEY: key, CAPACITY: '20' },
      withParent: true,
    }),
  )
  return {
    /** The input of every turn that was begun, by any of them. */
    runs: () => programs.flatMap(({ stdout }) => [...stdout.matchAll(/^run (.*)$/gm)].map(([, input]) => input!)),
    said: () => programs.map(({ stderr }) => stderr.slice(-2000)).join('\n'),
    async [Symbol.asyncDispose]() {
      await Promise.all(programs.map((program) => program[Symbol.asyncDispose]()))
    },
  }
}
