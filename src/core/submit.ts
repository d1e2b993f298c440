import { ThroughlineError } from '../protocol/errors.js'
import { isSessionId } from '../protocol/ids.js'
import type { SubmitRefusal } from '../store/sessions.js'
import type { NewMessage, Submitted } from './core.js'
import { expectAgain, reserve } from './idempotency.js'
import { newInteractionId, newSessionId } from './mint.js'
import { nudge } from './nudge.js'
import { LOOK_SOON_MS, type Parts } from './parts.js'
import { policyOf } from './policy.js'
import { createSession, ownedSession, requirePool } from './sessions.js'

/** Message in: recognise a repetition, store it, start or queue it, wake whoever must look. */
export async function submit(parts: Parts, owner: string, message: NewMessage): Promise<Submitted> {
  const { store, settings, clock, observe } = parts
  const { to, webhook } = message
  checkWebhook(parts, owner, webhook)
  const known = 'session' in to ? await ownedSession(parts, owner, to.session) : undefined
  if (known?.pool === '' && to.pool !== undefined) await requirePool(parts, to.pool)
  const policy = policyOf(settings, known?.pool || (to.pool ?? ''))
  const session = 'session' in to ? to.session : newSessionId()
  const { ids, reserved, refused } = await reserve(parts, owner, message.once, {
    session,
    interaction: newInteractionId(session),
  })
  if (!isSessionId(ids.session)) throw new ThroughlineError('internal')
  if (!('session' in to)) {
    await createSession(parts, owner, {
      id: ids.session,
      pool: to.pool,
      title: to.title ?? '',
      metadata: to.metadata ?? {},
    })
  }
  // the deadline first: a crash in between leaves a line that the sweep finds idle
  const now = clock.now()
  const lookAtMs = now + Math.min(LOOK_SOON_MS, policy.agentWaitMs, policy.staleAfterMs)
  await store.deadlines.enlist(ids.interaction, lookAtMs, now)
  const answer = await store.sessions.submit({
    interaction: ids.interaction,
    session: ids.session,
    input: message.text,
    metadata: message.metadata ?? {},
    interrupt: message.interrupt === 'threaded' ? 'threaded' : message.interrupt ? 'now' : '',
    queueLimit: policy.queueLimit,
    historyLimit: settings.historyLimit,
    ...(message.note !== undefined && { note: message.note }),
    ...(message.ephemeral && { ephemeral: true }),
    ...(to.pool !== undefined && { pool: to.pool }),
    ...(message.follows && { follows: message.follows }),
    ...(webhook !== undefined && { webhook }),
    ...(message.trail && { trail: message.trail }),
  })
  if (!('position' in answer)) {
    await refused()
    throw refusal(answer)
  }
  if (answer.word !== 'known') {
    if (message.trail) observe.trails.note(ids.interaction, message.trail)
    observe.messageAccepted({
      session: ids.session,
      interaction: ids.interaction,
      pool: answer.pool,
      queued: answer.position,
    })
  }
  if (answer.interrupted) await store.deadlines.look(answer.interrupted, clock.now(), 'sooner') // to be sealed
  if (answer.holder === '' && answer.position === 0) await nudge(parts, ids.session)
  try {
    await store.durability.message(owner, ids.interaction, { lookAtMs, newSession: !('session' in to), reserved })
  } catch (err) {
    if (message.once) await expectAgain(parts, owner, message.once, ids).catch(() => {}) // it is stored, and runs
    throw err
  }
  return {
    session: ids.session,
    interaction: ids.interaction,
    queued: answer.position,
    replayed: answer.word === 'known',
    pool: answer.pool,
    createdAt: answer.createdAt,
  }
}

function refusal(answer: SubmitRefusal): ThroughlineError {
  switch (answer.word) {
    case 'gone':
      return new ThroughlineError('not_found')
    case 'full':
      return new ThroughlineError('queue_full')
    case 'moved':
      return new ThroughlineError('session_moved_on')
    case 'other':
      return new ThroughlineError('invalid_request', {
        message: answer.pool
          ? `This session belongs to "${answer.pool}".`
          : 'This session has no pool yet: its first message must name one.',
        param: 'pool',
      })
  }
}

/** Throws `invalid_request` for an address that may not be posted to. */
export function checkWebhook({ outbound }: Pick<Parts, 'outbound'>, owner: string, url: string | undefined): void {
  const reason = url === undefined ? undefined : outbound.refusal(owner, url)
  if (reason) throw new ThroughlineError('invalid_request', { message: `webhook.url: ${reason}`, param: 'webhook.url' })
}
