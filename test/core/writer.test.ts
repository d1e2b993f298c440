import { openAdmin } from '../../src/admin.js'
import { readConfig } from '../../src/config.js'
import { Writer } from '../../src/core/writer.js'
import { api, post } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { text } from '../support/raw-agent.js'

test('what an agent says in the very step in which its last words were acknowledged goes into the log at once', async () => {
  await using net = await startNetwork()
  await using admin = await openAdmin(readConfig({ REDIS_URL: net.redisUrl, KEY_PREFIX: net.prefix }), 'test', 'ann')
  const { store } = admin.parts
  const { session, interaction } = await post(net.url(0), { pool: 'coder' }, 'go')
  const by = { agent: 'a', connection: 'c', replica: 'r', transport: 'socket.io' as const, since: Date.now() }
  const lease = await store.leases.attach(session, by, { incarnation: 'i1' })
  if (lease.word !== 'ok') throw new Error(lease.word)
  const { epoch } = lease
  const given = { epoch, holding: '' as const, maxAttempts: 3, onAgentLoss: 'fail' as const }
  const turn = await store.turns.dispatch(session, { ...given, agent: 'a', run: '' })
  if (turn.word !== 'turn') throw new Error(turn.word)

  const STEPS = 10
  const unexpected = (): never => {
    throw new Error('not expected')
  }
  const writer = new Writer(
    admin.parts,
    { request: turn.request, pool: 'coder', after: 0, epoch: () => epoch },
    {
      acked: (after) => void sayOn(after),
      resend: unexpected,
      finished: unexpected,
      again: unexpected,
      refused: unexpected,
    },
  )
  async function sayOn(after: number): Promise<void> {
    for (let step = 0; step < after; step++) await Promise.resolve() // one step later each time
    if (after < STEPS) writer.push(after + 1, [text(String(after))])
  }
  writer.push(1, [text('0')])
  await eventually(async () => {
    const { body } = await api<{ text: string }>(net.url(0), `/interactions/${interaction}`)
    expect(body.text).toBe('0123456789')
  })
})
