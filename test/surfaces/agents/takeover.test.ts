import { post } from '../../support/client.js'
import { eventually } from '../../support/eventually.js'
import { startNetwork } from '../../support/network.js'
import { text } from '../../support/raw-agent.js'

test('an agent that moves in mid-answer is told nothing on its old connection but that the newer one has its turns', async () => {
  await using net = await startNetwork({ replicas: 2 })
  const old = await net.rawAgent({ pool: 'coder', replica: 0, agent: 'a', capacity: 30 })
  for (let i = 0; i < 30; i++) await post(net.url(0), { pool: 'coder' }, `${i}`)
  await eventually(() => old.turns.length === 30, { limitMs: 15_000 })
  let said = 0
  const saying = setInterval(() => {
    said++
    for (const { request } of old.turns) old.send(request, said, text('x'))
  }, 1)
  try {
    await eventually(() => old.acks.length > 30)
    const holding = old.turns.map(({ session, request }) => ({ session, request, acked: 0 }))
    const next = await net.rawAgent({ pool: 'coder', replica: 1, agent: 'a', capacity: 30, holding })
    await eventually(() => !old.socket.connected)
    expect(next.welcome).toMatchObject({ ok: true, ended: [] })
  } finally {
    clearInterval(saying)
  }
  expect(old.cancels.filter(({ reason }) => reason !== 'superseded')).toEqual([])
})
