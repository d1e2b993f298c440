import { readFileSync } from 'node:fs'
import type { SessionId } from '../protocol/ids.js'
import type { Keys } from './keys.js'
import type { Connection, Database } from './redis.js'

const SESSION_SCRIPTS = [
  'submit',
  'begin',
  'attach',
  'renew',
  'release',
  'dispatch',
  'append',
  'answer',
  'forget_thread',
  'cancel',
  'rename',
  'expire',
  'pending',
  'seal',
  'remove',
  'forget',
  'describe',
] as const
/** Scripts of no session, and how many keys each declares. */
const OTHER_SCRIPTS = { pend: 4, claim: 4, present: 2, absent: 2, occupy: 1, used: 1 } as const
export type ScriptName = (typeof SESSION_SCRIPTS)[number]

type Answer = (string | number)[]
type Command = (...args: (string | number)[]) => Promise<Answer>

const lua = (name: string) => readFileSync(new URL(`./lua/${name}.lua`, import.meta.url), 'utf8')

/**
 * Registers `lua/*.lua` on a connection and calls them by name. Scripts reload by themselves after a Redis restart
 * (EVALSHA falls back to EVAL).
 */
export class Scripts {
  readonly #db: Database
  readonly #keys: Keys
  readonly #ttl: { sessionTtlMs: number; resumeWindowMs: number }

  constructor(connection: Connection, db: Database, keys: Keys, ttl: { sessionTtlMs: number; resumeWindowMs: number }) {
    this.#db = db
    this.#keys = keys
    this.#ttl = ttl
    const prelude = lua('_prelude')
    for (const name of SESSION_SCRIPTS)
      connection.defineCommand(command(name), { numberOfKeys: 1, lua: `${prelude}\n${lua(name)}` })
    for (const [name, numberOfKeys] of Object.entries(OTHER_SCRIPTS))
      connection.defineCommand(command(name), { numberOfKeys, lua: lua(name) })
  }

  /** Runs a script of a session; `args` are its own arguments, from ARGV[3] on. First of the answer is its word. */
  run(name: ScriptName, session: SessionId, args: (string | number)[]): Promise<Answer> {
    return this.#db.run(
      (redis) =>
        (redis as unknown as Record<string, Command>)[command(name)]!(
          this.#keys.session(session),
          this.#ttl.sessionTtlMs,
          this.#ttl.resumeWindowMs,
          ...args,
        ),
      name,
    )
  }

  /** Runs a script of a pool, of an owner, or of an API key. */
  over(name: keyof typeof OTHER_SCRIPTS, keys: string[], args: (string | number)[]): Promise<Answer> {
    return this.#db.run(
      (redis) => (redis as unknown as Record<string, Command>)[command(name)]!(...keys, ...args),
      name,
    )
  }
}

const command = (name: string) => `throughline_${name}`
