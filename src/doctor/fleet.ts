import type { Admin } from '../admin.js'
import { knownPools } from '../core/sessions.js'
import { fail, ok, warn, type Finding } from './finding.js'

/** A message on the bus arrives within this time, or it does not, ms. */
const BUS_MS = 3000
const SKEW_MS = 2000
/** Stuck turns that are named. */
const NAMED = 5

/** Replicas, sweep, bus, turns and pools, as Redis knows them. `version` is this program's. */
export async function checkFleet(admin: Admin, version: string): Promise<Finding[]> {
  const { store, settings, clock } = admin.parts
  const replicas = await admin.replicas.list()
  const findings =
    replicas.length === 0
      ? [warn('replicas', 'no replica is here.', 'Start one: throughline serve. Is KEY_PREFIX that of the replicas?')]
      : [
          ok(
            'replicas',
            `${replicas.length}: ${replicas.map((it) => it.id + (it.draining ? ' (draining)' : '')).join(', ')}`,
          ),
        ]
  const versions = [...new Set([...replicas.map((it) => it.version), version])]
  if (replicas.length > 0)
    findings.push(
      versions.length === 1
        ? ok('versions', `all are ${version}, and so is this program.`)
        : warn(
            'versions',
            `replicas and this program have versions ${versions.sort().join(', ')}.`,
            'An upgrade under way comes to its end; else roll the deployment again.',
          ),
    )
  for (const { id, clockAheadMs } of replicas.filter((it) => Math.abs(it.clockAheadMs) > SKEW_MS))
    findings.push(
      warn(
        'clock',
        `replica ${id} is ${Math.abs(clockAheadMs)} ms ${clockAheadMs > 0 ? 'ahead of' : 'behind'} Redis: tokens are taken for expired or not yet valid.`,
        'Set the clock of its machine by NTP.',
      ),
    )

  const { last } = await store.replicas.sweepNotes()
  const age = clock.now() - last
  const cure = 'Look for "store_unavailable" and "bug" in the logs of the replicas.'
  if (last === 0) findings.push(warn('sweep', 'no sweep has run yet.', replicas.length > 0 ? cure : 'Start a replica.'))
  else if (age > 6 * settings.sweepEveryMs)
    findings.push(
      fail(
        'sweep',
        `the last sweep was ${Math.round(age / 1000)} s ago: nobody ends stuck turns.`,
        replicas.length > 0 ? cure : 'Start a replica.',
      ),
    )
  else findings.push(ok('sweep', `the last one was ${Math.round(age / 1000)} s ago.`))
  findings.push(await checkBus(admin))

  const { rows, next } = await admin.interactions.list({ stuck: true, limit: 200 })
  findings.push(
    rows.length === 0
      ? ok('turns', 'none is stuck.')
      : warn(
          'turns',
          `${next === null ? rows.length : 'more than 200'} turns are past their deadline: ${rows
            .slice(0, NAMED)
            .map((it) => it.id)
            .join(', ')}${rows.length > NAMED ? ', …' : ''}.`,
          'throughline interactions list --stuck says of each where it hangs.',
        ),
  )
  for (const { name } of await knownPools(admin.parts)) {
    const [waiting, agents] = await Promise.all([
      store.pools.pendingCount(name),
      store.pools.agentCount(name, clock.now()),
    ])
    if (waiting > 0 && agents === 0)
      findings.push(
        warn(
          'pools',
          `${waiting} session(s) wait for pool ${name}, and none of its agents is connected.`,
          'Start agents of it. They run: is the pool in their key (AGENT_KEYS), is their URL right?',
        ),
      )
  }
  if (!findings.some((it) => it.check === 'pools'))
    findings.push(ok('pools', 'nobody waits for a pool without agents.'))
  return findings
}

/** Publishes, and waits to hear it. */
async function checkBus({ parts: { store, settings } }: Admin): Promise<Finding> {
  const cure =
    'Redis answers and its pub/sub does not deliver: restart it, or the proxy in front of it; a proxy must pass SSUBSCRIBE.'
  const channel = store.keys.probe(settings.replica)
  let heard = () => {}
  const answer = new Promise<boolean>((resolve) => {
    heard = () => resolve(true)
    setTimeout(() => resolve(false), BUS_MS).unref()
  })
  try {
    using _ = await store.bus.listen(channel, { message: () => heard(), look: () => {} })
    const sent = Date.now()
    await store.db.run((redis) => redis.spublish(channel, ''))
    if (await answer) return ok('bus', `a message came through in ${Date.now() - sent} ms.`)
    return fail('bus', `a message was published and not heard within ${BUS_MS} ms.`, cure)
  } catch (err) {
    return fail('bus', `cannot subscribe: ${(err as Error).message}`, cure)
  }
}
