import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseEnv } from 'node:util'
import type { IDeployment } from 'kubernetes-models/apps/v1/Deployment'
import { parse } from 'yaml'
import { freePorts } from '../../src/local/free-port.js'
import { startProgram, type Program } from '../support/program.js'

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
const base = (name: string): string =>
  readFileSync(fileURLToPath(new URL(`../../k8s/base/${name}`, import.meta.url)), 'utf8')

/** A probe of the kubelet, with its defaults. All times in ms. */
interface Probe {
  path: string
  periodMs: number
  timeoutMs: number
  failureThreshold: number
}

/** What `k8s/base` says of the deployment's life. All times in ms. */
export interface Spec {
  maxSurge: number
  maxUnavailable: number
  minReadyMs: number
  graceMs: number
  preStopMs: number
  startup: Probe
  readiness: Probe
  liveness: Probe
  /** `config.env`, and what the container's own environment adds. */
  env: Record<string, string>
}

/** Reads the numbers from the manifests, so that the trial is of what is deployed. */
export function readSpec(): Spec {
  const { spec } = parse(base('deployment.yaml')) as IDeployment
  const { minReadySeconds, strategy, template } = spec!
  const pod = template.spec!
  const container = pod.containers[0]!
  const probe = (which: 'startupProbe' | 'readinessProbe' | 'livenessProbe'): Probe => {
    const { httpGet, periodSeconds = 10, timeoutSeconds = 1, failureThreshold = 3 } = container[which]!
    return {
      path: httpGet!.path!,
      periodMs: periodSeconds * 1000,
      timeoutMs: timeoutSeconds * 1000,
      failureThreshold,
    }
  }
  const plain = container.env!.flatMap(({ name, value }) =>
    value === undefined || value.includes('$(') ? [] : [[name, value]],
  )
  return {
    maxSurge: Number(strategy!.rollingUpdate!.maxSurge),
    maxUnavailable: Number(strategy!.rollingUpdate!.maxUnavailable),
    minReadyMs: minReadySeconds! * 1000,
    graceMs: pod.terminationGracePeriodSeconds! * 1000,
    preStopMs: container.lifecycle!.preStop!.sleep!.seconds * 1000,
    startup: probe('startupProbe'),
    readiness: probe('readinessProbe'),
    liveness: probe('livenessProbe'),
    env: {
      ...(parseEnv(base('config.env')) as Record<string, string>),
      ...(Object.fromEntries(plain) as Record<string, string>),
    },
  }
}

/** How a pod ended. */
export interface End {
  pod: string
  /** Its exit code, null when it had to be killed. */
  code: number | null
  /** It said 503 on readiness after SIGTERM. */
  saidNotReady: boolean
  /** From SIGTERM to its end, ms. */
  tookMs: number
}

/** One pod: a replica as a process of its own, with the kubelet that probes it, stops it and, if need be, kills it. */
class Pod {
  ready = false
  readySince = 0
  terminating = false
  readonly ended: Promise<void>
  readonly #ops: string
  readonly #over = new AbortController()

  private constructor(
    readonly name: string,
    readonly port: number,
    opsPort: number,
    readonly program: Program,
    readonly spec: Spec,
    readonly changed: (what: string) => void,
  ) {
    this.#ops = `http://127.0.0.1:${opsPort}`
    this.ended = this.#live()
  }

  static async start(
    name: string,
    spec: Spec,
    settings: Record<string, string>,
    changed: (pod: Pod, what: string) => void,
  ): Promise<Pod> {
    const [port, opsPort] = await freePorts(2)
    const env = {
      ...spec.env,
      HOST: '127.0.0.1', // a pod has an address of its own
      ...settings,
      REPLICA_ID: `throughline.${name}`,
      PORT: String(port),
      OPS_PORT: String(opsPort),
    }
    const program = startProgram(process.execPath, [MAIN, 'serve'], { env, withParent: true })
    const pod: Pod = new Pod(name, port!, opsPort!, program, spec, (what) => changed(pod, what))
    return pod
  }

