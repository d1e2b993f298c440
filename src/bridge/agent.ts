import { Writable } from 'node:stream'
import * as acp from '@agentclientprotocol/sdk'
import { clientFiles } from './files.js'
import { Gate, gated } from './gate.js'
import type { Running, Watch } from './process.js'
import { AcpSession, SessionGone, type Peer } from './session.js'
import { Telling, type Permission } from './telling.js'
import { Terminals } from './terminals.js'
import { pause, tick, within } from './wait.js'
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
  watch: Watch
  version: string
}

/** How long an agent may take to answer `initialize`, and to open a session, ms. */
const INITIALIZE_MS = 60_000
const OPEN_MS = 600_000
/** How long the last output of a program that has ended is read, and how long it may take to end, ms. */
const DRAIN_MS = 2000
const KILL_MS = 5000
/** Sessions that are kept open in an agent that can close them and open them again. */
const OPEN_SESSIONS = 100

/** One running agent program, spoken to in the Agent Client Protocol. */
export class AcpAgent implements Peer {
  readonly #connection: acp.ClientConnection
  readonly #treatment: Treatment
  readonly #sessions = new Map<string, AcpSession>()
  readonly #opening = new Map<string, Promise<AcpSession>>()
  readonly #lost = new Set<string>()
  readonly #terminals: Terminals
  readonly #gate = new Gate()
  /** Resolves when it is gone, with a sentence that says how. */
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
    const output = Writable.toWeb(running.stdin) as WritableStream<Uint8Array>
    this.#connection = app.connect(acp.ndJsonStream(output, gated(running.stdout, this.#gate)))
    this.gone = this.#end(running)
  }

  async #end(running: Running): Promise<string> {
    const { closed } = this.#connection
    await Promise.race([running.exited, closed])
    await Promise.race([closed, pause(DRAIN_MS)]) // what it said before it ended is still read
    this.#connection.close()
    await running.end(KILL_MS) // what does not speak to us any more must not go on working
    await this.#terminals.close()
    return running.exited
  }

  /** Says hello. Throws when the program does not answer as an agent does; then it is ended. */
  static async open(running: Running, treatment: Treatment): Promise<AcpAgent> {
    const agent = new AcpAgent(running, treatment)
    const { allowFs, allowTerminal, version } = treatment
    try {
      const hello = await within(
        INITIALIZE_MS,
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
        throw new Error(`it speaks version ${hello.protocolVersion} of ACP, the bridge version ${acp.PROTOCOL_VERSION}`)
      agent.#capabilities = hello.agentCapabilities ?? {}
      agent.#methods = (hello.authMethods ?? []).map((method) => method.name)
      return agent
    } catch (err) {
      const ended = agent.closed
      agent.#connection.close()
      const how = await agent.gone
      throw new Error(ended ? how : `it did not answer initialize: ${messageOf(err)}`, { cause: err })
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
   * Throws `SessionGone` when the agent does not have it, or cannot open sessions again.
   */
  async session(thread: string | null): Promise<AcpSession> {
    if (thread === null) return this.#new()
    if (this.#lost.has(thread)) throw new SessionGone('it did not stop when it was cancelled')
    const open = this.#sessions.get(thread)
    if (open && !this.#opening.has(thread)) {
      this.#sessions.delete(thread)
      this.#sessions.set(thread, open) // the last one used is the last to be closed
      return open
    }
    let opening = this.#opening.get(thread)
    if (!opening) {
      opening = this.#reopen(thread).finally(() => this.#opening.delete(thread))
      this.#opening.set(thread, opening)
    }
    return opening
  }

  abandon(id: string): void {
    this.#sessions.delete(id)
    this.#lost.add(id)
    if (this.#lost.size > 1000) this.#lost.delete(this.#lost.values().next().value!)
  }

  async #new(): Promise<AcpSession> {
    const { agent } = this.#connection
    const { sessionId } = await this.#opened(
      agent.request(acp.methods.agent.session.new, { cwd: this.#treatment.cwd, mcpServers: [] }),
    )
    return this.#keep(new AcpSession(this, sessionId))
  }

  async #reopen(sessionId: string): Promise<AcpSession> {
    const { loadSession, sessionCapabilities } = this.#capabilities
    const { agent } = this.#connection
    const params = { sessionId, cwd: this.#treatment.cwd, mcpServers: [] }
    if (sessionCapabilities?.resume) await this.#opened(agent.request(acp.methods.agent.session.resume, params))
    else if (loadSession) await this.#opened(agent.request(acp.methods.agent.session.load, params))
    else throw new SessionGone('the agent cannot open a session again')
    await tick() // the replay of its history came before the answer, and there was nobody to be told
    return this.#keep(new AcpSession(this, sessionId))
  }

  #keep(session: AcpSession): AcpSession {
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

  /** Tells apart what goes wrong when a session is opened. */
  async #opened<T>(answer: Promise<T>): Promise<T> {
    try {
      return await within(OPEN_MS, answer)
    } catch (err) {
      if (this.closed) throw err
      if (isGone(err)) throw new SessionGone(messageOf(err))
      throw err
    }
  }

  /** What an error of the agent means to the reader of a turn. */
  explain(err: unknown): { code: string; message: string } {
    if (err instanceof acp.RequestError && err.code === -32000) {
      const how = this.#methods.length > 0 ? ` (${this.#methods.join(', ')})` : ''
      return {
        code: 'agent_auth_required',
        message: `The agent wants a login${how}: log in once by hand with its own command, as the user of the bridge.`,
      }
    }
    return { code: 'agent_error', message: messageOf(err) }
  }
}

/** The error's own message, and its data, which often says more. */
export function messageOf(err: unknown): string {
  const { data } = Object(err) as { data?: unknown }
  const message = err instanceof Error ? err.message : String(err)
  return data === undefined ? message : `${message}: ${JSON.stringify(data)}`.slice(0, 4000)
}

const GONE = /not found|no such|unknown session|does not exist|doesn't exist|no rollout|expired/i

/** Whether an agent says that it does not have the session; any other trouble may pass. */
export const isGone = (err: unknown): boolean =>
  err instanceof acp.RequestError && (err.code === -32002 || GONE.test(messageOf(err)))
