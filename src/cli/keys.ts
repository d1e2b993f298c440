import { mintKey } from '../auth/mint-key.js'
import { readConfig } from '../config.js'
import { PoolName } from '../protocol/agent-wire.js'
import { isKeyId, isOwner, keyIdIn, MAX_OWNER, type ApiKey } from '../protocol/api-key.js'
import { EXIT_USAGE } from './operate.js'
import { done, operate } from './operator.js'
import { table } from './table.js'

const UNITS: Record<string, number> = { m: 60_000, h: 3600_000, d: 24 * 3600_000 }
/** Every key expires: ten years are the most. */
const MOST_MS = 3650 * UNITS['d']!
const MOST_POOLS = 100
const MOST_NAME = 100

export interface NewKey {
  owner?: string
  pool?: string[]
  name: string
  /** `90d`, `12h`, `30m`. */
  expires: string
  json?: boolean
  as?: string
}

interface Asked {
  owner: string | undefined
  pools: string[]
  name: string
  ttlMs: number | undefined
}

/** `throughline keys create`: makes a key and prints it, this once. Gives the exit code. */
export async function createKey({ owner, pool: pools = [], name, expires, json, as }: NewKey): Promise<number> {
  const ttlMs = durationOf(expires)
  const wrong = mistakeIn({ owner, pools, name, ttlMs })
  if (wrong !== undefined) return refuse(wrong)
  return operate(as === undefined ? {} : { as }, async ({ act, parts }) => {
    const { id, text, hash } = mintKey()
    const createdAt = await parts.store.replicas.now()
    const key: ApiKey = {
      id,
      kind: owner === undefined ? 'agent' : 'client',
      owner: owner ?? '',
      pools,
      name,
      createdAt,
      expiresAt: createdAt + ttlMs!,
      usedOn: '',
    }
    const detail = `${whoseIs(key)} until ${dayOf(key.expiresAt)}${name && ` (${name})`}`
    const entry = await act(
      'key.created',
      id,
      async () => ((await parts.store.apiKeys.add({ ...key, hash })) ? 'done' : 'too_many_keys'),
      detail,
    )
    if (entry.outcome !== 'done') {
      console.error('There are too many keys. Revoke some: throughline keys list')
      return done(entry)
    }
    console.log(json ? JSON.stringify({ key: text, ...shown(key) }) : text)
    console.error(`Key ${id}: ${detail}. It is shown this once: only its hash is kept.`)
    if (!readConfig().http.keyStore) console.error('Replicas accept it when they are started with KEY_STORE=on.')
    return done(entry)
  })
}

/** `throughline keys list`: every key, the first to expire first; never a secret. Gives the exit code. */
export function listKeys({ json }: { json?: boolean }): Promise<number> {
  return operate({}, async ({ parts }) => {
    const keys = await parts.store.apiKeys.list(await parts.store.replicas.now())
    if (json) for (const key of keys) console.log(JSON.stringify(shown(key)))
    else if (keys.length === 0) console.error('There are no stored keys. throughline keys create makes one.')
    else console.log(table([HEADING, ...keys.map(rowOf)]))
    return 0
  })
}

/** `throughline keys revoke`: a key, by its id or its text, opens nothing any more. Gives the exit code. */
export async function revokeKey(given: string, { as }: { as?: string }): Promise<number> {
  const id = keyIdIn(given) ?? given
  if (!isKeyId(id))
    return refuse('That is neither the id of a key (ten characters, see: throughline keys list) nor a key.')
  return operate(as === undefined ? {} : { as }, async ({ act, parts }) => {
    let was: ApiKey | undefined
    const entry = await act('key.revoked', id, async () =>
      (was = await parts.store.apiKeys.revoke(id)) ? 'done' : 'not_found',
    )
    console.error(was ? `Revoked ${id}: ${whoseIs(was)}${was.name && ` (${was.name})`}.` : `There is no key ${id}.`)
    return done(entry)
  })
}

/** What is wrong with a key that is asked for, in a sentence. */
export function mistakeIn({ owner, pools, name, ttlMs }: Asked): string | undefined {
  if ((owner === undefined) === (pools.length === 0))
    return 'Say whose key it is: --owner NAME for a client, or --pool NAME (as often as you like, * for any) for agents.'
  if (owner !== undefined && !isOwner(owner))
    return `--owner: 1 to ${MAX_OWNER} printable characters, no blank at the ends.`
  if (pools.length > MOST_POOLS) return `--pool: at most ${MOST_POOLS}.`
  const bad = pools.find((pool) => pool !== '*' && !PoolName.safeParse(pool).success)
  if (bad !== undefined) return `--pool: "${bad}" is not the name of a pool, nor *.`
  if (name !== '' && (!isOwner(name) || name.length > MOST_NAME))
    return `--name: at most ${MOST_NAME} printable characters.`
  if (ttlMs === undefined || ttlMs < UNITS['m']! || ttlMs > MOST_MS)
    return '--expires: minutes, hours or days, such as 30m, 12h or 90d; from 1m to 3650d.'
  return undefined
}

function refuse(sentence: string): number {
  console.error(sentence)
  return EXIT_USAGE
}

/** `90d` → ms; undefined for what is no duration. */
export function durationOf(text: string): number | undefined {
  const match = /^(\d{1,7})([mhd])$/.exec(text)
  return match ? Number(match[1]) * UNITS[match[2]!]! : undefined
}

const whoseIs = ({ kind, owner, pools }: ApiKey): string =>
  kind === 'client' ? `client ${owner}` : `agents of ${pools.join(', ')}`

const dayOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10)

/** What may be seen of a key, wherever it came from: no hash. */
const shown = ({ id, kind, owner, pools, name, createdAt, expiresAt, usedOn }: ApiKey) => ({
  id,
  kind,
  ...(kind === 'client' ? { owner } : { pools }),
  name,
  createdAt,
  expiresAt,
  usedOn: usedOn || null,
})

const HEADING = ['KEY', 'KIND', 'OWNER OR POOLS', 'NAME', 'CREATED', 'EXPIRES', 'LAST USED']
const rowOf = (key: ApiKey) => [
  ...[key.id, key.kind, key.kind === 'client' ? key.owner : key.pools.join(','), key.name],
  ...[dayOf(key.createdAt), dayOf(key.expiresAt), key.usedOn],
]