  /** From here on it does nothing any more, as on a machine that swaps; only SIGKILL ends it. */
  hang(): void {
    this.changed('hangs')
    this.program.child.kill('SIGSTOP')
  }

  available(now: number): boolean {
    return this.ready && !this.terminating && now - this.readySince >= this.spec.minReadyMs
  }

  /** What the kubelet does from the container's start to its end. */
  async #live(): Promise<void> {
    void this.program.exited.then((code) => {
      this.#over.abort()
      this.#setReady(false)
      if (!this.terminating) this.changed(`ended by itself with ${code}: ${this.program.stderr.slice(-500)}`)
    })
    const { startup, readiness, liveness } = this.spec
    let failures = 0
    for await (const ok of this.#probes(startup)) {
      if (ok) break
      if (++failures === startup.failureThreshold) this.#dead()
    }
    await Promise.all([
      this.#watch(readiness, (ok) => this.#setReady(ok)),
      this.#watch(liveness, (ok) => ok || this.#dead()),
    ])
  }

  /** Says `true` at the first success, `false` when `failureThreshold` tries in a row have failed. */
  async #watch(probe: Probe, say: (ok: boolean) => void): Promise<void> {
    let failures = 0
    for await (const ok of this.#probes(probe)) {
      failures = ok ? 0 : failures + 1
      if (ok) say(true)
      else if (failures === probe.failureThreshold) say(false)
    }
  }

  async *#probes({ path, periodMs, timeoutMs }: Probe): AsyncGenerator<boolean> {
    const { signal } = this.#over
    while (!signal.aborted) {
      yield await this.#get(path, timeoutMs)
      await sleep(periodMs, undefined, { signal }).catch(() => {})
    }
  }

  #get = (path: string, timeoutMs: number): Promise<boolean> =>
    fetch(`${this.#ops}${path}`, { signal: AbortSignal.timeout(timeoutMs) }).then(
      (res) => res.ok,
      () => false,
    )

  #setReady(ready: boolean): void {
    if (this.ready === ready) return
    this.ready = ready
    this.readySince = performance.now()
    this.changed(ready ? 'is ready' : 'is not ready')
  }

  #dead(): void {
    if (!this.terminating) this.changed('FAILED ITS LIVENESS')
  }

  /** preStop, SIGTERM, and SIGKILL when the grace period, which counts from here, is over. */
  async remove(graceMs = this.spec.graceMs): Promise<End> {
    const begun = performance.now()
    this.terminating = true
    this.changed('is to go')
    await sleep(Math.min(this.spec.preStopMs, graceMs))
    const asked = performance.now()
    this.program.child.kill('SIGTERM')
    let saidNotReady = false
    const looking = (async () => {
      while (!this.#over.signal.aborted && !saidNotReady) {
        const res = await fetch(`${this.#ops}/readyz`, { signal: AbortSignal.timeout(1000) }).catch(() => undefined)
        saidNotReady = res?.status === 503
        await sleep(50)
      }
    })()
    const late = setTimeout(
      () => {
        this.changed('is killed: its grace is over')
        this.program.child.kill('SIGKILL')
      },
      Math.max(0, begun + graceMs - performance.now()),
    )
    const code = await this.program.exited
    clearTimeout(late)
    await looking
    const tookMs = Math.round(performance.now() - asked)
    this.changed(`has gone with ${code} after ${tookMs} ms`)
    return { pod: this.name, code, saidNotReady, tookMs }
  }
}

/** How long a change of readiness takes to reach the balancer, ms: must be less than preStop waits. */
const PROPAGATION_MS = 700

/**
 * A Deployment of real replicas on this machine. It plays the Deployment controller (`maxSurge`, `maxUnavailable`,
 * `minReadySeconds`), the kubelet (probes, preStop, SIGTERM, grace, SIGKILL) and the Endpoints controller (`route` hears
 * which ports are ready and not about to go), by the numbers of `k8s/base`.
 */
