import { Writable } from 'node:stream'
import * as acp from '@agentclientprotocol/sdk'
import { clientFiles } from './files.js'
import { Gate, gated } from './gate.js'
import type { Running, Watch } from './process.js'
import { AcpSession, SessionGone, type Peer } from './session.js'
import { Telling, type Permission } from './telling.js'
import { Terminals } from './terminals.js'
import { explain, isGone, messageOf, muteFor, tooLarge, whyOff } from './trouble.js'
import { Late, pause, tick, within } from './wait.js'
import type { SessionId } from '../protocol/ids.js'
import type { TraceContext } from '../protocol/trail.js'
import type { Turn } from '../sdk/agent.js'

/** How the bridge treats the agent. */
export interface Treatment {
  cwd: string
  permission: Permission
  allowFs: boolean
  allowTerminal: boolean
  /** The environment of its terminals. */
  env: Record<string, string | undefined>
  /** How long the program may take to answer `initialize`, ms. */
  startTimeoutMs: number
  watch: Watch
  version: string
}

/** How long an agent may take to open a session, ms. */
const OPEN_MS = 600_000
/** A loaded session has replayed its history when it says nothing for so long, ms; nobody waits for that longer than so long. */
const REPLAY = { quietMs: 250, mostMs: 10_000 }
/** How long the last output of a program that has ended is read, and how long it may take to end, ms. */
const DRAIN_MS = 2000
const KILL_MS = 5000
/** Sessions that are kept open in an agent that can close them and open them again. */
const OPEN_SESSIONS = 100

/** It did not answer `initialize` in time: starting it again may take as long again. */
export class Mute extends Error {}

/** One running agent program, spoken to in the Agent Client Protocol. */
export class AcpAgent implements Peer {
  readonly #connection: acp.ClientConnection
  readonly #treatment: Treatment
  readonly #sessions = new Map<string, AcpSession>()
  readonly #opening = new Map<string, Promise<AcpSession>>()
  readonly #lost = new Set<string>()
  /** Sessions that are being loaded, and when they last said something. */
  readonly #loading = new Map<string, number>()
  readonly #terminals: Terminals
  readonly #gate = new Gate()
  /** Resolves when it ends, with a sentence that says how. */
  readonly how: Promise<string>
  /** Resolves with that when it is gone, and all that it has started. */
  readonly gone: Promise<string>
  #capabilities: acp.AgentCapabilities = {}
  #methods: string[] = []
  /** It has answered a prompt. */
  proved = false

