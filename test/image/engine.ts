import { spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../', import.meta.url))
/** No systemd is asked for; runc, as crun wants cgroups of one version only. */
const ENGINE = ['--runtime', 'runc', '--cgroup-manager', 'cgroupfs', '--events-backend', 'file']
/** What an engine gives by itself may be more than this machine's root may raise. */
const LIMITS = ['--ulimit', 'nofile=1024:4096', '--ulimit', 'nproc=1024:1024', '--health-interval', 'disable']
/** As the pods of k8s/ run, and stricter: nothing can be written, not even /tmp. */
const CONFINED = ['--read-only', '--read-only-tmpfs=false', '--cap-drop', 'all', '--security-opt', 'no-new-privileges']

/** What podman says; throws what it complains of. */
export function podman(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync('podman', [...ENGINE, ...args], { encoding: 'utf8', maxBuffer: 1 << 26 })
  if (status !== 0) throw new Error(`podman ${args.join(' ')}: ${status} ${stderr}`)
  return stdout.trim()
}

/** Builds the Dockerfile as `scripts/image/build.sh` does, its words on our output. */
export async function build(tag: string, ...more: string[]): Promise<void> {
  const building = spawn(`${root}scripts/image/build.sh`, [tag, ...more], { stdio: ['ignore', 'inherit', 'inherit'] })
  const [code] = (await once(building, 'exit')) as [number | null]
  if (code !== 0) throw new Error(`build.sh: ${code}`)
}

/** Calls `look` with the folder that is the root of the image. */
export function inside<T>(image: string, look: (folder: string) => T): T {
  const folder = podman('image', 'mount', image)
  try {
    return look(folder)
  } finally {
    podman('image', 'unmount', image)
  }
}

export interface RunOptions {
  image: string
  /** Arguments after the entry point. */
  command?: string[]
  user?: string
  env?: Record<string, string>
  /** More options of `podman run`. */
  more?: string[]
}

/** A container on this machine's loopback that may do nothing; it goes with the test. */
export class Container implements AsyncDisposable {
  readonly name = `throughline-test-${randomBytes(4).toString('hex')}`

  constructor({ image, command = [], user, env = {}, more = [] }: RunOptions) {
    const set = Object.entries(env).flatMap(([name, value]) => ['--env', `${name}=${value}`])
    const as = user === undefined ? [] : ['--user', user]
    const options = [...LIMITS, ...CONFINED, ...as, ...set, ...more]
    podman('run', '--detach', '--name', this.name, '--network', 'host', ...options, image, ...command)
  }

  /** Sends the image's stop signal; SIGKILL after a minute. Gives the exit code. */
  async stop(): Promise<number> {
    await once(spawn('podman', [...ENGINE, 'stop', '--time', '60', this.name], { stdio: 'ignore' }), 'exit')
    return this.exitCode()
  }

  /** Waits until it has ended by itself. */
  exitCode(): number {
    return Number(podman('wait', this.name))
  }

  /** What it wrote, both streams. */
  logs(): string {
    const { stdout, stderr } = spawnSync('podman', [...ENGINE, 'logs', this.name], { encoding: 'utf8' })
    return stdout + stderr
  }

  /** Runs a command in it; gives its exit code. */
  exec(command: string[], env: Record<string, string> = {}): number | null {
    const set = Object.entries(env).flatMap(([name, value]) => ['--env', `${name}=${value}`])
    return spawnSync('podman', [...ENGINE, 'exec', ...set, this.name, ...command]).status
  }

  /** The image's own health check, as the engine runs it. */
  healthy(): boolean {
    return spawnSync('podman', [...ENGINE, 'healthcheck', 'run', this.name]).status === 0
  }

  /** Its processes: number inside, parent inside, state, user, command. */
  processes(): { pid: number; ppid: number; state: string; user: string; command: string }[] {
    const [, ...lines] = podman('top', this.name, 'pid', 'ppid', 'state', 'user', 'args').split('\n')
    return lines.map((line) => {
      const [pid, ppid, state, user, ...command] = line.trim().split(/\s+/)
      return { pid: Number(pid), ppid: Number(ppid), state: state!, user: user!, command: command.join(' ') }
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await once(spawn('podman', [...ENGINE, 'rm', '--force', '--time', '5', this.name], { stdio: 'ignore' }), 'exit')
  }
}
