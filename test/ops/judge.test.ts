import { post } from '../support/client.js'
import { eventually } from '../support/eventually.js'
import { startNetwork } from '../support/network.js'
import { completed, text } from '../support/raw-agent.js'
import { ask, piecesOf } from './answer.js'
import { judge } from './judge.js'
import { nothingRead, type Message } from './message.js'

test('the judge finds each fault that is planted, and none where there is none', async () => {
  await using net = await startNetwork()
  const agent = await net.rawAgent({ pool: 'coder', capacity: 10 })
  const url = net.url(0)

  /** A message that is answered like this, and what its reader makes of it. */
  async function answered(name: string, pieces: (right: string[]) => string[], read?: string): Promise<Message> {
    const input = ask(name, 4)
    const accepted = await post(url, { pool: 'coder' }, input)
    const { request } = await eventually(
      () => agent.turns.find((it) => it.interaction === accepted.interaction) ?? false,
    )
    const said = pieces(piecesOf(input))
    agent.send(request, 1, ...said.map((piece) => text(piece)), completed)
    await agent.acked(request, said.length + 1)
    const reads = [{ ...nothingRead(), text: read ?? said.join('') }]
    return { kind: 'native', key: '', input, idempotencyKey: name, accepted, reads }
  }

  const right = await answered('right', (it) => it)
  const messages = [
    right,
    await answered('hole', (it) => it.toSpliced(1, 1)),
    await answered('twice', (it) => [...it, it[0]!]),
    await answered('foreign', (it) => [...it, piecesOf(right.input)[0]!]),
    await answered('misread', (it) => it, 'misread:0 '),
    await answered('run-twice', (it) => it),
    {
      ...right,
      input: ask('unknown', 4),
      accepted: { ...right.accepted!, interaction: right.accepted!.interaction.replace(/.{4}$/, '0000') as never },
    },
    { ...right, input: ask('given-up', 4), accepted: undefined as never, givenUp: 'no answer', reads: [] },
  ]
  await post(url, { pool: 'coder' }, right.input) // nobody asked for this one

  const inputs = messages.map(({ input }) => input)
  const verdict = await judge(url, messages, [...inputs, ask('run-twice', 4)])
  expect(verdict).toMatchObject({ messages: 8, exact: 0, lost: 3, doubled: 3, failed: 1, wrongReader: 1 })
  const [clean] = messages.slice(5)
  expect(await judge(url, [clean!], inputs)).toMatchObject({ exact: 1, wrong: [], readers: 1, exactReaders: 1 })
})
