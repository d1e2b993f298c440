import { span, type Admin, type AuditEntry, type Page } from '../admin.js'
import { isInteractionId, isSessionId } from '../protocol/ids.js'
import type { Status } from '../protocol/interaction.js'
import { done, EXIT_REFUSED, operate } from './operator.js'
import { fields, table } from './table.js'

/** The command was not understood. */
export const EXIT_USAGE = 2

export interface ListOptions {
  owner?: string
  pool?: string
  status?: string
  stuck?: boolean
  limit: number
  before?: string
  json?: boolean
}
export interface ShowOptions {
  json?: boolean
}
export interface ActOptions {
  as?: string
  reason?: string
}

export function listSessions({ status, json, ...query }: ListOptions): Promise<number> {
  return operate({}, async (admin) => {
    const page = await admin.sessions.list({ ...query, ...(status !== undefined && { active: status === 'active' }) })
    return print(
      page,
      json,
      ['SESSION', 'OWNER', 'POOL', 'STATUS', 'QUEUED', 'TURNS', 'AGENT', 'REPLICA', 'ACTIVE'],
      (it) => [
        ...[it.id, it.owner, it.pool, it.status, it.queued, it.turns, it.agent, it.replica],
        `${span(admin.now() - it.updatedAt)} ago`,
      ],
    )
  })
}

export function listInteractions({ status, json, ...query }: ListOptions): Promise<number> {
  return operate({}, async (admin) => {
    const page = await admin.interactions.list({ ...query, ...(status !== undefined && { status: status as Status }) })
    return print(
      page,
      json,
      ['INTERACTION', 'OWNER', 'POOL', 'STATUS', 'AGE', 'TRY', 'AGENT', 'REPLICA', 'WHERE IT HANGS'],
      (it) => [
        ...[it.id, it.owner, it.pool, it.stuck ? `${it.status}, stuck` : it.status, span(admin.now() - it.createdAt)],
        ...[it.attempt, it.agent, it.replica, it.why],
      ],
    )
  })
}

export function listAgents({ pool, json, limit, before }: ListOptions): Promise<number> {
  return operate({}, async (admin) => {
    const page = pageOf(await admin.agents.list(pool), (it) => `${it.pool}/${it.id}`, limit, before)
    return print(
      page,
      json,
      ['POOL', 'AGENT', 'STATE', 'BUSY', 'CAPACITY', 'TRANSPORT', 'REPLICA', 'CONNECTED FOR'],
      (it) => [
        ...[it.pool, it.id, it.draining ? 'draining' : it.capacity > it.busy ? 'free' : 'busy', it.busy, it.capacity],
        ...[it.transport, it.replica, span(admin.now() - it.since)],
      ],
    )
  })
}

export function listReplicas({ json, limit, before }: ListOptions): Promise<number> {
  return operate({}, async (admin) => {
    const page = pageOf(await admin.replicas.list(), (it) => it.id, limit, before)
    return print(page, json, ['REPLICA', 'STATE', 'VERSION', 'UP', 'AGENTS', 'SESSIONS', 'VIEWERS', 'BEAT'], (it) => [
      ...[it.id, it.draining ? 'draining' : 'ready', it.version, span(admin.now() - it.startedAt)],
      ...[it.agents, it.sessions, it.viewers, `${span(admin.now() - it.beatAt)} ago`],
    ])
  })
}

export function showSession(id: string, { json }: ShowOptions): Promise<number> {
  if (!isSessionId(id)) return usage(`"${id}" is not a session id (ses_…).`)
  return show(json, id, (admin) => admin.sessions.show(id))
}

export function showInteraction(id: string, { json }: ShowOptions): Promise<number> {
  if (!isInteractionId(id)) return usage(`"${id}" is not an interaction id (int_…).`)
  return show(json, id, (admin) => admin.interactions.show(id))
}

export const showAgent = (pool: string, agent: string, { json }: ShowOptions): Promise<number> =>
  show(json, `${pool}/${agent}`, (admin) => admin.agents.show(pool, agent))