export class Deployment implements AsyncDisposable {
  readonly spec = readSpec()
  /** Every pod there ever was, for its logs. */
  readonly all: Pod[] = []
  readonly ends: End[] = []
  /** What happened when, for whoever wants to know why. */
  readonly timeline: string[] = []
  /** Restarts and ends that nobody asked for. */
  readonly accidents: string[] = []
  readonly #settings: Record<string, string>
  readonly #route: (ports: number[]) => void
  readonly #begun = performance.now()
  readonly #leaving = new Set<Promise<void>>()
  #pods: Pod[] = []
  #routed = ''
  #closed = false

  constructor(settings: Record<string, string>, route: (ports: number[]) => void) {
    this.#settings = settings
    this.#route = route
  }

  /** Those that are not about to go. */
  get pods(): readonly Pod[] {
    return this.#pods
  }

  note(what: string): void {
    this.timeline.push(`${((performance.now() - this.#begun) / 1000).toFixed(1)} s ${what}`)
  }

  /** The first of them; resolves when the balancer has them. */
  async start(replicas: number): Promise<void> {
    while (this.#pods.length < replicas) await this.#create()
    await this.#until(() => this.#routed === this.#pods.map(({ port }) => port).join())
  }

  /** More or fewer of them; resolves when they are available, or have gone. `graceMs`: as `kubectl delete --grace-period`. */
  async scale(replicas: number, graceMs?: number): Promise<void> {
    this.note(`scale to ${replicas}`)
    while (this.#pods.length < replicas) await this.#create()
    while (this.#pods.length > replicas) this.#remove(this.#pods.at(-1)!, graceMs)
    await this.#until(() => this.#available() === replicas)
    await this.settled()
  }

  /** All of them replaced, in the order of a rolling update. */
  async roll(): Promise<void> {
    const { maxSurge, maxUnavailable } = this.spec
    const old = [...this.#pods]
    const replicas = old.length
    this.note('rolling update')
    while (old.length > 0) {
      const fresh = this.#pods.length - old.length
      if (this.#pods.length < replicas + maxSurge && fresh < replicas) await this.#create()
      await this.#until(() => this.#available() > replicas - maxUnavailable)
      this.#remove(old.shift()!)
    }
    await this.#until(() => this.#available() === replicas)
    await this.settled()
  }

  /** Resolves when every pod that was to go has gone. */
  async settled(): Promise<void> {
    await Promise.all(this.#leaving)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    await Promise.all(this.all.map(({ program }) => program[Symbol.asyncDispose]()))
    await Promise.all(this.all.map(({ ended }) => ended))
  }

  async #create(): Promise<void> {
    const name = `throughline-${this.all.length + 1}`
    const pod = await Pod.start(name, this.spec, this.#settings, (it, what) => {
      this.note(`${it.name} ${what}`)
      if (/^ended by itself|LIVENESS/.test(what) && !this.#closed) this.accidents.push(`${it.name} ${what}`)
      void this.#endpoints()
    })
    this.all.push(pod)
    this.#pods.push(pod)
  }

  #remove(pod: Pod, graceMs?: number): void {
    this.#pods = this.#pods.filter((it) => it !== pod)
    const leaving: Promise<void> = pod.remove(graceMs).then((end) => {
      this.ends.push(end)
      this.#leaving.delete(leaving)
    })
    this.#leaving.add(leaving)
  }

  #available = (): number => this.#pods.filter((pod) => pod.available(performance.now())).length

  async #until(holds: () => boolean): Promise<void> {
    for (const end = performance.now() + 60_000; !holds(); await sleep(100)) {
      if (this.accidents.length > 0) throw new Error(this.accidents.join('; '))
      if (performance.now() > end)
        throw new Error(`the deployment does not become available:\n${this.timeline.join('\n')}`)
    }
  }

  async #endpoints(): Promise<void> {
    await sleep(PROPAGATION_MS)
    if (this.#closed) return
    const ports = this.#pods.filter(({ ready }) => ready).map(({ port }) => port)
    if (this.#routed === ports.join()) return
    this.#routed = ports.join()
    this.note(`the balancer has ${ports.length} replicas`)
    this.#route(ports)
  }
}
