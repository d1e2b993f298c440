import { startReplicas, type Replicas } from '../../src/local/replicas.js'
import { eventually } from '../support/eventually.js'
import { isRunning, startProgram } from './processes.js'

let lines: string[]
let replicas: Replicas | undefined
beforeEach(() => {
  lines = []
})
afterEach(async () => {
  await replicas?.stop(0)
})

test('a process that is killed comes back, and only that one', async () => {
  const { all } = running("console.log('up'); setInterval(() => {}, 60_000)")
  await eventually(() => lines.filter((line) => line.endsWith('up')).length === 2)
  const [first, second] = all.map((it) => it.pid!)
  process.kill(first!, 'SIGKILL')
  await eventually(() => all[0]!.pid !== undefined && all[0]!.pid !== first)
  expect(all[1]!.pid).toBe(second)
  expect(all.map((it) => it.restarts)).toEqual([1, 0])
  expect(lines).toContain('[replica-1] ended (SIGKILL); starts again in 200 ms')
})

test('one that crashes at its start is tried again later and later', async () => {
  running("console.error('no'); process.exit(3)", 1)
  await eventually(() => lines.filter((line) => line.includes('ended')).length === 3)
  expect(lines.filter((line) => line.includes('ended'))).toEqual(
    [200, 400, 800].map((ms) => `[replica-1] ended (code 3); starts again in ${ms} ms`),
  )
  expect(lines).toContain('[replica-1] no')
})

test('one whose settings are wrong is not tried again', async () => {
  const { misconfigured, all } = running('process.exit(78)', 1)
  await misconfigured
  expect(all[0]!.restarts).toBe(0)
})

test('a program that is not there is said to be missing', async () => {
  replicas = startReplicas({ count: 1, command: () => ({ file: '/no/such/program', args: [] }), log })
  await eventually(() => lines.some((line) => line.includes('ENOENT')))
})

test('stopping leaves no process, also of those that do not want to go', async () => {
  const { all, stop } = running("process.on('SIGTERM', () => {}); console.log('up'); setInterval(() => {}, 60_000)")
  await eventually(() => lines.length === 2)
  const pids = all.map((it) => it.pid!)
  await stop(100)
  expect(pids.map(isRunning)).toEqual([false, false])
})

test('stopping while one waits for its next start ends the waiting', async () => {
  const { stop, all } = running('process.exit(1)', 1)
  await eventually(() => lines.length === 1)
  await stop()
  expect(all[0]!.pid).toBeUndefined()
})

test('they end when their parent is killed with -9', async () => {
  await using parent = startProgram('replicas-parent')
  const { pids } = await parent.says<{ pids: number[] }>()
  await eventually(() => parent.output.filter((line) => line.endsWith('up')).length === 2)
  expect(pids.map(isRunning)).toEqual([true, true])
  process.kill(parent.pid, 'SIGKILL')
  await eventually(() => !pids.some(isRunning))
})

function log(line: string): void {
  lines.push(line)
}

function running(code: string, count = 2): Replicas {
  replicas = startReplicas({ count, command: () => ({ file: process.execPath, args: ['-e', code] }), log })
  return replicas
}