export const showReplica = (id: string, { json }: ShowOptions): Promise<number> =>
  show(json, id, (admin) => admin.replicas.show(id))

export function deleteSession(id: string, options: ActOptions): Promise<number> {
  if (!isSessionId(id)) return usage(`"${id}" is not a session id (ses_…).`)
  return act(options, (admin) => admin.sessions.delete(id), 'The session is gone; what ran or waited is cancelled.')
}

/** Longest reason, characters. */
const MOST_REASON = 500

export function cancelInteraction(id: string, options: ActOptions): Promise<number> {
  if (!isInteractionId(id)) return usage(`"${id}" is not an interaction id (int_…).`)
  const { reason = 'cancelled by the operator' } = options
  if (reason.length > MOST_REASON) return usage(`--reason: at most ${MOST_REASON} characters.`)
  return act(options, (admin) => admin.interactions.cancel(id, reason), 'The turn is cancelled; its agent is told.')
}

export const disconnectAgent = (pool: string, agent: string, options: ActOptions): Promise<number> =>
  act(
    options,
    (admin) => admin.agents.disconnect(pool, agent),
    'Its connection is closed. It may come back at once, with the turns it has in hand; to keep it out, take its key away.',
  )

export const drainAgent = (pool: string, agent: string, options: ActOptions): Promise<number> =>
  act(
    options,
    (admin) => admin.agents.drain(pool, agent),
    'It takes nothing new; when what it has in hand is done it is told to connect again, and then it takes turns anew.',
  )

export const drainReplica = (id: string, options: ActOptions): Promise<number> =>
  act(
    options,
    (admin) => admin.replicas.drain(id),
    'It is leaving, as by SIGTERM, and its process ends. Kubernetes starts its container again; to have fewer replicas, scale the deployment.',
  )

function print<Row>(
  page: Page<Row>,
  json: boolean | undefined,
  heading: string[],
  cells: (row: Row) => unknown[],
): number {
  if (json) for (const row of page.rows) console.log(JSON.stringify(row))
  else if (page.rows.length > 0) console.log(table([heading, ...page.rows.map(cells)]))
  if (!json && page.rows.length === 0) console.error('None.')
  if (page.next !== null) console.error(`There are more: --before ${page.next}`)
  return 0
}

function pageOf<Row>(all: Row[], name: (row: Row) => string, limit: number, before: string | undefined): Page<Row> {
  const from = before === undefined ? 0 : all.findIndex((row) => name(row) > before)
  const rows = from < 0 ? [] : all.slice(from, from + limit)
  return { rows, next: from >= 0 && from + limit < all.length ? name(rows.at(-1)!) : null }
}

function show(
  json: boolean | undefined,
  id: string,
  look: (admin: Admin) => Promise<object | undefined>,
): Promise<number> {
  return operate({}, async (admin) => {
    const it = await look(admin)
    if (!it) return refuse(`${id}: there is nothing of this name. It may have expired, or left.`)
    console.log(json ? JSON.stringify(it) : fields(it))
    return 0
  })
}

const WHY: Record<string, string> = {
  not_found: 'There is nothing of this name. It may have expired, or left.',
  already_ended: 'The turn has ended already, and stays as it is.',
  asked:
    'It is asked for, and whoever has it has not confirmed it within 10 s. It is done as soon as that replica looks; if it does not live any more, what it had fades within half a minute.',
}

function act({ as }: ActOptions, work: (admin: Admin) => Promise<AuditEntry>, said: string): Promise<number> {
  return operate(as === undefined ? {} : { as }, async (admin) => {
    const entry = await work(admin)
    console.error(entry.outcome === 'done' ? said : (WHY[entry.outcome] ?? entry.outcome))
    return done(entry)
  })
}

function refuse(sentence: string): number {
  console.error(sentence)
  return EXIT_REFUSED
}

async function usage(sentence: string): Promise<number> {
  console.error(sentence)
  return EXIT_USAGE
}
