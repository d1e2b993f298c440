import { createHash } from 'node:crypto'
import { sessionOf, type InteractionId, type SessionId } from '../protocol/ids.js'

/** Shards of the deadline index; enough to spread it over any small cluster. */
export const DEADLINE_SHARDS = 16

/**
 * Every key and channel name. A session's keys share the tag `{ses_…}`, a pool's `{pool:…}`; one script, one slot.
 * What depends on text from outside (owners, Idempotency-Keys) is named by its SHA-256.
 */
export function keysOf(prefix: string) {
  const sessionBase = (session: SessionId) => `${prefix}{${session}}:`
  const poolBase = (pool: string) => `${prefix}{pool:${pool}}:`
  const ownerBase = (owner: string) => `${prefix}{owner:${digest(owner)}}:`
  return {
    prefix,
    session: (session: SessionId) => `${sessionBase(session)}session`,
    queue: (session: SessionId) => `${sessionBase(session)}queue`,
    lease: (session: SessionId) => `${sessionBase(session)}lease`,
    interactions: (session: SessionId) => `${sessionBase(session)}interactions`,
    runs: (session: SessionId) => `${sessionBase(session)}runs`,
    overheard: (session: SessionId) => `${sessionBase(session)}overheard`,
    interaction: (id: InteractionId) => `${sessionBase(sessionOf(id))}interaction:${id}`,
    log: (id: InteractionId) => `${sessionBase(sessionOf(id))}log:${id}`,
    /** Channel: every batch that is appended to a log of the session. */
    live: (session: SessionId) => `${sessionBase(session)}live`,
    /** Channel: look at this session, whoever holds its agent. */
    wake: (session: SessionId) => `${sessionBase(session)}wake`,

    pending: (pool: string) => `${poolBase(pool)}pending`,
    pendingFor: (pool: string, agent: string) => `${poolBase(pool)}pending:${agent}`,
    /** Channel: a session of the pool needs an agent. */
    poolWake: (pool: string) => `${poolBase(pool)}wake`,
    agent: (pool: string, agent: string) => `${poolBase(pool)}agent:${agent}`,
    agents: (pool: string) => `${poolBase(pool)}agents`,
    agentSessions: (pool: string, agent: string) => `${poolBase(pool)}sessions:${agent}`,
    pools: `${prefix}pools`,

    thread: (pool: string, thread: string) => `${prefix}thread:${digest(`${pool}\n${thread}`)}`,
    deadlines: (shard: number) => `${prefix}{deadlines:${shard}}:due`,
    deadlineShard: (session: SessionId) => Number.parseInt(digest(session).slice(0, 4), 16) % DEADLINE_SHARDS,
    /** All sessions by their last activity, and turns that have ended, in the shards of the deadlines. */
    recent: (shard: number) => `${prefix}{deadlines:${shard}}:sessions`,
    ended: (shard: number) => `${prefix}{deadlines:${shard}}:ended`,
    sweep: `${prefix}sweep`,
    sweepLock: `${prefix}sweep:lock`,
    /** What operators did. */
    audit: `${prefix}{audit}:trail`,
    /** Channel: there is an act that no replica has told yet. */
    auditWake: `${prefix}{audit}:wake`,
    /** BullMQ's own prefix; braces keep its keys in one slot. */
    bullmq: `{${prefix}bullmq}`,

    replica: (replica: string) => `${prefix}replica:${replica}`,
    replicas: `${prefix}replicas`,
    /** Channel: a replica hears itself here, so it knows that the bus delivers. */
    probe: (replica: string) => `${prefix}{probe:${replica}}`,
    /** Channel: an operator asks something of this replica. */
    replicaWake: (replica: string) => `${prefix}{replica:${replica}}:wake`,
    /** Channel prefix of the Socket.IO adapter. */
    sockets: `${prefix}sockets`,

    apiKey: (id: string) => `${prefix}{keys}:key:${id}`,
    apiKeys: `${prefix}{keys}:all`,
    /** Channel: the id of an API key that is gone. */
    keysRevoked: `${prefix}{keys}:revoked`,

    ownerSessions: (owner: string) => `${ownerBase(owner)}sessions`,
    once: (owner: string, name: string) => `${ownerBase(owner)}once:${digest(name)}`,
  }
}
export type Keys = ReturnType<typeof keysOf>

export const digest = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 32)
