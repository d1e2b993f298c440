// A whole agent. From a clone: `npm ci && npm start`, and in another terminal `npx tsx examples/minimal-agent.ts`.
// Then talk to it: curl -N http://127.0.0.1:8080/api/v1/messages -H 'content-type: application/json' \
//   -d '{"pool":"echo","text":"Hello there","stream":true}'
import { serve } from 'throughline/agent'

const url = process.env.THROUGHLINE_URL ?? 'http://127.0.0.1:8080'
const agent = serve({ url, pool: 'echo', key: process.env.THROUGHLINE_AGENT_KEY, capacity: 4 }, async (turn) => {
  const tool = await turn.toolCall({ name: 'Count the words' })
  const words = turn.input.split(/\s+/)
  await tool.append(`${words.length}`)
  await tool.done()
  for (const word of words) await turn.text(`${word} `) // waits while the gateway is behind
})

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void agent.close())
await agent.closed
