import { newSessionId } from '../../src/core/mint.js'
import { fields, table } from '../../src/cli/table.js'
import { post } from '../support/client.js'
import { startNetwork } from '../support/network.js'
import { operator } from '../support/operator.js'

test('lists, shows and acts at the command line, with exit codes 0, 1 and 2', async () => {
  await using net = await startNetwork({ env: { SWEEP_EVERY_MS: '300' } })
  const { session, interaction } = await post(net.url(0), { pool: 'coder' }, 'hello')
  const list = await operator(net, ['sessions', 'list'])
  expect(list).toMatchObject({ code: 0, stderr: '' })
  expect(list.stdout.split('\n')[1]).toMatch(new RegExp(`^${session}  \\S+ +coder  waiting`))
  const show = await operator(net, ['interactions', 'show', interaction])
  expect(show.stdout).toMatch(/why: .*no agent of the pool is connected: start one\./)

  const cancelled = await operator(net, ['interactions', 'cancel', interaction, '--as', 'ann', '--reason', 'drill'])
  expect(cancelled.code).toBe(0)
  expect(JSON.parse(cancelled.stderr.trim().split('\n').at(-1)!)).toMatchObject({
    audit: { act: 'interaction.cancelled', target: interaction, by: 'ann', outcome: 'done', detail: 'drill' },
  })
  expect((await operator(net, ['sessions', 'delete', newSessionId()])).code).toBe(1)
  expect((await operator(net, ['sessions', 'show', 'ses_x'])).code).toBe(2)
  expect((await operator(net, ['agents', 'drain', 'coder'])).code).toBe(2)
}, 60_000)

test('a table cuts no id, and what clients named cannot forge a line or move the cursor', () => {
  const id = `ses_${'0'.repeat(26)}`
  expect(
    table([
      ['ID', 'TITLE'],
      [id, 'a\nb\u001b[2J'],
      ['x', ''],
    ]).split('\n'),
  ).toEqual([`ID${' '.repeat(28)}  TITLE`, `${id}  a?b?[2J`, `x${' '.repeat(29)}  -`])
  expect(fields({ id: 'x', createdAt: 0, since: 1000, list: [], deep: { a: 1 } })).toBe(
    'id: x\ncreatedAt: -\nsince: 1970-01-01T00:00:01.000Z\nlist: -\ndeep:\n  a: 1',
  )
})