  private constructor(running: Running, treatment: Treatment) {
    this.#treatment = treatment
    const files = clientFiles(treatment.cwd)
    this.#terminals = new Terminals(treatment.cwd, treatment.env, treatment.watch)
    const app = acp
      .client({ name: 'throughline' })
      .onNotification(acp.methods.client.session.update, ({ params }) => {
        if (this.#loading.has(params.sessionId)) this.#loading.set(params.sessionId, performance.now())
        this.#sessions.get(params.sessionId)?.update(params.update)
      })
      .onRequest(acp.methods.client.session.requestPermission, async ({ params, signal }) => {
        await tick() // updates that came before it are heard first
        return this.#sessions.get(params.sessionId)?.permission(params, signal) ?? { outcome: { outcome: 'cancelled' } }
      })
    if (treatment.allowFs)
      app
        .onRequest(acp.methods.client.fs.readTextFile, ({ params }) => files.read(params))
        .onRequest(acp.methods.client.fs.writeTextFile, ({ params }) => files.write(params))
    if (treatment.allowTerminal)
      app
        .onRequest(acp.methods.client.terminal.create, ({ params }) => this.#terminals.create(params))
        .onRequest(acp.methods.client.terminal.output, ({ params }) => this.#terminals.output(params.terminalId))
        .onRequest(acp.methods.client.terminal.waitForExit, ({ params }) => this.#terminals.wait(params.terminalId))
        .onRequest(acp.methods.client.terminal.kill, ({ params }) => this.#terminals.kill(params.terminalId))
        .onRequest(acp.methods.client.terminal.release, ({ params }) => this.#terminals.release(params.terminalId))
    app.onRequest('*', ({ method }) => {
      throw new acp.RequestError(-32601, `"Method not found": ${method}${whyOff(method)}`, { method })
    })
    const output = Writable.toWeb(running.stdin) as WritableStream<Uint8Array>
    this.#connection = app.connect(acp.ndJsonStream(output, gated(running.stdout, this.#gate)))
    this.how = this.#over(running)
    this.gone = this.#end(running)
  }

  async #over({ exited }: Running): Promise<string> {
    const { closed, signal } = this.#connection
    await Promise.race([exited, closed])
    if (signal.reason instanceof acp.MessageTooLargeError) return tooLarge(signal.reason)
    // what it said before it ended is still read, and how it ends said by itself if it does
    await Promise.race([Promise.all([exited, closed]), pause(DRAIN_MS)])
    return Promise.race([exited, tick().then(() => 'it closed its stdin or stdout')])
  }

  async #end(running: Running): Promise<string> {
    const how = await this.how
    this.#connection.close()
    await running.end(KILL_MS) // what does not speak to us any more must not go on working
    await this.#terminals.close()
    return how
  }

  /** Says hello. Throws when the program does not answer as an agent does; then it is ended. */
  static async open(running: Running, treatment: Treatment): Promise<AcpAgent> {
    const agent = new AcpAgent(running, treatment)
    const { allowFs, allowTerminal, startTimeoutMs, version } = treatment
    try {
      const hello = await within(
        startTimeoutMs,
        agent.#connection.agent.request(acp.methods.agent.initialize, {
          protocolVersion: acp.PROTOCOL_VERSION,
          clientInfo: { name: 'throughline', title: 'Throughline', version },
          clientCapabilities: {
            fs: { readTextFile: allowFs, writeTextFile: allowFs },
            terminal: allowTerminal,
          },
        }),
      )
      if (hello.protocolVersion !== acp.PROTOCOL_VERSION)
        throw new Error(
          `it speaks version ${hello.protocolVersion} of ACP, the bridge version ${acp.PROTOCOL_VERSION}: it needs another release of the agent`,
        )
      agent.#capabilities = hello.agentCapabilities ?? {}
      agent.#methods = (hello.authMethods ?? []).map((method) => method.name)
      return agent
    } catch (err) {
      const ended = agent.closed
      agent.#connection.close()
      if (!ended) void running.end(KILL_MS)
      const how = await agent.gone
      if (err instanceof Late) throw new Mute(muteFor(startTimeoutMs), { cause: err })
      throw new Error(ended ? how : `initialize failed: ${messageOf(err)}`, { cause: err })
    }
  }

  get closed(): boolean {
    return this.#connection.signal.aborted
  }

  prompt(sessionId: string, text: string, { traceparent, tracestate }: TraceContext): Promise<acp.PromptResponse> {
    return this.#connection.agent.request(acp.methods.agent.session.prompt, {
      sessionId,
      prompt: [{ type: 'text', text }],
      // as ACP reserves these names, and MCP, to which an agent may hand them on
      ...(traceparent !== '' && { _meta: { traceparent, ...(tracestate !== '' && { tracestate }) } }),
    })
  }

