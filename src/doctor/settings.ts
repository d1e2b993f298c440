import { isLoopback, type Config } from '../config.js'
import { fail, ok, warn, type Finding } from './finding.js'

/** An agent of our SDK that lost its connection needs up to 3 s to open the next, 6 s for its hello, and a pause. */
const COMING_BACK_MS = 10_000
/** Files that a replica has open beside its connections: Redis, logs, itself. */
const OTHER_FILES = 100

/** Settings that are each allowed and do not go together. */
export function checkSettings(config: Config): Finding[] {
  const { http, helix, core, store } = config
  const { policy } = core
  const findings: Finding[] = []
  const unless = (good: boolean, bad: Finding, found: string) => findings.push(good ? ok(bad.check, found) : bad)

  unless(
    !http.keyless,
    isLoopback(http.host) && isLoopback(http.opsHost)
      ? warn(
          'keys',
          `No keys are set: ${http.host} only, and whoever is on this machine may do everything.`,
          'Set CLIENT_KEYS and AGENT_KEYS.',
        )
      : fail(
          'keys',
          `No keys are set and ${isLoopback(http.host) ? http.opsHost : http.host} is reachable from outside.`,
          'Set CLIENT_KEYS and AGENT_KEYS, or HOST and OPS_HOST to 127.0.0.1.',
        ),
    'Clients and agents need keys.',
  )
  const helixMs = helix.readyMs + helix.quietMs
  unless(
    helixMs <= policy.agentSilentMs / 2,
    warn(
      'settings.helix',
      `A Helix agent may be waited for ${helixMs} ms after it came back, and AGENT_SILENT_MS is ${policy.agentSilentMs}: its turns fail before they are sent again.`,
      'Keep HELIX_READY_MS + HELIX_QUIET_MS below half of AGENT_SILENT_MS.',
    ),
    `HELIX_READY_MS + HELIX_QUIET_MS (${helixMs}) are well below AGENT_SILENT_MS (${policy.agentSilentMs}).`,
  )
  unless(
    store.agentGraceMs >= COMING_BACK_MS,
    warn(
      'settings.grace',
      `AGENT_GRACE_MS is ${store.agentGraceMs}: an agent whose connection broke may take ${COMING_BACK_MS} ms to be back, and its turn has failed by then.`,
      `Set AGENT_GRACE_MS to ${COMING_BACK_MS} or more.`,
    ),
    `AGENT_GRACE_MS (${store.agentGraceMs}) is enough to connect again.`,
  )
  unless(
    store.leaseTtlMs >= 2 * store.redisDeadlineMs,
    warn(
      'settings.lease',
      `LEASE_TTL_MS (${store.leaseTtlMs}) is less than twice REDIS_DEADLINE_MS (${store.redisDeadlineMs}): one slow answer of Redis costs a lease.`,
      'Raise LEASE_TTL_MS.',
    ),
    `LEASE_TTL_MS (${store.leaseTtlMs}) outlives a slow Redis.`,
  )
  const lossMs = store.leaseTtlMs + store.agentGraceMs
  unless(
    policy.staleAfterMs > lossMs,
    warn(
      'settings.loss',
      `A turn whose replica and agent die together is given to another after ${lossMs} ms (LEASE_TTL_MS + AGENT_GRACE_MS), and fails after ${policy.staleAfterMs} ms (STALE_AFTER_MS).`,
      'Raise STALE_AFTER_MS.',
    ),
    `A turn lives longer than the loss of its agent takes to be noticed (${lossMs} ms).`,
  )
  return findings
}

/** Whether this process, and so a replica started like it, may open as many files as it may have connections. */
export function checkFiles(config: Config, limits: string): Finding[] {
  const soft = /^Max open files\s+(\d+|unlimited)/m.exec(limits)?.[1]
  if (soft === undefined) return [] // not Linux
  const needed = config.http.connections.maxConnections + OTHER_FILES
  if (soft === 'unlimited' || Number(soft) >= needed)
    return [ok('nofile', `${soft} files may be open; ${needed} are needed at most.`)]
  return [
    warn(
      'nofile',
      `Only ${soft} files may be open here, and MAX_CONNECTIONS is ${config.http.connections.maxConnections}: connections beyond are refused by the system.`,
      `Raise the limit of the container or unit (LimitNOFILE=${needed}), or lower MAX_CONNECTIONS.`,
    ),
  ]
}