  telling(turn: Turn): Telling {
    return new Telling(turn, this.#gate, this.#treatment.permission, (id) => this.#terminals.text(id))
  }

  cancel(sessionId: string): void {
    // an error means that the connection has ended, and `gone` says so
    void this.#connection.agent.notify(acp.methods.agent.session.cancel, { sessionId }).catch(() => {})
  }

  /**
   * The agent's session for a thread: the open one, or resumed, or loaded, or for no thread a new one. An opening that has
   * begun goes on when nobody waits for it any more: some agents lose what they load when they are left alone.
   * Throws `SessionGone` when the agent does not have it, or cannot open sessions again, or has given its id to another
   * conversation: some count theirs from 1 after every start.
   */
  async session(thread: string | null, owner: SessionId): Promise<AcpSession> {
    if (thread === null) return this.#new(owner)
    const session = await this.#open(thread, owner)
    if (session.owner !== owner) throw new SessionGone('its id is that of another conversation')
    return session
  }

  async #open(thread: string, owner: SessionId): Promise<AcpSession> {
    if (this.#lost.has(thread)) throw new SessionGone('it did not stop when it was cancelled')
    const open = this.#sessions.get(thread)
    if (open && !this.#opening.has(thread)) {
      this.#sessions.delete(thread)
      this.#sessions.set(thread, open) // the last one used is the last to be closed
      return open
    }
    let opening = this.#opening.get(thread)
    if (!opening) {
      opening = this.#reopen(thread, owner).finally(() => this.#opening.delete(thread))
      this.#opening.set(thread, opening)
    }
    return opening
  }

  /** The agent does not have the session any more; it may be able to open it again. */
  forget(id: string): void {
    this.#sessions.delete(id)
  }

  abandon(id: string): void {
    this.forget(id)
    this.#lost.add(id)
    if (this.#lost.size > 1000) this.#lost.delete(this.#lost.values().next().value!)
  }

  async #new(owner: SessionId): Promise<AcpSession> {
    const { agent } = this.#connection
    const { sessionId } = await opened(
      agent.request(acp.methods.agent.session.new, { cwd: this.#treatment.cwd, mcpServers: [] }),
    )
    return this.#keep(new AcpSession(this, sessionId, owner))
  }

  async #reopen(sessionId: string, owner: SessionId): Promise<AcpSession> {
    const { loadSession, sessionCapabilities } = this.#capabilities
    const { agent } = this.#connection
    const params = { sessionId, cwd: this.#treatment.cwd, mcpServers: [] }
    if (sessionCapabilities?.resume)
      await this.#opened(sessionId, agent.request(acp.methods.agent.session.resume, params))
    else if (loadSession) await this.#loaded(sessionId, agent.request(acp.methods.agent.session.load, params))
    else throw new SessionGone('the agent cannot open a session again')
    await tick() // the replay of its history came before the answer, and there was nobody to be told
    return this.#keep(new AcpSession(this, sessionId, owner))
  }

  /**
   * The replay should come before the answer, and Gemini CLI sends it after: then only time tells it from what it says
   * when it is asked.
   */
  async #loaded(sessionId: string, answer: Promise<unknown>): Promise<void> {
    this.#loading.set(sessionId, 0)
    try {
      await this.#opened(sessionId, answer)
      const since = performance.now()
      const quietMs = () => performance.now() - Math.max(this.#loading.get(sessionId)!, since)
      while (quietMs() < REPLAY.quietMs && performance.now() - since < REPLAY.mostMs)
        await pause(REPLAY.quietMs - quietMs())
    } finally {
      this.#loading.delete(sessionId)
    }
  }

  #keep(session: AcpSession): AcpSession {
    if (this.#sessions.get(session.id)?.busy)
      throw new Error(
        `The agent calls two sessions "${session.id}". It seems to hold one conversation at a time: run the bridge with --capacity 1.`,
      )
    this.#sessions.set(session.id, session)
    const { loadSession, sessionCapabilities } = this.#capabilities
    const spare = [...this.#sessions.values()].filter((it) => !it.busy && it !== session)
    if (
      this.#sessions.size > OPEN_SESSIONS &&
      sessionCapabilities?.close &&
      (loadSession || sessionCapabilities.resume)
    )
      for (const { id } of spare.slice(0, this.#sessions.size - OPEN_SESSIONS)) {
        this.#sessions.delete(id)
        // when it fails the session stays open there; no harm
        void this.#connection.agent.request(acp.methods.agent.session.close, { sessionId: id }).catch(() => {})
      }
    return session
  }

  /** Tells apart what goes wrong when a session is opened again. */
  async #opened(sessionId: string, answer: Promise<unknown>): Promise<void> {
    try {
      await opened(answer)
    } catch (err) {
      const none = err instanceof acp.RequestError && err.code === -32002
      throw none || isGone(err, sessionId) ? new SessionGone(messageOf(err)) : err
    }
  }

  /** What an error of the agent means to the reader of a turn. */
  explain(err: unknown): { code: string; message: string } {
    return explain(err, this.#methods)
  }
}

const opened = <T>(answer: Promise<T>): Promise<T> =>
  within(OPEN_MS, answer, `The agent did not open the session within ${OPEN_MS / 1000} s.`)
